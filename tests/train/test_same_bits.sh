#!/bin/bash
# The same bits at any data-parallel size, thread count, bucket size and recomputation.
. "$(dirname "$0")/lib.sh"
make_text

must_train lanes4 1 --lanes 4
for ranks in 2 3 4; do
    must_train "lanes4_dp$ranks" "$ranks" --lanes 4
    same lanes4 "lanes4_dp$ranks" "4 lanes, accumulation 2: data-parallel 1 and $ranks"
done

must_train lanes8 1
for ranks in 3 5 8; do
    must_train "lanes8_dp$ranks" "$ranks"
    same lanes8 "lanes8_dp$ranks" "8 lanes: data-parallel 1 and $ranks"
done
differ lanes4 lanes8 "another number of lanes gives other bits"

must_train lanes6 1 --gbs 6
for ranks in 4 6; do
    must_train "lanes6_dp$ranks" "$ranks" --gbs 6
    same lanes6 "lanes6_dp$ranks" "6 lanes: data-parallel 1 and $ranks"
done

must_train tp2 2 --gbs 6 --tp 2
for dp in 2 3; do
    must_train "tp2_dp$dp" $((2 * dp)) --gbs 6 --tp 2
    same tp2 "tp2_dp$dp" "tensor-parallel 2: data-parallel 1 and $dp"
done

for threads in 2 8; do
    must_train "threads$threads" 1 --cpu-threads "$threads"
    same lanes8 "threads$threads" "1 and $threads threads"
done
must_train buckets 3 --ddp-bucket-size 0
same lanes8 buckets "one bucket per layer"
must_train one_bucket 3 --ddp-bucket-size 100000000
same lanes8 one_bucket "one bucket for all layers"
for groups in "4 2" "6 2" "6 3" "8 4" "8 2"; do
    set -- $groups
    must_train "groups$1_$2" "$1" --exchange-group-size "$2"
    same lanes8 "groups$1_$2" "$1 ranks that sum in groups of $2 first"
done
for level in attention full; do
    must_train "recompute_$level" 2 --recompute-granularity "$level"
    same lanes8 "recompute_$level" "without recomputation and with that of $level"
done
must_train unclipped 1 --clip-grad 0
differ lanes8 unclipped "clipping was active in these runs"
must_train fastest 2 --reduction fastest
pass "the vendor's reduction runs"

TRAINER=$TRIREME_BIN/../tests/trireme-train-wrong-tree
must_train wrong_tree 8
differ lanes8 wrong_tree "a wrong bracketing of the lanes gives other bits"
finish
