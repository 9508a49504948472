# Shared by the tests of `trireme run` over hosts: supervised runs, faults from outside, and what
# events.jsonl must tell. Sourced behind lib.sh.

supervisor_host=head
hostfile=$scratch/hosts.txt

# write_hostfile NODE...: the nodes of the next supervised run, a slot each.
write_hostfile() {
    printf '%s slots=1\n' "$@" >"$hostfile"
}

# Times as a busy machine needs them: any process may stand still for 5 seconds, and no more than what a
# test strikes is to be called a fault. Each node that is lost costs a lease; its end comes before mpirun
# notices by itself that a cable was pulled (8 s). No rank is taken for one that hangs, but where a test is
# about that.
cat >>"$scratch/tiny.yaml" <<'YAML'
recovery: {heartbeat_interval_ms: 50, lease_ms: 6000, node_retry_ms: 300, node_wait_ms: 60000, linger_ms: 10000,
           start_timeout_ms: 60000, progress_timeout_floor_ms: 60000, quarantine_after: 1000,
           max_attempts_without_progress: 1000, max_same_failures: 1000, memory_interval: 1}
YAML

# supervise NAME [--key value ...]: `trireme run` on the supervisor's host, with $SPARES of the nodes in
# reserve; its exit code. TRAINER and TOKENS as elsewhere; OUTPUT: what its output is called, if not NAME.
supervise() {
    local name=$1
    shift
    hosts_exec "$supervisor_host" env TRIREME_TRAINER="${TRAINER:-$TRIREME_BIN/trireme-train}" \
        "$TRIREME_BIN/trireme" run --hostfile "$hostfile" --rsh "$HOSTS_DIR/rsh" \
        --spares "${SPARES:-0}" "$scratch/tiny.yaml" --train-data-path "$scratch/${TOKENS:-text.bin}" \
        --run-dir "$scratch/$name" "$@" >"$scratch/${OUTPUT:-$name}.out" 2>"$scratch/${OUTPUT:-$name}.err" </dev/null
}

must_supervise() { # the same, and a failure ends the test with what was said
    local code=0
    supervise "$@" || code=$?
    [ $code = 0 ] || { cat "$scratch/${OUTPUT:-$1}.err"; fail "the supervised run $1 exited $code"; }
}

supervisor_pid() { # as this machine numbers it
    local pid
    for pid in $(hosts_pids "$supervisor_host" trireme); do
        tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null | grep -q '/trireme run ' && echo "$pid" && return
    done
    return 1
}

supervisor_port() { # where it listens, all of whose ports are agents' business
    hosts_exec "$supervisor_host" ss -Hltnp | sed -n 's/.*:\([0-9]*\) .*"trireme".*/\1/p' | head -1
}

count_events() { # NAME KIND
    local count
    count=$(grep -c "\"event\":\"$2\"" "$scratch/$1/events.jsonl" 2>/dev/null) || true
    echo "${count:-0}"
}

has_events() { # NAME KIND AT_LEAST
    [ "$(count_events "$1" "$2")" -ge "$3" ]
}

# must_tell NAME EVENT...: events.jsonl tells them in this order, with others in between. An EVENT is
# `KIND key=value key~regex ...`.
must_tell() {
    local name=$1
    shift
    python3 "$TRIREME_SOURCE/tests/cluster/events.py" "$scratch/$name/events.jsonl" "$@" ||
        { cat "$scratch/$name.err"; fail "events.jsonl of $name does not tell what happened"; }
}

# ranks_know NAME: the rank $parked_host and $parked_attempt are of is asked to stop, and does so at the
# step behind the one in which it is released. That the supervisor was asked says less: the few steps
# that are left may be over sooner than its word arrives.
ranks_know() {
    local key
    key=$(grep -o '[0-9a-f]\{16\}' "$scratch/$1/supervisor/run.json")
    hosts_exec "$parked_host" grep -qs "asked to stop attempt $parked_attempt: its ranks know" \
        "/tmp/trireme-$key-$parked_host/agent.log"
}

