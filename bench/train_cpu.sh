#!/bin/bash
# Tokens/s of a training step on this machine's cores, against its float32 peak (a 2048^3 product by
# the same matrix library, same number of threads, measured before and after each run):
#   bench/train_cpu.sh [STEPS]
# Ratio = model FLOPs per second / peak; model FLOPs as the program counts them
# (trm_model_flops_per_token in trainer/model/model.c).
set -euo pipefail
cd "$(dirname "$0")/.."
steps=${1:-6}
bin=${TRIREME_BUILD:-build/release}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cores=$(nproc)
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1

. bench/lib.sh
bench_text "$work" "$bin/bin/trireme"

echo "machine: $(sed -n 's/^model name.*: //p' /proc/cpuinfo | head -n 1), $cores cores; $steps steps after the first"
printf '%-28s %6s %8s %12s %10s %10s %10s %7s\n' model ranks threads 'tokens/s' 'ms (med)' 'GFLOP/s' 'peak' ratio

# measure NAME CONFIG RANKS THREADS TOKENS_PER_STEP [ARGUMENTS]
measure() {
    local name=$1 config=$2 ranks=$3 threads=$4 tokens=$5 before after
    shift 5
    before=$("$bin/bench/bench_peak_cpu" "$((ranks * threads))")
    mpirun --bind-to none --oversubscribe --mca btl_vader_single_copy_mechanism none -np "$ranks" \
        "$bin/bin/trireme-train" "$config" --train-data-path "$work/text.bin" --run-dir "$work/$name-$ranks-$threads" \
        --save "$work/save-$name-$ranks-$threads" --cpu-threads "$threads" --train-iters $((steps + 1)) \
        --lr-decay-iters 100000 --eval-iters 0 --eval-interval 0 --save-interval 0 "$@" >"$work/out" 2>"$work/err" ||
        { cat "$work/err"; exit 1; }
    after=$("$bin/bench/bench_peak_cpu" "$((ranks * threads))")
    python3 - "$name" "$ranks" "$threads" "$tokens" "$before" "$after" "$work/$name-$ranks-$threads" <<'PY'
import json, statistics, sys
name, ranks, threads, tokens, before, after, run = sys.argv[1:]
rows = [json.loads(line) for line in open(run + "/metrics.jsonl")]
steps = [row for row in rows if "loss" in row][1:]
times = [row["step_ms"] for row in steps]
flops = steps[0]["flops_per_second"] / steps[0]["tokens_per_second"]
median = statistics.median(times)
rate = int(tokens) / median * 1000
peak = (float(before) + float(after)) / 2
print("%-28s %6s %8s %12.0f %10.1f %10.1f %10.1f %7.2f   (ms %.1f to %.1f; peak %s, %s)" % (
    name, ranks, threads, rate, median, rate * flops / 1e9, peak, rate * flops / 1e9 / peak,
    min(times), max(times), before, after))
PY
    rm -rf "$work/save-$name-$ranks-$threads"
}

small="--num-layers 6 --hidden-size 384 --num-attention-heads 6 --seq-length 256 --vocab-size 256"
measure gpt2-124m_4x256 examples/configs/gpt2-124m.yaml 1 "$cores" 1024 --seq-length 256 --mbs 4 --gbs 4 --lanes 1
measure gpt2-124m_4x256 examples/configs/gpt2-124m.yaml "$cores" 1 $((1024 * cores)) --seq-length 256 --mbs 4 --gbs $((4 * cores)) --lanes "$cores"
measure 6x384_8x256 examples/configs/quickstart.yaml 1 "$cores" 2048 $small --mbs 8 --gbs 8 --lanes 1
measure quickstart examples/configs/quickstart.yaml 1 "$cores" 1024 --mbs 8 --gbs 8 --lanes 1
measure quickstart examples/configs/quickstart.yaml "$cores" 1 $((1024 * cores)) --mbs 8 --gbs $((8 * cores)) --lanes "$cores"
