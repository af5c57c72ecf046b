#!/usr/bin/env bash
# The CPU seconds of the first build of README's project, in fresh target folders: the light way,
# the heavy way (feature `compiler`), and the heavy way with optimised build scripts, as
# docs/build-scripts.md recommends; as `cargo build` and as `cargo build --release`. With `+oracle`
# the last two have the feature `oracle`, too.
#
#   benchmarks/first_build.sh [light|heavy|heavy+oracle|optimised|optimised+oracle...]
#
# The light way needs the program of this checkout (`cargo build --release`). All sources of
# dependencies must have been fetched. Prints one line for each build.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
[ $# -gt 0 ] || set -- light heavy optimised
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
ln -s "$root" "$scratch/hiosc"

for way in "$@"; do
  project=$scratch/$way
  mkdir -p "$project/src"
  for file in Cargo.toml build.rs src/main.rs; do
    awk -v file="$file" '/^```/ { inside = ($2 == file); next } inside' "$root/README.md" > "$project/$file"
  done
  case "$way" in
    light) features= ;;
    *+oracle) features='"compiler", "oracle"' ;;
    *) features='"compiler"' ;;
  esac
  if [ -n "$features" ]; then
    sed -i "/^\[build-dependencies\]/,\$ s/default-features = false/default-features = false, features = [$features]/" "$project/Cargo.toml"
  fi
  if [ "${way%+oracle}" = optimised ]; then
    printf '\n[profile.%s.build-override]\nopt-level = 3\n' dev release >> "$project/Cargo.toml"
  fi
  cp "$root/testdata/squeezenet1_1.onnx" "$project/squeezenet.onnx"
  cp "$root/Cargo.lock" "$project/Cargo.lock"
  for profile in "" --release; do
    export HIOSC=$root/target/release/hiosc CARGO_TARGET_DIR=$scratch/target TIMEFORMAT="%U %S %R"
    rm -rf "$CARGO_TARGET_DIR"
    # $profile is empty or one word
    { time cargo build --manifest-path "$project/Cargo.toml" --offline --quiet $profile 2> "$scratch/log"; } 2> "$scratch/time" ||
      { cat "$scratch/log"; exit 1; }
    read -r user system wall < <(tail -n 1 "$scratch/time")
    printf '%-16s cargo build %-9s  %6.0f CPU seconds, %5.0f s\n' "$way" "$profile" "$(echo "$user + $system" | bc)" "$wall"
  done
done
