#!/bin/sh
# All measurements for one GPU: correctness, costs, predicted against measured, and the comparison
# with PyTorch.
#   ./run.sh [MODEL...]          (default: all models in models/)
# Needs hiosc beside it (pack.sh) and an NVIDIA driver, but no network, Rust or CUDA toolkit. Only
# the comparison needs Python, with numpy, torch and onnx.
#   RESULTS=folder   where raw results go, as JSON and text (default: results)
#   REPEAT=N         inferences of each plan (default: 200)
#   QUICK=1          a quick profile
#   VIRTUAL=N        run on N virtual GPUs (needs g++); the results say that the times mean nothing
#   COMPARE="..."    models to compare with PyTorch (default: the six of docs/benchmarks.md)
set -u
cd "$(dirname "$0")"
HIOSC=${HIOSC:-./hiosc}
RESULTS=${RESULTS:-results}
REPEAT=${REPEAT:-200}
MODELS=${MODELS:-models}
COMPARE=${COMPARE:-inception_v3 nasnetalarge.folded randwire_ws32 squeezenet1_1 resnet50 ddddocr_det_yolox}
PYTHON=${PYTHON:-python3}
[ -n "${HIOSC_NVRTC:-}" ] || { [ -e nvrtc/libnvrtc.so.12 ] && export HIOSC_NVRTC="$PWD/nvrtc/libnvrtc.so.12"; }
one=${VIRTUAL:+--virtual $VIRTUAL}
mkdir -p "$RESULTS"
: > "$RESULTS/check.tsv"

if [ $# -gt 0 ]; then names="$*"; else names=$(cd "$MODELS" && ls *.onnx | sed 's/\.onnx$//'); fi
{ nvidia-smi --query-gpu=name,driver_version,clocks.max.sm,clocks.max.mem,power.limit,ecc.mode.current --format=csv 2>/dev/null \
    || echo "no nvidia-smi"; uname -sr; "$HIOSC" --version; } > "$RESULTS/machine.txt"

# check NAME PLACEMENT ARGUMENTS...: adds a line `name placement PASS|FAIL|... output` to check.tsv
check() {
  name=$1 placement=$2; shift 2
  base=${name%.folded}
  if [ ! -e "$MODELS/$base.ref.npz" ]; then verdict="no reference" said=; else
    said=$("$HIOSC" check "$MODELS/$name.onnx" --reference "$MODELS/$base.ref.npz" "$@" $one 2>&1)
    if [ $? = 0 ]; then verdict=PASS; else verdict=FAIL; fi
  fi
  printf '%s\t%s\t%s\t%s\n' "$name" "$placement" "$verdict" "$(echo "$said" | tr '\n\t' '; ')" | tee -a "$RESULTS/check.tsv" | cut -c1-120
}

echo "== correctness: one GPU; two logical GPUs on it, in one context and in two"
for name in $names; do
  check "$name" "one GPU" --device a40 --gpus 1 --on 0
  check "$name" "two logical GPUs, one context" --device a40 --gpus 2 --algorithm scatter --on 0,0
  check "$name" "two logical GPUs, two contexts" --device a40 --gpus 2 --algorithm scatter --on 0,0 --separate-contexts
done

echo "== profile"
costs=$RESULTS/costs.txt
rm -f "$costs"
for name in $names; do
  merge=; [ -e "$costs" ] && merge="--merge $costs"
  "$HIOSC" profile "$MODELS/$name.onnx" -o "$costs" $merge ${QUICK:+--quick} --on 0 $one || echo "$name: not profiled"
done

echo "== predicted against measured; plans against one another"
for name in $names; do
  for barriers in "" --stage-barriers; do
    "$HIOSC" bench "$MODELS/$name.onnx" --costs "$costs" --on 0 --repeat "$REPEAT" $barriers $one \
      --json "$RESULTS/$name.bench$barriers.json" --trace "$RESULTS/$name.trace$barriers.json" > "$RESULTS/$name.bench$barriers.txt" 2>&1 \
      && tail -n +1 "$RESULTS/$name.bench$barriers.txt" | grep -E 'graph|noise' || echo "$name: no figures ($(tail -n 1 "$RESULTS/$name.bench$barriers.txt"))"
  done
done

echo "== against PyTorch, same math mode (strict f32), interleaved"
for name in $COMPARE; do
  case " $names " in *" $name "*) ;; *) continue ;; esac
  "$PYTHON" compare.py "$MODELS/$name.onnx" --hiosc "$HIOSC" --costs "$costs" --rounds "$REPEAT" --json "$RESULTS/$name.torch.json" $one
done

"$PYTHON" summary.py "$RESULTS" 2>/dev/null | tee "$RESULTS/summary.md" || true
cat <<'END'
== not measured here: what only several GPUs can show
  * peer copies and links between devices, their latency and bandwidth
  * whether two GPUs are faster than one
  * one CUDA graph over several devices on a real driver
With two GPUs, a crate in out/ and Rust:   hiosc verify out/ --on 0,1 --links
END
! grep -q "	FAIL	" "$RESULTS/check.tsv"
