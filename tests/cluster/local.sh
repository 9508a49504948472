# `trireme run` on this machine alone: it needs neither hosts nor root. Source it; it makes the scratch
# directory and a small model (tests/train/lib.sh), whose recovery the caller configures in tiny.yaml.
#
#   run NAME RANKS [--key value ...]              $scratch/NAME, supervised, by $TRAINER; its exit code
#   must_end NAME CODE RANKS [--key value ...]    the same, with that exit code
#   begin NAME RANKS [--key value ...]            in the background, as process $supervised
#   await NAME WHAT COMMAND...                    until the command succeeds, while that run lives
#   parked NAME RANK STEP PHASE                   until that rank is parked there
#   release RANK STEP PHASE                       lets it go on
#   ends NAME CODE                                waits for the run's end, with that exit code
#   tell NAME EVENT...                            its events.jsonl tells them (events.py)
#   ranks_know NAME                               attempt 1 of the run was asked to stop, and its ranks know
#   agents_are_gone                               waits for that: they may outlive their supervisor a little
. "$TRIREME_SOURCE/tests/train/lib.sh"
make_text
trireme=$TRIREME_BIN/trireme
faulty=$TRIREME_BIN/../tests/trireme-train-faults
export TMPDIR=$scratch/local TRIREME_FAULT_DIR=$scratch
mkdir "$TMPDIR"
become= # exec, where the shell is one of its own

run() {
    local name=$1 ranks=$2
    shift 2
    $become env TRIREME_TRAINER="${TRAINER:-$TRIREME_BIN/trireme-train}" "$trireme" run --np "$ranks" "$scratch/tiny.yaml" \
        --train-data-path "$scratch/text.bin" --run-dir "$scratch/$name" "$@" \
        >"$scratch/$name.out" 2>"$scratch/$name.err" </dev/null
}

must_end() {
    local name=$1 wanted=$2 code=0
    shift 2
    run "$name" "$@" || code=$?
    [ "$code" = "$wanted" ] || { cat "$scratch/$name.err"; fail "$name exited $code, not $wanted"; }
}

begin() {
    become=exec run "$@" &
    supervised=$!
}

await() {
    local name=$1 what=$2 end=$((SECONDS + 181))
    shift 2
    until "$@"; do
        [ $SECONDS -lt $end ] && kill -0 $supervised || { cat "$scratch/$name.err"; fail "waited in vain until $what"; }
        sleep 0.02
    done
}

parked() {
    await "$1" "rank $2 is parked in $4 of step $3" test -e "$scratch/parked.$2.$3.$4"
}

release() {
    touch "$scratch/parked.$1.$2.$3.release"
}

ends() {
    local code=0
    wait $supervised || code=$?
    [ "$code" = "$2" ] || { cat "$scratch/$1.err"; fail "$1 exited $code, not $2"; }
}

ranks_know() {
    local key
    key=$(grep -o '[0-9a-f]\{16\}' "$scratch/$1/supervisor/run.json")
    grep -qs 'asked to stop attempt 1: its ranks know' "$TMPDIR"/trireme-"$key"-*/agent.log
}

agents_are_gone() {
    local end=$((SECONDS + 61))
    until [ -z "$(ls -A "$TMPDIR")" ]; do
        [ $SECONDS -lt $end ] || { ls -lR "$TMPDIR"; fail "files are left"; }
        sleep 0.1
    done
}

tell() {
    python3 "$TRIREME_SOURCE/tests/cluster/events.py" "$scratch/$1/events.jsonl" "${@:2}" ||
        { cat "$scratch/$1.err"; fail "events.jsonl of $1 does not tell what happened"; }
}
