# Shared by the tests on several hosts: those of tests/train (scratch directory, tiny model, runs and
# comparisons), hosts, runs over them, faults, and what may be left behind.
. "$TRIREME_SOURCE/tests/train/lib.sh"
. "$TRIREME_SOURCE/tests/cluster/hosts.sh"

why=$(hosts_able) || { echo "skipped: $why"; exit 77; }

export HOSTS_DIR=$scratch/hosts HOSTS_SHARED=$scratch RELAY=$TRIREME_BIN/../tests/relay
faulty=$TRIREME_BIN/../tests/trireme-train-faults
before_leaving() {
    [ "$code" = 0 ] || agents_evidence
    hosts_down
}
trap 'exit 143' INT TERM HUP
set -E
trap '[ $BASHPID != $$ ] || echo "FAILED: ${BASH_SOURCE[0]##*/}:$LINENO: $BASH_COMMAND" >&2' ERR

agents_evidence() {
    local host
    for host in $(hosts_names); do
        hosts_exec "$host" sh -c 'for log in /tmp/trireme-*/agent.log; do
            [ ! -e "$log" ] || { echo "--- $0: $log" && tail -n 60 "$log"; }
        done' "$host"
    done
}

# What mpirun needs to know of these hosts. A rank that is lost is given no time to say goodbye.
export OMPI_MCA_oob_tcp_if_include=eth0 OMPI_MCA_btl_tcp_if_include=eth0 OMPI_MCA_pml=ob1
export OMPI_MCA_btl=tcp,vader,self OMPI_MCA_plm_rsh_no_tree_spawn=1 OMPI_MCA_odls_base_sigkill_timeout=0

# train_on NAME HOST[:RANKS],... [--key value ...]: a run in $scratch/NAME that mpirun on the first of
# the hosts starts; its exit code.
train_on() {
    local name=$1 hosts=$2 first
    first=${hosts%%,*}
    shift 2
    hosts_exec "${first%:*}" mpirun --host "$hosts" "${TRAINER:-$TRIREME_BIN/trireme-train}" \
        "$scratch/tiny.yaml" --train-data-path "$scratch/${TOKENS:-text.bin}" --run-dir "$scratch/$name" "$@" \
        >"$scratch/$name.out" 2>"$scratch/$name.err" </dev/null
}

must_train_on() { # the same, and a failure ends the test with what the run said
    train_on "$@" || { echo "FAILED: run $1 on $2 (${*:3}) exited $?:"; cat "$scratch/$1.err"; exit 1; }
}

# wait_until SECONDS WHAT COMMAND...: until the command succeeds; a failure of the test if it does not.
wait_until() {
    local end=$((SECONDS + $1 + 1)) what=$2
    shift 2
    until "$@"; do
        [ $SECONDS -lt $end ] || fail "waited in vain until $what"
        sleep 0.02
    done
}

marks=$scratch # where ranks that are parked leave word: a directory for each run, of several at once

# faulty_trainer FAULTS: prints a program that is trireme-train with those faults (tests/faults/fault.h),
# however it is started: neither mpirun nor ssh carry the environment to other hosts.
faulty_trainer() {
    local program
    program=$(mktemp "$scratch/trireme-train.XXXXXX")
    printf '#!/bin/sh\nexport TRIREME_FAULT=%q TRIREME_FAULT_DIR=%q\nexec %q "$@"\n' "$1" "$marks" "$faulty" >"$program"
    chmod +x "$program"
    echo "$program"
}

# parked RANK STEP PHASE: waits until that rank is parked there; sets $parked_host and $parked_attempt.
parked() {
    local name=$marks/parked.$1.$2.$3
    wait_until 180 "rank $1 is parked in $3 of step $2" test -e "$name"
    read -r parked_host _ parked_attempt <"$name"
}

# release RANK STEP PHASE: lets it go on. forget, after it was killed there.
release() { touch "$marks/parked.$1.$2.$3.release"; }
forget() { rm -f "$marks/parked.$1.$2.$3"; }

host_is_clean() {
    remains=$(hosts_remains "$1") && [ -z "$remains" ]
}

# nothing_left HOST...: no process, shared memory or file of a host's own is left, once agents have
# had the time to go; and no stage of a checkpoint.
nothing_left() {
    local host end=$((SECONDS + 61)) stages
    for host in "$@"; do
        until host_is_clean "$host"; do
            [ $SECONDS -lt $end ] || { echo "$remains"; fail "that is left on $host"; }
            sleep 0.1
        done
    done
    stages=$(find "$scratch" -name '.step-*')
    [ -z "$stages" ] || fail "stages of checkpoints are left: $stages"
    pass "nothing is left on $*"
}
