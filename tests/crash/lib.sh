# Shared by the tests that disturb real runs of trireme-train.
set -euo pipefail
. "$TRIREME_SOURCE/tests/train/lib.sh"

# Ranks that outlive a killed one take SIGTERM for a request to stop: no second of patience.
export OMPI_MCA_odls_base_sigkill_timeout=0
crash_run=$TRIREME_BIN/../tests/crash-run
settings="--save-interval 4 --lr-decay-iters 12 --eval-iters 0"

# disturb NAME RANKS FAULT [--key value ...]: a run of 12 steps whose calls below its checkpoints are counted in
# $scratch/NAME.calls, with a fault (crash-run says which there are); its exit code.
disturb() {
    local name=$1 ranks=$2 fault=$3
    shift 3
    "$crash_run" "$scratch/$name.calls" "$scratch/$name/checkpoints" "$fault" \
        mpirun -np "$ranks" "$TRIREME_BIN/trireme-train" "$scratch/tiny.yaml" \
        --train-data-path "$scratch/text.bin" --run-dir "$scratch/$name" $settings --train-iters 12 "$@" \
        >"$scratch/$name.out" 2>"$scratch/$name.err" </dev/null
}

steps() { # the checkpoints of a run, in one line
    (cd "$scratch/$1/checkpoints" && ls -d step-* 2>/dev/null | sed 's/step-0*//' | xargs)
}

hidden() {
    find "$scratch/$1/checkpoints" -name '.step-*' | wc -l
}

said() { # said NAME WORDS: in the run's messages
    grep -q -- "$2" "$scratch/$1.err" || fail "$1 does not say \"$2\": $(cat "$scratch/$1.err")"
}

# equal NAME OTHER WHAT: the last checkpoints, bit for bit.
equal() {
    "$TRIREME_BIN/trireme" ckpt diff "$(final "$1")" "$(final "$2")" >"$scratch/diff" ||
        { cat "$scratch/diff"; fail "$3: $1 and $2 end differently"; }
}
