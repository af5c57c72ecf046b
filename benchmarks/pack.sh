#!/bin/sh
# Packs what a machine with one GPU, without network, Rust or CUDA toolkit, needs to measure hiosc:
#   benchmarks/pack.sh FOLDER_OF_MODELS TARGET_FOLDER
# FOLDER_OF_MODELS holds NAME.onnx (with NAME.weights) and NAME.ref.npz. $HIOSC_NVRTC names the
# libnvrtc.so.12 to include (in the PyPI package nvidia-cuda-nvrtc-cu12 it is one file beside its
# libnvrtc-builtins). Without it, the other machine needs its own NVRTC, such as PyTorch's.
set -eu
[ $# = 2 ] || { sed -n 2,6p "$0"; exit 2; }
here=$(cd "$(dirname "$0")" && pwd)
models=$(cd "$1" && pwd)
mkdir -p "$2/models" "$2/nvrtc"
target=$(cd "$2" && pwd)
cargo build --release --manifest-path "$here/../Cargo.toml"
cp "${CARGO_TARGET_DIR:-$here/../target}/release/hiosc" "$target/"
cp "$here/run.sh" "$here/compare.py" "$here/summary.py" "$target/"
cp -L "$models"/*.onnx "$models"/*.weights "$models"/*.ref.npz "$target/models/" 2>/dev/null || true
if [ -n "${HIOSC_NVRTC:-}" ]; then cp -L "$(dirname "$HIOSC_NVRTC")"/libnvrtc*.so* "$target/nvrtc/"; fi
echo "packed $target: copy it to the machine with the GPU, and run ./run.sh there"
