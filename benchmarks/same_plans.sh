#!/bin/sh
# Compares the schedules and plans of two builds of hiosc byte for byte, after a change that should
# not change them.
#   benchmarks/same_plans.sh OLD NEW MODEL.onnx...
# OLD and NEW are hiosc programs. Each model is planned for one and for two A40s, with every
# algorithm. Prints a line for each model, and what differs. A failure ends it.
# ALGORITHMS="..." limits it to some.
set -u
[ $# -ge 3 ] || { sed -n '2,7s/^# *//p' "$0"; exit 2; }
old=$1 new=$2; shift 2
algorithms=${ALGORITHMS:-$("$new" schedule none --algorithm none 2>&1 | sed -n 's/.*known: //p' | tr -d ,)}
folder=$(mktemp -d) || exit 1
trap 'rm -rf "$folder"' EXIT
differ=0 compared=0
for model in "$@"; do
  for gpus in 1 2; do
    for algorithm in $algorithms; do
      for which in old new; do
        eval "program=\$$which"
        if ! "$program" "$model" --emit schedule,plan --device a40 --gpus $gpus --algorithm "$algorithm" > "$folder/$which" 2>&1; then
          echo "$program $model --gpus $gpus --algorithm $algorithm:" >&2
          cat "$folder/$which" >&2
          exit 2 # two equal failures are not the same plan
        fi
      done
      compared=$((compared + 1))
      if ! cmp -s "$folder/old" "$folder/new"; then
        differ=$((differ + 1))
        echo "DIFFERS: $model, $gpus GPUs, $algorithm"
        diff "$folder/old" "$folder/new" | head -n 5
      fi
    done
  done
  echo "$model: compared"
done
echo "$compared outputs compared ($algorithms), $differ differ"
[ $differ = 0 ]
