#!/bin/bash
# What copies in memory cost a step, and their parts against this machine's memory:
#   bench/memory_tier.sh [ROUNDS [CONFIG [RANKS]]]
# First bench_memory_tier; then the quickstart model, each rank as a node of its own (an agent's part
# is played by the tests' slot_agent), in rounds of: no copies, copies as often as cost under 1 %,
# copies each step. Medians of the steps' times over all rounds; the machine should be idle.
set -euo pipefail
cd "$(dirname "$0")/.."
rounds=${1:-5}
config=${2:-examples/configs/quickstart.yaml}
ranks=${3:-2}
bin=${TRIREME_BUILD:-build/release}
work=$(mktemp -d)
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
launch=(mpirun --bind-to none --oversubscribe --mca btl_vader_single_copy_mechanism none -np "$ranks")

"${launch[@]}" "$bin/bench/bench_memory_tier" 16

. bench/lib.sh
bench_text "$work" "$bin/bin/trireme"
nodes=()
for ((i = 0; i < ranks; i++)); do nodes+=("$work/n$i"); done
mkfifo "$work/to_agent"
"$bin/tests/slot_agent" "${nodes[@]}" <"$work/to_agent" >"$work/agent" &
agent=$!
exec 7>"$work/to_agent"
trap 'exec 7>&-; wait "$agent"; rm -rf "$work"' EXIT
until grep -q ready "$work/agent"; do sleep 0.05; done

number=0
for ((round = 0; round < rounds; round++)); do
    for interval in 0 -1 1; do
        number=$((number + 1))
        for node in "${nodes[@]}"; do echo "lose $node" >&7; done # what the run before left
        until [ "$(grep -c lost "$work/agent")" -ge $((number * ranks)) ]; do sleep 0.02; done
        TRIREME_ATTEMPT=$number "${launch[@]}" -x TRIREME_ATTEMPT sh -c '
            export TRIREME_RUNTIME="$0/n$OMPI_COMM_WORLD_RANK" TRIREME_DOMAIN="n$OMPI_COMM_WORLD_RANK"
            exec "$@"' "$work" "$bin/bin/trireme-train" "$config" --train-data-path "$work/text.bin" \
            --run-dir "$work/run-$interval-$round" --memory-interval "$interval" --cpu-threads 1 \
            --train-iters 120 --lr-decay-iters 1000 --eval-iters 0 --eval-interval 0 --save-interval 0 \
            --log-interval 1000 >"$work/out" 2>"$work/err" </dev/null || { cat "$work/err"; exit 1; }
        { grep -hE 'copies in memory' "$work/err" || true; } | { grep -v 'per rank' || true; } | sed "s/^/interval $interval: /"
    done
done
python3 - "$work" "$rounds" <<'PY'
import json, statistics, sys
work, rounds = sys.argv[1], int(sys.argv[2])
times = {}
for interval in ("0", "-1", "1"):
    times[interval] = []
    for i in range(rounds):
        rows = [json.loads(line) for line in open(f"{work}/run-{interval}-{i}/metrics.jsonl")]
        times[interval] += [row["step_ms"] for row in rows if "step_ms" in row][10:]
base = statistics.median(times["0"])
for interval, what in (("0", "no copies"), ("-1", "as often as under 1 %"), ("1", "each step")):
    m = statistics.median(times[interval])
    print(f"{what:24} {m:9.3f} ms per step (median of {len(times[interval])})  {100 * (m / base - 1):+6.2f} %")
PY
