#!/bin/bash
# Random faults at random times: a supervised run over four hosts and a spare suffers whatever can
# happen to it, and ends with the bits of a run that nothing happened to.
#   tests/soak.sh [MINUTES]      10 by default
# SEED=N draws the faults of an earlier soak again (it is printed); they meet the run at other
# moments, since time is real. INTERVAL_MS=N: the mean time between two faults, 10,000 by default.
#
# Faults arrive as a Poisson process, so that some meet a recovery that is under way; a quarter of them
# are followed by another within two seconds, so that many do. At most two nodes are broken at a time:
# the run then goes on with fewer ranks, and grows again. Each phase of a step is stretched, so that
# faults meet all of them, and that the run with the same number of steps and no faults is over soon.
set -euo pipefail
: "${TRIREME_SOURCE:=$(realpath "$(dirname "$0")/..")}"
: "${TRIREME_BIN:=$TRIREME_SOURCE/build/release/bin}"
export TRIREME_SOURCE TRIREME_BIN OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 \
    OMPI_MCA_rmaps_base_oversubscribe=1 OMPI_MCA_hwloc_base_binding_policy=none \
    OMPI_MCA_btl_vader_single_copy_mechanism=none OMPI_MCA_mpi_yield_when_idle=1 CUDA_VISIBLE_DEVICES=
. "$TRIREME_SOURCE/tests/cluster/lib.sh"
. "$TRIREME_SOURCE/tests/cluster/supervised.sh"

minutes=${1:-10}
seed=${SEED:-$(od -An -N2 -tu2 /dev/urandom | tr -d ' ')}
interval_ms=${INTERVAL_MS:-10000}
[[ $minutes =~ ^[0-9]+$ && $seed =~ ^[0-9]+$ && $interval_ms =~ ^[0-9]+$ ]] ||
    { echo "usage: [SEED=N] [INTERVAL_MS=N] soak.sh [MINUTES]"; exit 64; }
RANDOM=$seed
echo "soak of $minutes min, a fault every $interval_ms ms on average: SEED=$seed"

nodes=(node1 node2 node3 node4 node5)
history=$scratch/history

# Weights: what is common on clusters more often.
faults=(rank_kill rank_kill rank_segv rank_stop daemon_kill daemon_stop node_kill node_kill node_crash cut cut
    flap mute deaf freeze mpirun_kill agent_kill agent_stop supervisor_kill)

now_ms() { # sets $now, since the start
    now=$((${EPOCHREALTIME/[.,]/} / 1000 - began_ms))
}

note() {
    now_ms
    printf '%8d.%03d  %s\n' $((now / 1000)) $((now % 1000)) "$*" >>"$history"
}

give_up() {
    tail -n 40 "$history"
    tail -n 60 "$scratch/soak.err"
    fail "$* (SEED=$seed)"
}

exponential_ms() { # MEAN: sets $drawn
    drawn=$(awk -v mean="$1" -v x=$RANDOM 'BEGIN { printf "%d", -log((x + 0.5) / 32768) * mean }')
}

# --- the hosts: what is broken, how, and until when

declare -A broken=() due=()

choose_node() { # sets $node to one that is sound; fails where two are broken already
    local sound=() name
    [ ${#broken[@]} -lt 2 ] || return 1
    for name in "${nodes[@]}"; do
        [ -n "${broken[$name]:-}" ] || sound+=("$name")
    done
    node=${sound[RANDOM % ${#sound[@]}]}
}

break_node() { # ACTION: for 0.2 to 6 s
    choose_node || return 1
    broken[$node]=$1
    due[$node]=$((now + 200 + RANDOM % 5800))
}

processes_of() { # HOST rank|orted: the shell that becomes a rank is none yet
    if [ "$2" = rank ]; then
        hosts_pids "$1" trireme-train-f
    else
        hosts_pids "$1" "$2"
    fi
}

signal_one() { # SIGNAL WHAT: a process of a random node that has one
    local shuffled pids name
    shuffled=$(printf '%s\n' "${nodes[@]}" | awk -v seed=$RANDOM 'BEGIN { srand(seed) } { print rand(), $0 }' | sort | cut -d' ' -f2)
    for name in $shuffled; do
        [ -z "${broken[$name]:-}" ] || continue
        pids=($(processes_of "$name" "$2"))
        [ ${#pids[@]} -gt 0 ] && kill "-$1" "${pids[RANDOM % ${#pids[@]}]}" 2>/dev/null || continue
        node=$name
        return
    done
    return 1
}

signal_agent() { # SIGNAL
    local pid
    choose_node && pid=$(agent_pid "$node") && kill "-$1" "$pid" 2>/dev/null
}

strike_at_random() { # ACTION: sets $node; fails where there is nothing to strike
    node=$supervisor_host
    case $1 in
    rank_kill) signal_one KILL rank ;;
    rank_segv) signal_one SEGV rank ;;
    rank_stop) signal_one STOP rank ;;
    daemon_kill) signal_one KILL orted ;;
    daemon_stop) signal_one STOP orted ;;
    node_kill) break_node "$1" && hosts_kill "$node" ;;
    node_crash) break_node "$1" && hosts_crash "$node" ;;
    cut) break_node "$1" && hosts_cut "$node" ;;
    flap) break_node cut && hosts_cut "$node" && due[$node]=$((now + 50 + RANDOM % 400)) ;;
    mute | deaf) break_node "$1" && "hosts_$1" "$node" ;;
    freeze) break_node "$1" && hosts_freeze "$node" && hosts_drop "$node" ;;
    agent_stop) signal_agent STOP && break_same "$1" ;;
    agent_kill) signal_agent KILL ;;
    mpirun_kill) kill -9 $(hosts_pids "$supervisor_host" mpirun) 2>/dev/null ;;
    supervisor_kill) kill -9 "$(supervisor_pid)" 2>/dev/null ;;
    esac
}

