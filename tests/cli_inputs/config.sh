#!/usr/bin/env bash
# Bad configurations and flags on the real program: one exact sentence, exit code 78, nothing started.
# Needs TRIREME_BIN, the directory of trireme-train; CTest sets it.
set -u
train=${TRIREME_BIN:?must name the directory of trireme-train}/trireme-train
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
cases=0
failures=0

fail() {
    failures=$((failures + 1))
    printf 'FAILED: %s\n  got: %s\n' "$1" "$(head -c 600 output)"
}

# expect SENTENCE ARGUMENT...: the sentence stands in the output, once, and nothing was made.
expect() {
    local sentence=$1 status times before
    shift
    cases=$((cases + 1))
    before=$(ls -A)
    "$train" "$@" >output 2>&1 </dev/null
    status=$?
    times=$(grep -cF -- "$sentence" output)
    [ "$status" -eq 78 ] || fail "exit code $status for $*"
    [ "$times" -eq 1 ] || fail "'$sentence' stands $times times for $*"
    rm -f output
    [ "$before" = "$(ls -A)" ] || fail "something was made by $*"
}

# expect_text SENTENCE YAML: the same for a file t.yaml; \n and \x in YAML are escapes.
expect_text() {
    printf '%b' "$2" >t.yaml
    expect "$1" t.yaml
    rm -f t.yaml
}

int="give a whole number, 1 to 1000 (layers)"
data='data: {train_data_path: [a.bin]}\n'

# The file.
mkdir folder
mkfifo pipe
head -c 10000000 /dev/urandom >noise.yaml
: >empty.yaml
printf 'data: {train_data_path: [a.bin]}\n' >good.yaml
expect "missing.yaml: there is no such file; give the path of a YAML file" missing.yaml
expect "folder: this is a directory; give the path of a YAML file" folder
expect "pipe: this is not a regular file; give the path of a YAML file" pipe
expect "noise.yaml: the file has 10000000 bytes; a configuration has at most 1048576" noise.yaml
expect "empty.yaml: the file is empty; write sections such as 'model:' with lines of 'key: value'" \
    empty.yaml
expect_text "t.yaml: there is no key in it; write sections such as 'model:' with lines of 'key: value'" \
    '# nothing\n'
expect_text "t.yaml:1:1: byte 0x00 is not printable UTF-8 text; is this a configuration file?" \
    '\0000\0001\n'
expect_text "t.yaml:2:1: a tab stands here; indent with spaces" 'model:\n\tnum_layers: 2\n'
expect_text "t.yaml:3:1: found unexpected end of stream while scanning a quoted scalar begun on line 2; check quotes, brackets, colons and indentation" \
    'run:\n  run_dir: "abc\n'
expect_text "t.yaml:1:8: an anchor (&name) is not supported; remove it" 'model: &m\n  num_layers: 2\n'
expect_text "t.yaml:3:1: a second document begins here; keep one" 'run:\n  save: x\n---\na: b\n'

# Keys and values.
expect_text "t.yaml:2:3: unknown key 'hiden_size' in section 'model'; did you mean 'hidden_size'?" \
    'model:\n  hiden_size: 64\n'
expect_text "t.yaml:1:1: unknown section 'modle'; did you mean 'model'?" 'modle:\n  num_layers: 2\n'
expect_text "t.yaml:2:3: key 'lr' belongs to section 'optimizer', not 'model'; move it there" \
    'model:\n  lr: 1\n'
expect_text "t.yaml:3:3: key 'lr' is set twice, first on line 2; keep one" \
    'optimizer:\n  lr: 1\n  lr: 2\n'
expect_text "t.yaml:2:15: num_layers: '3.5' is not a whole number in plain digits; $int" \
    'model:\n  num_layers: 3.5\n'
expect_text "t.yaml:2:15: num_layers: '0' is out of range; $int" 'model:\n  num_layers: 0\n'
expect_text "t.yaml:2:15: num_layers: a list stands here; give one whole number" \
    'model:\n  num_layers: [1]\n'
expect_text "t.yaml:2:7: lr: '0.1z' is not a decimal number; give a number, 0 to 100" \
    'optimizer:\n  lr: 0.1z\n'
expect_text "t.yaml:2:7: lr: 'nan' is not a decimal number; give a number, 0 to 100" \
    'optimizer:\n  lr: nan\n'
expect_text "t.yaml:2:6: lr has no value; give one or remove the line" 'optimizer:\n  lr:\n'

# Flags.
expect "unknown flag '--hiden-size'; did you mean '--hidden-size'?" good.yaml --hiden-size 64
expect "--lr needs a value; write --lr VALUE or --lr=VALUE" good.yaml --lr
expect "lr is set twice, by '--lr' and by '--lr'; keep one" good.yaml --lr 1 --lr 2
expect "argument 'stray' belongs to no flag; write --name VALUE" good.yaml --lr 1 stray
expect "--lr: '-1' is out of range; give a number, 0 to 100" good.yaml --lr -1
expect "--tp: '0' is out of range; give a whole number, 1 to 1024 (ranks)" good.yaml --tp 0

# What must fit together.
expect "hidden_size 770 is not a multiple of num_attention_heads 12; hidden_size 768 or 780 would fit" \
    good.yaml --hidden-size 770
expect "global_batch_size 20 is not a multiple of micro_batch_size 2 x lanes 4 = 8; global_batch_size 16 or 24 would fit" \
    good.yaml --gbs 20 --mbs 2 --lanes 4
expect "tensor_model_parallel_size 5 does not divide num_attention_heads 12; tensor_model_parallel_size 4 or 6 would fit" \
    good.yaml --tp 5
expect "the number of ranks, 1, is not a multiple of tensor_model_parallel_size 2; 2 ranks would fit" \
    good.yaml --tp 2
expect "data_parallel_size 2 x tensor_model_parallel_size 1 = 2 is not the number of ranks, 1; start 2 ranks, or use data_parallel_size 1" \
    good.yaml --dp 2
expect "min_lr 0.01 is above lr 0.001; min_lr 0 to 0.001 fits" good.yaml --lr 1e-3 --min-lr 1e-2
expect_text "split '95' is not two proportions TRAIN,VALID with TRAIN above 0; 95,5 would fit" \
    'data: {train_data_path: [a.bin], split: "95"}\n'
expect_text "train_data_path is not set; name token files in section 'data' or with --train-data-path FILE" \
    'model: {num_layers: 2}\n'
expect_text "ckpt_step 100 asks for a checkpoint, but load is none; use load auto or a path, or ckpt_step -1" \
    "${data}run: {load: none, ckpt_step: 100}\n"

printf '%d bad inputs, %d failures\n' "$cases" "$failures"
[ "$failures" -eq 0 ]
