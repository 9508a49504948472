# `trireme run` on this machine alone: it needs neither hosts nor root. Source it; it makes the scratch
# directory and a small model (tests/train/lib.sh), whose recovery the caller configures in tiny.yaml.
#
#   run NAME RANKS [--key value ...]              $scratch/NAME, supervised, by $TRAINER; its exit code
#   must_end NAME CODE RANKS [--key value ...]    the same, with that exit code
#   tell NAME EVENT...                            its events.jsonl tells them (events.py)
. "$TRIREME_SOURCE/tests/train/lib.sh"
make_text
trireme=$TRIREME_BIN/trireme
faulty=$TRIREME_BIN/../tests/trireme-train-faults
export TMPDIR=$scratch/local TRIREME_FAULT_DIR=$scratch
mkdir "$TMPDIR"

run() {
    local name=$1 ranks=$2
    shift 2
    TRIREME_TRAINER=${TRAINER:-$TRIREME_BIN/trireme-train} "$trireme" run --np "$ranks" "$scratch/tiny.yaml" \
        --train-data-path "$scratch/text.bin" --run-dir "$scratch/$name" "$@" \
        >"$scratch/$name.out" 2>"$scratch/$name.err" </dev/null
}

must_end() {
    local name=$1 wanted=$2 code=0
    shift 2
    run "$name" "$@" || code=$?
    [ "$code" = "$wanted" ] || { cat "$scratch/$name.err"; fail "$name exited $code, not $wanted"; }
}

tell() {
    python3 "$TRIREME_SOURCE/tests/cluster/events.py" "$scratch/$1/events.jsonl" "${@:2}" ||
        { cat "$scratch/$1.err"; fail "events.jsonl of $1 does not tell what happened"; }
}