break_same() { # ACTION: $node, which was chosen already
    broken[$node]=$1
    due[$node]=$((now + 200 + RANDOM % 5800))
}

heal_due() { # [all]
    local name
    for name in "${!broken[@]}"; do
        [ "${1:-}" = all ] || [ $now -ge ${due[$name]} ] || continue
        heal "${broken[$name]}" "$name" || give_up "$name could not be repaired from ${broken[$name]}"
        note "repaired ${broken[$name]} of $name"
        unset "broken[$name]" "due[$name]"
    done
}

# --- the run

start_run() {
    supervise soak "${run_arguments[@]}" &
    run=$!
}

# Standard output and error of `supervise` are those of the newest supervisor; these are of all.
keep_words() {
    cat "$scratch/soak.err" >>"$scratch/soak.all"
}

run_alive() { kill -0 $run 2>/dev/null; }

newest_step() {
    grep -o '"step": [0-9]*' "$scratch/soak/metrics.jsonl" 2>/dev/null | tail -n 1 | grep -o '[0-9]*$' || echo 0
}

makes_steps_beyond() { # STEP
    [ "$(newest_step)" -gt "$1" ]
}

open_files() { # PID: the fewest of several looks, since a file may just be open for a moment
    local least=1000000 count
    for _ in 1 2 3 4 5 6 7 8 9 10; do
        count=$(ls "/proc/$1/fd" 2>/dev/null | wc -l)
        [ $count -ge $least ] || least=$count
        sleep 0.05
    done
    echo $least
}

