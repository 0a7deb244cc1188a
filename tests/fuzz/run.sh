#!/usr/bin/env bash
# Runs fuzz targets, all of them or those that are named, one after the other for FUZZ_SECONDS each (60
# unless said), and prints a line for each at the end. Exit status 1 where one of them has found
# something, with the command that shows it again.
#
# A target starts from its files in tests/fuzz/corpus, which are only read. What it adds to them, what
# it finds and what it prints is kept below target/fuzz, and the next run goes on from there.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
exec </dev/null

fuzz=tests/fuzz
out=${CARGO_TARGET_DIR:-target}/fuzz
seconds=${FUZZ_SECONDS:-60}

missing=
need() {
    "${@:3}" >/dev/null 2>&1 && return
    echo "make fuzz needs $1, which is not here; to get it: $2" >&2
    missing=yes
}
need "nightly Rust" "rustup toolchain install nightly --profile minimal" rustc +nightly -vV
need cargo-fuzz "cargo install cargo-fuzz --locked" cargo +nightly fuzz --help
need "a C++ compiler" "apt-get install g++" c++ --version
[ -z "$missing" ] || exit 1

known=()
for file in "$fuzz"/fuzz_targets/*.rs; do
    known+=("$(basename "$file" .rs)")
done
targets=("$@")
[ $# -gt 0 ] || targets=("${known[@]}")
for target in "${targets[@]}"; do
    [ -e "$fuzz/fuzz_targets/$target.rs" ] || { echo "there is no fuzz target $target; there are: ${known[*]}" >&2; exit 1; }
done

# Built by cargo-fuzz but started from here: it would put what it finds into the checkout. There is
# little for a sanitizer in safe Rust, and without one a minute holds twice as many runs. Debug
# assertions and overflow checks are on.
host=$(rustc +nightly -vV | sed -n 's/^host: //p')
cargo +nightly fetch --locked --quiet --manifest-path "$fuzz/Cargo.toml"
cargo +nightly fuzz build --fuzz-dir "$fuzz" --target-dir "$out/build" --target "$host" --sanitizer none

trap 'rm -rf "$out/tmp"' EXIT
trap 'exit 130' INT TERM
mkdir -p "$out/tmp"

table=()
found=()
for target in "${targets[@]}"; do
    program=$out/build/$host/release/$target
    log=$out/$target.log
    crashes=$out/crashes/$target/
    mkdir -p "$out/corpus/$target" "$crashes"
    options=(-max_total_time="$seconds" -timeout=20 -rss_limit_mb=1024 -artifact_prefix="$crashes")
    [ ! -e "$fuzz/dictionaries/$target.dict" ] || options+=(-dict="$fuzz/dictionaries/$target.dict")
    echo "$target, $seconds s; what it says: $log"
    began=$SECONDS
    outcome=nothing
    if ! TMPDIR=$out/tmp "$program" "${options[@]}" "$out/corpus/$target" "$fuzz/corpus/$target" >"$log" 2>&1; then
        outcome=$(sed -n '/ERROR: libFuzzer: /{s/.*ERROR: libFuzzer: //;p;q}' "$log")
        said=$(grep -m 1 -A 1 'panicked at' "$log" | tr '\n' ' ' || true)
        input=$(sed -n 's/.*Test unit written to //p' "$log" | tail -n 1)
        found+=("$target: ${said:-${outcome:-it ended, see $log}}" "    again: $program ${input:-$fuzz/corpus/$target/*}")
    fi
    # The last line of figures: "#4242  DONE   cov: 812 ft: 1234 corp: 56/7890b …".
    figures=$(grep -E '^#[0-9]+.* cov: ' "$log" | tail -n 1 || true)
    runs=$(sed -n 's/^#\([0-9]*\).*/\1/p' <<<"$figures")
    edges=$(sed -n 's/.* cov: \([0-9]*\).*/\1/p' <<<"$figures")
    inputs=$(sed -n 's/.* corp: \([0-9]*\).*/\1/p' <<<"$figures")
    table+=("$(printf '%-12s %7s %12s %7s %7s  %s' "$target" $((SECONDS - began)) \
        "${runs:-0}" "${edges:-0}" "${inputs:-0}" "${outcome:-a failure}")")
done

printf '\n%-12s %7s %12s %7s %7s  %s\n' target seconds runs edges inputs found
printf '%s\n' "${table[@]}"
if [ ${#found[@]} -gt 0 ]; then
    echo >&2
    printf '%s\n' "${found[@]}" >&2
    exit 1
fi
