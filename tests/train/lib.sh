# Shared by the training tests: a scratch directory, a tiny model, runs and comparisons.
# TRIREME_BIN and TRIREME_SOURCE come from CTest.
set -euo pipefail

scratch=$(mktemp -d)
passed=0

# What a test that failed leaves for whoever asks why: the ends of what was written last.
evidence() {
    local file
    find "$scratch" -type f \( -name '*.err' -o -name '*.log' -o -name events.jsonl \) -printf '%T@ %p\n' | sort -n | tail -n 4 |
        while read -r _ file; do
            echo "--- ${file#"$scratch/"}"
            tail -n 80 "$file"
        done
}

before_leaving() { :; } # a test that has something to end replaces it
leave() {
    local code=$?
    set +e
    [ $code = 0 ] || [ $code = 77 ] || evidence
    before_leaving
    rm -rf "$scratch"
    exit $code
}
trap leave EXIT

# 251 tokens: not a multiple of anything, so the vocabulary is padded. 48 channels and a sequence of
# 20: no tensor is a multiple of the layout's 1,024 elements.
cat >"$scratch/tiny.yaml" <<'YAML'
model: {num_layers: 2, hidden_size: 48, num_attention_heads: 4, seq_length: 20, vocab_size: 251,
        make_vocab_size_divisible_by: 8}
training: {train_iters: 20, micro_batch_size: 1, global_batch_size: 8, seed: 7}
optimizer: {lr: 3.0e-3, min_lr: 3.0e-4, lr_warmup_iters: 4, clip_grad: 0.5}
parallel: {ddp_bucket_size: 20000, cpu_threads: 1}
evaluation: {eval_iters: 2}
YAML

# Text of bytes below 251, the same each time.
make_text() {
    head -c "${1:-60000}" "$TRIREME_SOURCE/LICENSE" >"$scratch/text"
    for _ in 1 2 3 4 5; do head -c 10000 "$scratch/text" >>"$scratch/text.more"; done
    cat "$scratch/text.more" >>"$scratch/text"
    "$TRIREME_BIN/trireme" data prepare "$scratch/text" -o "$scratch/text.bin" >/dev/null
}

# train NAME RANKS [--key value ...]: a run in $scratch/NAME; its exit code.
train() {
    local name=$1 ranks=$2
    shift 2
    mpirun -np "$ranks" "${TRAINER:-$TRIREME_BIN/trireme-train}" "$scratch/tiny.yaml" \
        --train-data-path "$scratch/${TOKENS:-text.bin}" --run-dir "$scratch/$name" "$@" \
        >"$scratch/$name.out" 2>"$scratch/$name.err" </dev/null
}

# must_train: the same, and a failure ends the test with what the run said.
must_train() {
    train "$@" || { echo "FAILED: run $1 on $2 ranks (${*:3}) exited $?:"; cat "$scratch/$1.err"; exit 1; }
}

final() { # the newest checkpoint of a run
    ls -d "$scratch/$1"/checkpoints/step-* | tail -1
}

# Validation loss with all its digits.
validation() {
    grep -o '"validation_loss": [^,]*' "$scratch/$1/metrics.jsonl" | tail -1
}

pass() {
    passed=$((passed + 1))
    echo "ok $passed - $*"
}

fail() {
    echo "FAILED: $*"
    exit 1
}

# same A B WHAT: weights, moments and validation loss are equal to the last bit.
same() {
    "$TRIREME_BIN/trireme" ckpt diff "$(final "$1")" "$(final "$2")" >"$scratch/diff" ||
        { cat "$scratch/diff"; fail "$3: the weights of $1 and $2 differ"; }
    grep -q '^identical' "$scratch/diff" || fail "$3: ckpt diff did not say identical"
    [ "$(validation "$1")" = "$(validation "$2")" ] || fail "$3: validation $(validation "$1") and $(validation "$2")"
    pass "$3"
}

# differ A B WHAT: the opposite, by exit code 1.
differ() {
    local code=0
    "$TRIREME_BIN/trireme" ckpt diff "$(final "$1")" "$(final "$2")" >"$scratch/diff" || code=$?
    [ "$code" = 1 ] || fail "$3: ckpt diff exited $code"
    pass "$3"
}

finish() {
    echo "$passed passed, 0 failed"
}
