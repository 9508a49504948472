#!/bin/bash
# A step allocates nothing: twenty steps more ask for not one allocation more.
. "$(dirname "$0")/lib.sh"
make_text

count() { # count NAME RANKS STEPS: allocations by the program's own code, over all ranks
    LD_PRELOAD=$TRIREME_BIN/../tests/libcount_malloc.so COUNT_MALLOC_FILE=$scratch/count \
        must_train "$1" "$2" --train-iters "$3" --lr-decay-iters 100 --eval-iters 0 --tp "${4:-1}" \
        --replica-check-interval 2 --loss-spike-factor 2 --loss-spike-window 3
    awk '{ sum += $1 } END { print sum }' "$scratch/count"
    rm "$scratch/count"
}

for layout in "1 1" "3 1" "2 2"; do
    set -- $layout
    few=$(count "few$1$2" "$1" 5 "$2")
    many=$(count "many$1$2" "$1" 25 "$2")
    [ "$few" -gt 50 ] || fail "the count does not work: $few"
    [ "$few" = "$many" ] || fail "$1 ranks, tensor-parallel $2: 5 steps make $few allocations, 25 make $many"
    pass "$1 ranks, tensor-parallel $2: $few allocations, in 5 steps as in 25"
done
finish
