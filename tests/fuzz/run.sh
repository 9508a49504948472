#!/bin/bash
# A short, repeatable run of a libFuzzer target from its corpus, which stays as it is:
#   run.sh TARGET CORPUS RUNS [LIBFUZZER OPTIONS]
# An input that breaks the target is written to the current folder. RUNS=-1 goes on for ever.
set -euo pipefail
target=$1 corpus=$2 runs=$3
shift 3
found=$(mktemp -d)
trap 'rm -rf "$found"' EXIT
# The sanitizer's shadow memory wants its place in the address space.
fixed=()
if setarch "$(uname -m)" -R true 2>/dev/null; then fixed=(setarch "$(uname -m)" -R); fi
"${fixed[@]}" "$target" -seed=1 -runs="$runs" -max_total_time="${FUZZ_SECONDS:-10}" -timeout=60 \
    -rss_limit_mb=1024 -max_len=4096 -print_final_stats=1 "$@" "$found" "$corpus" 2>&1 | tail -n 40
