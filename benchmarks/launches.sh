#!/bin/sh
# What a simulator of compiled kernels makes of a crate's table of launches, beside what it guesses from the sources.
#   benchmarks/launches.sh HIOSC SASS_CYCLES.py MODEL.onnx...
# HIOSC is a hiosc program; SASS_CYCLES.py reads a crate with launches.jsonl (table mode) and one without (text mode), and prints `VIOLATED: ...` where the table
# contradicts the machine code, and a line `total N us ...`. PYTHON names its Python, in which NVRTC and nvdisasm are installed. Minutes a model; no GPU.
# Exit status 1 if the totals differ by more than 2 %, or if anything but a launch that multiplies too much (padded tiles) is violated.
set -u
[ $# -ge 3 ] || { sed -n '2,6s/^# *//p' "$0"; exit 2; }
hiosc=$1 simulator=$2; shift 2
folder=$(mktemp -d) || exit 1
trap 'rm -rf "$folder"' EXIT
failed=0
total() { sed -n 's/^total \([0-9]*\) us.*/\1/p' "$1"; }
for model in "$@"; do
  crate=$folder/crate
  "$hiosc" "$model" -o "$crate" --device h100 --gpus 1 --kernels source --no-check > "$folder/hiosc.log" 2>&1 || { cat "$folder/hiosc.log"; exit 1; }
  "${PYTHON:-python3}" "$simulator" --crate "$crate" --device h100 > "$folder/table" 2>&1
  mv "$crate/launches.jsonl" "$folder/"
  "${PYTHON:-python3}" "$simulator" --crate "$crate" --device h100 > "$folder/text" 2>&1
  table=$(total "$folder/table") text=$(total "$folder/text")
  padded=$(grep -c 'VIOLATED: .*executes .* multiply-adds' "$folder/table")
  others=$(grep 'VIOLATED' "$folder/table" | grep -vc 'executes .* multiply-adds')
  echo "$model: ${table:-none} us by the table, ${text:-none} us by the text (simulated); multiply too much: $padded; other complaints: $others"
  [ "$others" = 0 ] && [ -n "$table" ] && [ -n "$text" ] && [ $((table * 50)) -ge $((text * 49)) ] && [ $((table * 50)) -le $((text * 51)) ] || failed=1
done
exit $failed
