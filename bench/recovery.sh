#!/bin/bash
# How long a run stands still when something breaks, and what watching over it costs:
#   bench/recovery.sh [ROUNDS [PART ...]]      5 rounds; parts start, steady, local, hosts
# start:  from the command to the first completed step, of `trireme run --np 4` and of mpirun alone
# steady: step time under `trireme run` (heartbeats, flight record, copies in memory as often as it
#         decides) over that under mpirun, runs of 150 steps by turns, a rank for each core; and, since
#         other work on a machine hides less than 1 %, what supervisor and agent take of its cores, and
#         what the copies say that they cost
# local:  a rank is killed; four ranks on this machine
# hosts:  a rank is killed or stopped, a node dies, a cable is pulled; four hosts with a rank each and
#         a spare, as network namespaces of this machine (needs root)
# The model is the quickstart's. Of each recovery: from the fault to the next completed step, and
# thereof until it was noticed (detect), until nothing was left (fence), until mpirun was started
# (check: health check, claim, agents), and from there to the step (start; restore is a part of it).
# Prints medians and, in parentheses, least and most.
set -euo pipefail
cd "$(dirname "$0")/.."
rounds=${1:-5}
parts=" ${*:2} "
[ $# -gt 1 ] || parts=" start steady local hosts "
bin=$(realpath "${TRIREME_BUILD:-build/release}")
work=$(mktemp -d "${TMPDIR:-/tmp}/trireme-bench-XXXXXX")
export TRIREME_SOURCE=$PWD TRIREME_BIN=$bin/bin HOSTS_DIR=$work/hosts HOSTS_SHARED=$work RELAY=$bin/tests/relay
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1 \
    OMPI_MCA_hwloc_base_binding_policy=none OMPI_MCA_btl_vader_single_copy_mechanism=none \
    OMPI_MCA_mpi_yield_when_idle=1 CUDA_VISIBLE_DEVICES=
export TMPDIR=$work/tmp # where agents of this machine have their place
mkdir "$TMPDIR"
. tests/cluster/hosts.sh
trap 'code=$?; set +e; hosts_down; rm -rf "$work"; exit $code' EXIT
trap 'exit 143' INT TERM HUP

echo "machine: $(sed -n 's/^model name.*: //p' /proc/cpuinfo | head -n 1), $(nproc) cores; load $(cut -d' ' -f1-3 /proc/loadavg); $rounds rounds"
. bench/lib.sh
bench_text "$work" "$TRIREME_BIN/trireme"

# A node that dies without a word is given up when its lease is over; a rank that stands still after
# the other time.
lease_ms=1000 stall_ms=2000
common=(examples/configs/quickstart.yaml --train-data-path "$work/text.bin" --train-iters 100000
    --lr-decay-iters 600 --eval-interval 0 --save-interval 0 --cpu-threads 1 --log-interval 1000)
arguments=("${common[@]}" --lease-ms $lease_ms --progress-timeout-floor-ms $stall_ms --node-retry-ms 300
    --quarantine-after 1000)

fail() {
    echo "FAILED: $*" >&2
    tail -n 40 "$work"/*.err >&2
    exit 1
}

wait_for() { # COMMAND...
    local end=$((SECONDS + 120))
    until "$@"; do
        [ $SECONDS -lt $end ] || fail "waited in vain for $*"
        sleep 0.02
    done
}

recovered() { # NAME COUNT: so many times, or so many attempts make steps
    local count
    count=$(grep -c '"event":"recovered"' "$work/$1/events.jsonl" 2>/dev/null) && [ "$count" -ge "$2" ]
}

stop_with_checkpoint() { # PID: of `trireme run`, a child of this shell
    kill -TERM "$1"
    wait "$1" || [ $? = 75 ] || fail "a run did not end with 75"
}

# --- start

start_once() { # NAME COMMAND...: seconds to the first step are added to $work/start.NAME
    local name=$1 began run
    shift
    rm -rf "$work/first"
    began=$EPOCHREALTIME
    "$@" "${arguments[@]}" --run-dir "$work/first" --exit-interval 2 >"$work/first.out" 2>"$work/first.err" </dev/null || [ $? = 75 ] ||
        fail "$name did not start"
    python3 - "$began" "$work/first/metrics.jsonl" >>"$work/start.$name" <<'PY'
import json, sys
print(json.loads(open(sys.argv[2]).readline())["time"] - float(sys.argv[1].replace(",", ".")))
PY
}

spread() { # FILE UNIT FACTOR: median (least to most)
    python3 - "$@" <<'PY'
import statistics, sys
values = [float(line) * float(sys.argv[3]) for line in open(sys.argv[1])]
print("%.3g %s (%.3g to %.3g)" % (statistics.median(values), sys.argv[2], min(values), max(values)))
PY
}

if [[ $parts == *" start "* ]]; then
    for _ in $(seq "$rounds"); do
        start_once mpirun mpirun -np 4 "$TRIREME_BIN/trireme-train"
        start_once supervised "$TRIREME_BIN/trireme" run --np 4
    done
    echo "first step, 4 ranks: trireme run $(spread "$work/start.supervised" s 1), mpirun $(spread "$work/start.mpirun" s 1)"
fi

# --- steady

steady_once() { # NAME COMMAND...: the median step in ms, without the first 10
    local name=$1
    shift
    rm -rf "$work/steady"
    "$@" "${steady[@]}" --run-dir "$work/steady" --exit-interval 150 \
        >"$work/steady.out" 2>"$work/steady.err" </dev/null &
    local job=$!
    [ "$name" = mpirun ] || watch_processes $job
    wait $job || [ $? = 75 ] || fail "the $name run failed"
    python3 - "$work/steady/metrics.jsonl" <<'PY'
import json, statistics, sys
print(statistics.median([json.loads(line)["step_ms"] for line in open(sys.argv[1]) if '"loss"' in line][10:]))
PY
}

processor_time() { # PID: of that process so far, in ticks
    local stat
    stat=$(<"/proc/$1/stat")
    set -- ${stat##*) }
    echo $((${12} + ${13}))
}

has_step() { # STEP
    grep -q "\"step\": $1," "$work/steady/metrics.jsonl" 2>/dev/null
}

# Looks once a second: a look takes processor time, which is all the ranks'.
wait_for_step() { # STEP
    local end=$((SECONDS + 120))
    until has_step "$1"; do
        [ $SECONDS -lt $end ] || fail "waited in vain for step $1"
        sleep 1
    done
}

# Of supervisor and agent between steps 20 and 120, in % of the machine's cores; a line of
# $work/steady.watch.
watch_processes() { # SUPERVISOR
    local agent ticks began now
    wait_for_step 20
    agent=$(pgrep -f "^$TRIREME_BIN/trireme agent" | while read -r pid; do
        tr '\0' '\n' <"/proc/$pid/environ" 2>/dev/null | grep -qx "TMPDIR=$work/tmp" && echo "$pid"; done | head -n 1)
    [ -n "$agent" ] || fail "there is no agent"
    began=${EPOCHREALTIME/[.,]/}
    ticks=$(($(processor_time "$1") + $(processor_time "$agent")))
    wait_for_step 120
    now=${EPOCHREALTIME/[.,]/}
    ticks=$(($(processor_time "$1") + $(processor_time "$agent") - ticks))
    awk "BEGIN { print $ticks / $(getconf CLK_TCK) / (($now - $began) / 1e6) / $(nproc) }" >>"$work/steady.watch"
}

if [[ $parts == *" steady "* ]]; then
    ranks=$(nproc)
    [ "$ranks" -le 4 ] || ranks=4
    steady=("${common[@]}" --lease-ms 10000 --progress-timeout-floor-ms 20000)
    for round in $(seq "$rounds"); do
        # By turns, and each first as often as last.
        if [ $((round % 2)) = 1 ]; then
            alone=$(steady_once mpirun mpirun -np "$ranks" "$TRIREME_BIN/trireme-train")
            under=$(steady_once supervised "$TRIREME_BIN/trireme" run --np "$ranks")
            copies=$(grep -h 'copies in memory: training' "$work/steady.err" || true)
        else
            under=$(steady_once supervised "$TRIREME_BIN/trireme" run --np "$ranks")
            copies=$(grep -h 'copies in memory: training' "$work/steady.err" || true)
            alone=$(steady_once mpirun mpirun -np "$ranks" "$TRIREME_BIN/trireme-train")
        fi
        echo "$alone" >>"$work/steady.alone"
        awk "BEGIN { print $under / $alone - 1 }" >>"$work/steady.ratio"
    done
    echo "steady, $ranks ranks: a step of $(spread "$work/steady.alone" ms 1) takes $(spread "$work/steady.ratio" % 100) longer under trireme run"
    echo "    supervisor and agent: $(spread "$work/steady.watch" % 100) of the machine's cores; 150 steps: ${copies#* }"
fi

# --- recoveries

# tell NAME FAULTS: what $work/NAME.faults (lines "KIND TIME") led to.
tell() {
    python3 - "$work/$1" "$work/$1.faults" "$2" $lease_ms $stall_ms <<'PY'
import json, statistics, sys
run, faults, title, lease_ms, stall_ms = sys.argv[1:]
events = [json.loads(line) for line in open(run + "/events.jsonl", encoding="utf-8")]
steps = [json.loads(line)["time"] for line in open(run + "/metrics.jsonl") if '"loss"' in line]
found = {}
for line in open(faults):
    kind, struck = line.split()
    struck = float(struck.replace(",", "."))
    again = next(e for e in events if e["event"] == "recovered" and "recovery_s" in e and e["time"] > struck)
    attempt = next(e for e in events if e["event"] == "attempt" and e["attempt"] == again["attempt"])
    step = next(time for time in steps if time > attempt["time"])
    decided = again["time"] - again["recovery_s"]
    launched = decided + again["fence_s"] + again["check_s"]
    found.setdefault(kind, []).append((step - struck, decided - struck, again["fence_s"], again["check_s"],
                                       step - launched, again["restore_s"], again["steps_lost"]))
print("%-22s %20s %20s %16s %16s %16s %16s %10s" % (title, "fault to step, s", "detect", "fence", "check", "start", "restore", "steps lost"))
for kind, rows in found.items():
    columns = ["%.2f (%.2f-%.2f)" % (statistics.median(c), min(c), max(c)) for c in list(zip(*rows))[:6]]
    lost = [row[6] for row in rows]
    print("%-22s %20s %20s %16s %16s %16s %16s %10s" % (kind, *columns, "%g (%d-%d)" % (statistics.median(lost), min(lost), max(lost))))
PY
}

strike_note() { # NAME KIND COMMAND...
    local name=$1 kind=$2 now=$EPOCHREALTIME
    shift 2
    "$@" || fail "$kind could not be done"
    echo "$kind $now" >>"$work/$name.faults"
}

if [[ $parts == *" local "* ]]; then
    "$TRIREME_BIN/trireme" run --np 4 "${arguments[@]}" --run-dir "$work/local" >"$work/local.out" 2>"$work/local.err" </dev/null &
    run=$!
    wait_for recovered local 1
    for round in $(seq "$rounds"); do
        sleep "1.$((RANDOM % 10))"
        agents=$(pgrep -f "^$TRIREME_BIN/trireme-train examples/configs/quickstart.yaml --train-data-path $work/")
        strike_note local rank_killed kill -9 $(shuf -n 1 <<<"$agents")
        wait_for recovered local $((round + 1))
    done
    stop_with_checkpoint $run
    tell local "4 ranks, one machine"
fi

if [[ $parts == *" hosts "* ]] && why=$(hosts_able); then
    export OMPI_MCA_oob_tcp_if_include=eth0 OMPI_MCA_btl_tcp_if_include=eth0 OMPI_MCA_pml=ob1 \
        OMPI_MCA_btl=tcp,vader,self OMPI_MCA_plm_rsh_no_tree_spawn=1
    nodes=(node1 node2 node3 node4 node5)
    printf '%s slots=1\n' "${nodes[@]}" >"$work/hosts.txt"
    hosts_up 5 head || fail "no hosts"
    hosts_exec head "$TRIREME_BIN/trireme" run --hostfile "$work/hosts.txt" --rsh "$HOSTS_DIR/rsh" --spares 1 \
        "${arguments[@]}" --run-dir "$work/hosts_run" >"$work/hosts_run.out" 2>"$work/hosts_run.err" </dev/null &
    run=$!
    supervisor=
    find_supervisor() {
        for supervisor in $(hosts_pids head trireme); do
            tr '\0' ' ' <"/proc/$supervisor/cmdline" | grep -q 'trireme run ' && return
        done
        return 1
    }
    rank_node() { # sets $node and $pid, at random
        for node in $(shuf -e "${nodes[@]}"); do
            pid=$(hosts_pids "$node" trireme-train | head -n 1)
            [ -z "$pid" ] || return 0
        done
        return 1
    }
    all_nodes() { # answer
        "$TRIREME_BIN/trireme" status --json "$work/hosts_run" | python3 -c 'import json, sys
status = json.load(sys.stdin)
sys.exit(not (status["state"] == "running" and all(n["state"] in ("ready", "spare") for n in status["nodes"])))'
    }
    wait_for recovered hosts_run 1
    find_supervisor
    count=1
    for round in $(seq "$rounds"); do
        for kind in rank_killed node_killed cable_pulled rank_stopped; do
            wait_for all_nodes
            sleep "1.$((RANDOM % 10))"
            rank_node || fail "no node has a rank"
            case $kind in
            rank_killed) strike_note hosts_run $kind kill -9 "$pid" ;;
            rank_stopped) strike_note hosts_run $kind kill -STOP "$pid" ;;
            node_killed) strike_note hosts_run $kind hosts_kill "$node" ;;
            cable_pulled) strike_note hosts_run $kind hosts_cut "$node" ;;
            esac
            count=$((count + 1))
            wait_for recovered hosts_run $count
            case $kind in
            node_killed) hosts_boot "$node" ;;
            cable_pulled) hosts_mend "$node" ;;
            esac
        done
    done
    kill -TERM "$supervisor"
    wait $run || [ $? = 75 ] || fail "the run over hosts did not end with 75"
    tell hosts_run "4 hosts and a spare"
    echo "    (lease_ms $lease_ms, progress_timeout_floor_ms $stall_ms)"
elif [[ $parts == *" hosts "* ]]; then
    echo "hosts: skipped: $why"
fi