# Every node has one, and the supervisor hears all of them; sets $attempt. A node that once could not prove
# in time that its ranks were dead is not used again, until there is another supervisor.
all_agents_are_there() {
    attempt=$("$TRIREME_BIN/trireme" status --json "$scratch/soak" 2>/dev/null | python3 -c '
import json, sys
status = json.load(sys.stdin)
states = [node["state"] for node in status["nodes"]]
used = sum(s in ("ready", "spare") for s in states)
print(status["attempt"])
sys.exit(not (status["state"] == "running" and used + states.count("quarantined") == 5 and used >= 2
              and sum(node["ranks"] for node in status["nodes"]) == min(used, 4)))' 2>/dev/null)
}

count_files() { # sets $supervisor_files and $agent_files (the most of any agent), while nothing happens
    local before end=$((SECONDS + 121))
    while :; do
        wait_until 120 "ranks run, and five agents" all_agents_are_there
        before=$attempt
        count_files_now
        sleep 1.5 # what is read is a second old
        ! all_agents_are_there || [ "$attempt" != "$before" ] || return 0
        [ $SECONDS -lt $end ] || give_up "it never stayed as it was for as long as it takes to count files"
    done
}

count_files_now() {
    local name count
    sleep 0.5
    supervisor_files=$(open_files "$(supervisor_pid)")
    agent_files=0
    for name in "${nodes[@]}"; do
        count=$(open_files "$(agent_pid "$name")")
        [ "$count" -le $agent_files ] || agent_files=$count
    done
}

make_text
hosts_up 5 head
write_hostfile "${nodes[@]}"
export SPARES=1
# Every phase of a step takes time; so do writing and a validation.
TRAINER=$(faulty_trainer "*,*,forward,*,slow:8;*,*,grad_exchange,*,slow:8;*,*,optimizer,*,slow:8;*,*,snapshot,*,slow:60;*,*,save,*,slow:150;*,*,evaluate,*,slow:60")
export TRAINER
arguments=(--train-iters 10000000 --lr-decay-iters 4000 --eval-iters 1 --log-interval 1000)
run_arguments=("${arguments[@]}" --save-interval 60 --eval-interval 90 --keep-latest 2
    --min-data-parallel-size 2 --node-wait-ms 60000 --start-timeout-ms 20000
    --lease-ms 3000 --progress-timeout-floor-ms 4000) # as by default, and short: false alarms are welcome

began_ms=$((${EPOCHREALTIME/[.,]/} / 1000))
: >"$history"
start_run
wait_until 120 "the first steps" makes_steps_beyond 10
count_files
first_supervisor_files=$supervisor_files first_agent_files=$agent_files
supervisors=1 struck=0 missed=0
declare -A count=()

began_ms=$((${EPOCHREALTIME/[.,]/} / 1000))
end_ms=$((minutes * 60000))
exponential_ms "$interval_ms"
next_ms=$drawn again_ms=$end_ms looked_ms=0 looked_step=0
now_ms
while [ $now -lt $end_ms ]; do
    heal_due
    if ! run_alive; then
        code=0
        wait $run || code=$?
        keep_words
        [ $code = 137 ] || give_up "the run ended with $code"
        note "a new supervisor"
        supervisors=$((supervisors + 1))
        start_run
    fi
    if [ $now -ge $next_ms ] || [ $now -ge $again_ms ]; then
        if [ $now -ge $next_ms ]; then
            exponential_ms "$interval_ms"
            next_ms=$((now + drawn))
        else
            again_ms=$end_ms
        fi
        action=${faults[RANDOM % ${#faults[@]}]}
        if strike_at_random "$action"; then
            struck=$((struck + 1))
            count[$action]=$((${count[$action]:-0} + 1))
            note "$action on $node"
            [ $((RANDOM % 4)) != 0 ] || again_ms=$((now + RANDOM % 2000))
        else
            missed=$((missed + 1))
            note "$action found nothing to strike"
        fi
    fi
    if [ $((now - looked_ms)) -ge 120000 ]; then # two minutes without a step, whatever happened
        step=$(newest_step)
        [ "$step" != $looked_step ] || give_up "no step was made in two minutes"
        looked_ms=$now looked_step=$step
    fi
    sleep 0.02
    now_ms
done

heal_due all
if ! run_alive; then
    wait $run || [ $? = 137 ] || give_up "the run ended"
    keep_words
    start_run
    supervisors=$((supervisors + 1))
fi
count_files
wait_until 120 "further steps" makes_steps_beyond "$(newest_step)"
kill -TERM "$(supervisor_pid)"
code=0
wait $run || code=$?
keep_words
[ $code = 75 ] || give_up "the run exited $code when it was asked to stop"
steps=$(newest_step)

echo "$struck faults ($(for action in "${!count[@]}"; do echo "$action ${count[$action]}"; done | sort | paste -sd, | sed 's/,/, /g')); $missed found nothing to strike"
python3 - "$scratch/soak/events.jsonl" "$steps" "$supervisors" <<'PY'
import json, statistics, sys
events = [json.loads(line) for line in open(sys.argv[1], encoding="utf-8")]
recovered = [e for e in events if e["event"] == "recovered" and "recovery_s" in e]
seconds = [e["recovery_s"] for e in recovered] or [0]
sources = {}
for e in recovered:
    sources[e.get("source")] = sources.get(e.get("source"), 0) + 1
print("%s steps, %s supervisors, %d attempts, %d faults told, %d recoveries (%s): median %.2f s, longest %.2f s, %d steps lost" % (
    sys.argv[2], sys.argv[3], sum(e["event"] == "attempt" for e in events), sum(e["event"] == "fault" for e in events),
    len(recovered), ", ".join("%s %d" % item for item in sorted(sources.items(), key=str)), statistics.median(seconds), max(seconds),
    sum(e.get("steps_lost", 0) for e in recovered)))
PY
pass "the run went on, and stopped when it was asked to"

[ "$supervisor_files" -le $((first_supervisor_files + 2)) ] ||
    give_up "the supervisor has $supervisor_files files open, and at the beginning $first_supervisor_files"
[ "$agent_files" -le $((first_agent_files + 2)) ] ||
    give_up "an agent has $agent_files files open, and at the beginning $first_agent_files"
pass "open files: the supervisor $first_supervisor_files at the beginning and $supervisor_files at the end, agents $first_agent_files and $agent_files"

code=0
unset TRAINER
train quiet 4 "${arguments[@]}" --exit-interval "$steps" || code=$?
[ $code = 75 ] || { cat "$scratch/quiet.err"; fail "the undisturbed run exited $code"; }
[ "$(basename "$(final quiet)")" = "$(basename "$(final soak)")" ] || fail "the runs ended at $(final quiet) and $(final soak)"
"$TRIREME_BIN/trireme" ckpt diff "$(final quiet)" "$(final soak)" >"$scratch/diff" && grep -q '^identical' "$scratch/diff" ||
    { cat "$scratch/diff"; give_up "the weights differ from those of an undisturbed run"; }
pass "after $steps steps the weights are those of a run that nothing happened to"

# Sockets belong to processes, but for those of the kernel that are timed out.
nothing_left "${nodes[@]}" head
for host in "${nodes[@]}" head; do
    listening=$(hosts_exec "$host" ss -Hltn | grep -v ':22 ' || true)
    [ -z "$listening" ] || fail "$host still listens: $listening"
done
pass "and nobody listens"
finish
