#!/usr/bin/env bash
# The peak memory of `hiosc MODEL --no-check`, for models whose weights dominate:
#
#   benchmarks/peak_memory.sh [MEGABYTES] [KIND...]
#
# Makes a model of each kind (benchmarks/large_model.py lists them) with weights of so many
# megabytes, 600 if not given, and compiles it with the program of this checkout, or with $HIOSC.
# Prints the size of the model, the peak resident set, and their ratio, which is to be at most 1.5.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
megabytes=${1:-600}
shift || true
[ $# -gt 0 ] || set -- products external floats half gemm transposed constants one convolutions
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

for kind in "$@"; do
  rm -rf "${scratch:?}"/*
  python3 "$here/large_model.py" "$kind" "$megabytes" "$scratch/model.onnx"
  python3 - "$kind" "$scratch" "${HIOSC:-$here/../target/release/hiosc}" <<'PYTHON'
import glob, os, resource, subprocess, sys, time

kind, folder, hiosc = sys.argv[1:]
size = sum(os.path.getsize(file) for file in glob.glob(f"{folder}/model.onnx*"))
start = time.monotonic()
subprocess.run([hiosc, f"{folder}/model.onnx", "-o", f"{folder}/out", "--no-check"], check=True, stdout=subprocess.DEVNULL)
seconds = time.monotonic() - start
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
print(f"{kind:13} {size / 1e6:5.0f} MB, peak {peak / 1e6:5.0f} MB, ratio {peak / size:.2f}, {seconds:.1f} s")
PYTHON
done
