#!/bin/bash
# Any layout to any layout: saved at step 10 in one of {1x1, 2x1, 1x3, 2x2} (tensor x data), loaded
# in another. Right after the load every tensor is the same to the last bit; where the
# tensor-parallel size is the same, so are the weights at step 20, of a run that never stopped.
# 2x2 saves into files that ranks share, the others into one each.
. "$(dirname "$0")/lib.sh"
make_text

layouts="1x1 2x1 1x3 2x2"
run() { # run NAME LAYOUT [--key value ...]
    local name=$1 tensor=${2%x*} data=${2#*x}
    shift 2
    must_train "$name" $((tensor * data)) --tp "$tensor" --lr-decay-iters 20 --eval-iters 0 "$@"
}
at() { echo "$scratch/$1/checkpoints/step-$(printf %08d "$2")"; }
identical() { "$TRIREME_BIN/trireme" ckpt diff "$1" "$2" >"$scratch/diff" || { cat "$scratch/diff"; fail "$3"; }; }

for layout in 1x1 2x1; do
    run "whole_$layout" "$layout" --train-iters 20
done
for from in $layouts; do
    shared=
    [ "$from" != 2x2 ] || shared="--shard-group-size 3" # three ranks to a file, and one alone
    run "from_$from" "$from" --train-iters 10 $shared
done
[ "$(ls "$(at from_2x2 10)"/shard-* | wc -l)" = 2 ] || fail "2x2 left other than two shards"
for from in $layouts; do
    for to in $layouts; do
        name="${from}_to_$to"
        said="the tensors"
        if [ "${from%x*}" = "${to%x*}" ]; then
            run "$name" "$to" --load "$(at "from_$from" 10)" --train-iters 20 --save-interval 10
            identical "$(at "whole_${to%x*}x1" 20)" "$(at "$name" 20)" "$name: not the run that never stopped"
            said="the tensors at step 10 of the save, and all weights and moments at step 20"
        fi
        run "loaded_$name" "$to" --load "$(at "from_$from" 10)" --train-iters 10
        identical "$(at "from_$from" 10)" "$(at "loaded_$name" 10)" "$name: right after the load the tensors differ"
        pass "$name: $said"
    done
done
finish
