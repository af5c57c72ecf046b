#!/bin/sh
# Simulates the time of a crate's launches from the machine code of its kernels: generates the crate
# of each model, and runs a simulator on its launches.jsonl.
#   launches.sh HIOSC SASS_CYCLES.py MODEL.onnx...
# Needs no GPU and no driver. The simulator needs NVRTC, nvdisasm and cuobjdump (see its --help).
#   PYTHON=python3   the Python that runs it
#   DEVICE=h100      a device that hiosc and the simulator both know
#   BEFORE=hiosc     an older build, whose crates have no table: the simulator's estimate from their
#                    sources, for comparison
# Prints one line per model: both totals in microseconds, and the number of launches that multiply
# more than is useful (padded tiles). Exit status 1 if the simulator reports any other violation.
set -eu
[ $# -ge 3 ] || { sed -n '2,11s/^# \{0,1\}//p' "$0" >&2; exit 2; }
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
# total OPTION...: the simulator's total for that crate; its output goes to the file `said`
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
