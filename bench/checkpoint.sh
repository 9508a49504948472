#!/bin/bash
# Saving and loading against the disk itself, in one run on the same disk:
#   bench/checkpoint.sh [ROUNDS] [DIRECTORY]
# save:  bandwidth of writing a shard (checksums, layout, fsync) / a plain sequential write + fsync
# ranks: the same by 2 and by 4 ranks of this machine, into a file each and into one together
# load:  bandwidth of reading it back into place, every checksum verified, cold / a plain cold read
# stall: how long training stands still per asynchronous save / 10 steps of GPT-2 124M
# Prints the median of the rounds and their spread (lowest to highest).
set -euo pipefail
cd "$(dirname "$0")/.."
rounds=${1:-5}
bin=${TRIREME_BUILD:-build/release}
work=$(mktemp -d "${2:-${TMPDIR:-/tmp}}/trireme-bench-XXXXXX")
trap 'rm -rf "$work"' EXIT
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1

echo "machine: $(sed -n 's/^model name.*: //p' /proc/cpuinfo | head -n 1), $(nproc) cores; $(df --output=fstype,source "$work" | tail -n 1)"
"$bin/bench/bench_checkpoint_disk" "$work" "$rounds"
for ranks in 2 4; do "$bin/bench/bench_checkpoint_writers" "$work" "$rounds" "$ranks"; done

[ "${TRIREME_BENCH_STALL:-1}" = 1 ] || exit 0
. bench/lib.sh
bench_text "$work" "$bin/bin/trireme"
mpirun --bind-to none --oversubscribe -np 1 "$bin/bin/trireme-train" examples/configs/gpt2-124m.yaml \
    --train-data-path "$work/text.bin" --run-dir "$work/run" --seq-length 256 --mbs 4 --gbs 4 --lanes 1 \
    --train-iters $((10 * rounds + 5)) --lr-decay-iters 100000 --eval-iters 0 --save-interval 10 \
    --keep-latest 1 >"$work/out" 2>"$work/err" || { cat "$work/err"; exit 1; }
python3 bench/stall.py "$work/err" "$work/run/metrics.jsonl"
