#!/bin/bash
# Bad configurations, command lines, token files and checkpoints: each gives its one sentence and
# exit code 78 before any work. The sentences are in bad_input.expected, a line per case;
#   test_bad_input.sh --print        prints what the program says now, in that form.
. "$(dirname "$0")/lib.sh"
print=${1:-}
expected=$(realpath "$(dirname "$0")")/bad_input.expected
make_text
cd "$scratch"
got=$scratch/got
: >"$got"

# A build with CUDA finds no GPU, and says why; one without says that.
no_gpu='s/this machine has no GPU that CUDA can use (.*)/there is no GPU/; s/this build has no CUDA/there is no GPU/'

# run NAME CONFIG [ARGUMENT ...]: what the program says, without time and scratch path.
run() {
    local name=$1 code=0 said
    shift
    "$TRIREME_BIN/trireme-train" "$@" >out 2>err </dev/null || code=$?
    said=$(sed -n 's/^[0-9:]* error: //p' err | sed "s#$scratch/##g; $no_gpu" | head -n 1)
    [ -z "$print" ] && [ "$code" != 78 ] && fail "$name: exit code $code, not 78: $(head -n 3 err)"
    grep -q '^step' out && fail "$name: it trained"
    printf '%s: %s\n' "$name" "$said" >>"$got"
}

base() { sed 's/#.*//' tiny.yaml; echo "data: {train_data_path: [text.bin]}"; }
base >good.yaml

# with NAME TEXT: the good configuration with one line more or changed by a sed script.
edit() {
    sed -e "$2" good.yaml >"$1.yaml"
    run "$1" "$1.yaml"
}
text() {
    printf '%b' "$2" >"$1.yaml"
    run "$1" "$1.yaml"
}
flag() {
    local name=$1
    shift
    run "$name" good.yaml "$@"
}

# Configuration files.
run missing-file nowhere.yaml
mkdir directory.yaml
run directory directory.yaml
text empty-file ''
text comment-alone '# nothing\n'
head -c 10000000 /dev/urandom >noise.yaml
run noise-of-10-MB noise.yaml
text binary '\x00\x01\x02\x03'
text list-at-top '- a\n- b\n'
text scalar-at-top 'hello\n'
text two-documents 'model: {num_layers: 2}\n---\nmodel: {num_layers: 3}\n'
text unclosed 'model: {num_layers: 2\n'
text unknown-section 'modle: {num_layers: 2}\n'
text unknown-key 'model: {num_layer: 2}\n'
text wrong-section 'model: {lr: 0.1}\n'
text duplicate-key 'model: {num_layers: 2, num_layers: 2}\n'
text fraction-for-a-count 'model: {num_layers: 3.5}\n'
text letters-in-a-number 'optimizer: {lr: 0.1z}\n'
text word-for-a-count 'model: {num_layers: many}\n'
text negative-count 'model: {num_layers: -1}\n'
text count-over-its-range 'model: {num_layers: 1001}\n'
text count-over-64-bits 'training: {seed: 99999999999999999999}\n'
text nan 'optimizer: {lr: .nan}\n'
text infinite 'optimizer: {lr: inf}\n'
text bad-choice 'optimizer: {lr_decay_style: cosin}\n'
text list-for-a-number 'model: {num_layers: [2]}\n'
text number-for-a-section 'model: 3\n'
text alias 'model: &m {num_layers: 2}\ntraining: *m\n'
text no-value 'model: {num_layers: }\n'

# What one key alone can't tell.
edit heads-dont-divide 's/num_attention_heads: 4/num_attention_heads: 5/'
flag batch-does-not-divide --gbs 7 --mbs 2
flag lanes-dont-divide --lanes 3
flag tensor-size-over-ranks --tp 2
flag data-size-against-ranks --dp 4
flag min-lr-over-lr --min-lr 1
flag heads-by-tensor-size --tp 8
flag bad-split --split 5
flag split-of-nothing --split 0,5
text no-data 'model: {num_layers: 2, hidden_size: 48, num_attention_heads: 4}\n'

# Command line.
flag unknown-flag --hiden-size 3
flag missing-value --lr
flag stray-word extra
flag flag-twice --lr 0.1 --lr 0.2
flag bad-flag-value --lr fast
flag cuda-without-a-gpu --device cuda

# Token files.
flag missing-tokens --train-data-path none.bin
flag directory-as-tokens --train-data-path directory.yaml
: >zero.bin
flag empty-tokens --train-data-path zero.bin
head -c 1001 text.bin >odd.bin
flag truncated-tokens --train-data-path odd.bin
printf '\1\0\2\0\3' >raw-odd.bin
flag odd-length --train-data-path raw-odd.bin
printf '\1\0\2\0\3\0' >short.bin
flag fewer-than-a-sample --train-data-path short.bin
head -c 4000 /dev/zero | tr '\0' '\377' >high.bin
flag token-over-vocabulary --train-data-path high.bin
cp text.bin prefix.bin
printf 'garbage' >prefix.idx
flag bad-index --train-data-path prefix.bin
head -c 8 text.bin >header.bin
flag cut-header --train-data-path header.bin
flag zero-weight --train-data-path '0 text.bin'

# Checkpoints.
flag missing-checkpoint --load nowhere
flag missing-step --ckpt-step 7
must_train made 1 --train-iters 2 --lr-warmup-iters 0 --eval-iters 0
flag missing-step-among-others --run-dir made --ckpt-step 7
flag afresh-over-checkpoints --run-dir made --load none
flag other-model --run-dir made --num-layers 3

if [ -n "$print" ]; then
    cat "$got"
    exit 0
fi
diff "$expected" "$got" || fail "the program's sentences (>) are not the expected ones (<)"
passed=$(wc -l <"$got")
[ "$passed" -ge 40 ] || fail "only $passed cases"
finish
