#!/bin/sh
# What the launches of a crate would take, by the machine code of its kernels: generates each model's crate, and has a simulator read its launches.jsonl.
#   launches.sh HIOSC SASS_CYCLES.py MODEL.onnx...
# No GPU and no driver; the Python needs NVRTC, nvdisasm and cuobjdump, as `SASS_CYCLES.py --help` says.
#   PYTHON=python3   that runs it
#   DEVICE=h100      that hiosc and the simulator both know
#   BEFORE=hiosc     an older build, whose crates have no table: what the simulator makes of their sources as text, for comparison
# Prints a line a model: both totals in microseconds, and in how many launches more is multiplied than is useful (padded tiles). Exit status 1 if the
# simulator complains of anything else.
set -eu
[ $# -ge 3 ] || { sed -n '2,9s/^# \{0,1\}//p' "$0" >&2; exit 2; }
hiosc=$1 simulator=$2
shift 2
device=${DEVICE:-h100} python=${PYTHON:-python3}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
status=0

# crate HIOSC MODEL: a crate in the folder `crate`
crate() {
  rm -rf "$folder/crate"
  "$1" "$2" -o "$folder/crate" --device "$device" --gpus 1 --kernels source --no-check > "$folder/log" || { cat "$folder/log"; exit 1; }
}
# total OPTION...: the simulator's, of that crate; what it says is in `said`
total() {
  "$python" "$simulator" --device "$device" "$@" > "$folder/said" || [ $? = 1 ]
  sed -n 's/^total \([0-9]*\) us.*/\1/p' "$folder/said"
}

printf '%-28s %9s %9s %9s\n' model table text padded
for model in "$@"; do
  before=-
  if [ -n "${BEFORE:-}" ]; then
    crate "$BEFORE" "$model"
    before=$(total --crate "$folder/crate")
  fi
  crate "$hiosc" "$model"
  now=$(total --launches "$folder/crate/launches.jsonl")
  padded=$(grep -c '^VIOLATED: launch .* executes [1-9]' "$folder/said" || true)
  printf '%-28s %9s %9s %9s\n' "$(basename "$model" .onnx)" "${now:-none}" "${before:-none}" "$padded"
  if grep '^VIOLATED' "$folder/said" | grep -v ' executes [1-9]'; then status=1; fi
  [ -n "$now" ] || { cat "$folder/said"; status=1; }
done
exit $status
