#!/bin/sh
# Simulates the time of a crate's launches from the machine code of its kernels: generates the crate
# of each model, and runs machine_code/sass_cycles.py on its launches.jsonl.
#   launches.sh HIOSC MODEL.onnx...
# Needs no GPU and no driver, but NVRTC, nvdisasm and cuobjdump (see machine_code/simulator.py).
#   PYTHON=python3   the Python that runs the simulator
#   DEVICE=h100      a device that hiosc and the simulator both know
# Prints one line per model: launches, those with fewer blocks than the device has multiprocessors,
# the total in microseconds, the floor below which no kernels can fall, its share of the total, and
# the launches that multiply much more than is useful (padded tiles). Exit status 1 if the simulator
# reports any other violation.
set -eu
[ $# -ge 2 ] || { sed -n '2,11s/^# \{0,1\}//p' "$0" >&2; exit 2; }
hiosc=$1 simulator=$(dirname "$0")/machine_code/sass_cycles.py
shift
device=${DEVICE:-h100} python=${PYTHON:-python3}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
status=0

printf '%-28s %9s %9s %9s %9s %9s %9s\n' model launches small us floor share padded
for model in "$@"; do
  rm -rf "$folder/crate"
  "$hiosc" "$model" -o "$folder/crate" --device "$device" --gpus 1 --algorithm sequential --kernels source --no-check > "$folder/log" || { cat "$folder/log"; exit 1; }
  "$python" "$simulator" --device "$device" --crate "$folder/crate" > "$folder/said" || [ $? = 1 ]
  total=$(sed -n 's/^total \([0-9]*\) us.*/\1/p' "$folder/said")
  launches=$(sed -n 's/^total .* us in \([0-9]*\) launches.*/\1/p' "$folder/said")
  floor=$(sed -n 's/^floor \([0-9]*\) us.*/\1/p' "$folder/said")
  small=$(sed -n 's/^floor .*; \([0-9]*\) launches.*/\1/p' "$folder/said")
  padded=$(grep -c '^VIOLATED: launch .* executes [1-9]' "$folder/said" || true)
  share=$((100 * ${floor:-0} / ${total:-1}))%
  printf '%-28s %9s %9s %9s %9s %9s %9s\n' "$(basename "$model" .onnx)" "$launches" "$small" "${total:-none}" "$floor" "$share" "$padded"
  if grep '^VIOLATED' "$folder/said" | grep -v ' executes [1-9]'; then status=1; fi
  [ -n "$total" ] || { cat "$folder/said"; status=1; }
done
exit $status