# strike ACTION: what a person or fate does to the host $parked_host, on which a rank is parked.
strike() {
    case $1 in
    node_kill) hosts_kill "$parked_host" ;;
    node_crash) hosts_crash "$parked_host" ;;
    cut) hosts_cut "$parked_host" ;;
    drop) hosts_drop "$parked_host" ;;
    mute) hosts_mute "$parked_host" ;;
    deaf) hosts_deaf "$parked_host" ;;
    freeze) hosts_freeze "$parked_host" && hosts_drop "$parked_host" ;;
    mpirun_kill) kill -9 "$(hosts_pids "$supervisor_host" mpirun)" ;;
    agent_kill) kill -9 "$(agent_pid "$parked_host")" ;;
    agent_stop) kill -STOP "$(agent_pid "$parked_host")" ;;
    *) fail "there is no fault \"$1\"" ;;
    esac
}

heal() { # ACTION HOST
    case $1 in
    node_kill | node_crash) hosts_boot "$2" ;;
    cut) hosts_mend "$2" ;;
    drop) hosts_undrop "$2" ;;
    mute | deaf) hosts_hear "$2" ;;
    freeze) hosts_undrop "$2" && hosts_thaw "$2" ;;
    agent_stop) kill -CONT "$(agent_pid "$2")" 2>/dev/null || true ;;
    esac
}

agent_pid() { # HOST
    local pid
    for pid in $(hosts_pids "$1" trireme); do
        tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null | grep -q '/trireme agent' && echo "$pid" && return
    done
    return 1
}

# fault_string FAULT...: each FAULT is ACTION:PHASE:STEP:RANK; the n-th strikes attempt n. Actions of the
# failpoints (kill, segv, stop, kill_parent, ...) are theirs; for the others the rank is parked there, and
# behind those that strike its parent: else it would be steps further when that is noticed, or through.
fault_string() {
    local attempt=0 fault action phase step rank text=
    for fault in "$@"; do
        IFS=: read -r action phase step rank <<<"$fault"
        attempt=$((attempt + 1))
        case $action in
        kill | segv | abort | stop | hang | nan) ;;
        kill_parent | stop_parent) action="$action;$rank,$step,$phase,$attempt,park" ;;
        *) action=park ;;
        esac
        text="$text$rank,$step,$phase,$attempt,$action;"
    done
    echo "${text%;}"
}

# The rank whose parent is killed may leave its mark later than the fault is noticed: one of another
# attempt is none.
has_parked() { # NAME ATTEMPT
    local attempt
    { read -r _ _ attempt <"$marks/parked.$1"; } 2>/dev/null && [ "$attempt" = "$2" ]
}

has_parked_or_ended() { # PID NAME ATTEMPT
    has_parked "$2" "$3" || ! kill -0 "$1" 2>/dev/null
}

has_faults_or_ended() { # PID NAME AT_LEAST
    has_events "$2" fault "$3" || ! kill -0 "$1" 2>/dev/null
}

# suffer NAME FAULT...: a supervised run that meets all of these faults, one in each attempt, while this
# script does to the hosts what has to be done from outside, and repairs them once it was noticed.
# Further arguments for the run: the array run_arguments.
suffer() {
    local name=$1 number=0 fault action phase step rank code=0 run
    shift
    TRAINER=$(faulty_trainer "$(fault_string "$@")") supervise "$name" "${run_arguments[@]}" &
    run=$!
    for fault in "$@"; do
        IFS=: read -r action phase step rank <<<"$fault"
        number=$((number + 1))
        case $action in
        kill | segv | abort | stop | kill_parent | stop_parent | hang | nan)
            wait_until 180 "$fault strikes" has_faults_or_ended "$run" "$name" $number
            forget "$rank" "$step" "$phase"
            continue
            ;;
        esac
        wait_until 180 "$fault strikes" has_parked_or_ended "$run" "$rank.$step.$phase" $number
        has_parked "$rank.$step.$phase" $number || { cat "$scratch/$name.err"; fail "the run ended before $fault struck"; }
        parked "$rank" "$step" "$phase"
        local host=$parked_host
        strike "$action"
        forget "$rank" "$step" "$phase"
        wait_until 180 "$action of $host is noticed ($fault)" has_events "$name" fault $number
        heal "$action" "$host"
    done
    wait $run || code=$?
    [ $code = 0 ] || { cat "$scratch/$name.err"; fail "the run $name exited $code after ${*}"; }
}
