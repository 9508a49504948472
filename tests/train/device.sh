# For tests of the trainer on a device: an emulated GPU, whose streams run in a pseudo-random order
# (tests/fake/gpu/queued.c), with ranks whose NCCL is one of the tests (tests/fake/nccl).
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
make_text

emulated=$TRIREME_BIN/../tests/trireme-train-emulated
export TRIREME_ATTEMPT=1 TRIREME_FAULT="" BAD_SAMPLES="" BAD_LOSS=nan TRIREME_FAKE_GPU_SEED=1
export OMPI_MCA_odls_base_sigkill_timeout=0
short="--train-iters 6 --gbs 4"

# device NAME RANKS [--key value ...]: a run on the device that ends well; on_cpu the same on the CPU.
device() {
    TRAINER=$emulated must_train "$@" $short --device cuda
}
on_cpu() {
    must_train "$@" $short --device cpu
}

# device_ends NAME RANKS CODE [--key value ...]: one that ends with that exit code.
device_ends() {
    local name=$1 ranks=$2 expected=$3 code=0
    shift 3
    TRAINER=$emulated train "$name" "$ranks" "$@" $short --device cuda || code=$?
    [ "$code" = "$expected" ] || { cat "$scratch/$name.err"; fail "run $name exits $code, not $expected"; }
}

says() { # says NAME TEXT
    grep -q -- "$2" "$scratch/$1.err" || { cat "$scratch/$1.err"; fail "run $1 does not say: $2"; }
}

losses() {
    grep -o '"loss": [^,]*' "$scratch/$1/metrics.jsonl" | cut -d' ' -f2
}

# near A B STEPS TOLERANCE WHAT: as many losses, and no two further apart than that share of them.
near() {
    paste <(losses "$1") <(losses "$2") | awk -v steps="$3" -v tolerance="$4" '
        { d = ($1 - $2) / $2; if (d < 0) d = -d; if (!(d <= tolerance)) bad++ }
        END { exit !(NR == steps && bad == 0) }' ||
        { paste <(losses "$1") <(losses "$2"); fail "$5: the losses of $1 and $2 differ"; }
    pass "$5"
}
