#!/bin/bash
# Losses of 20 steps agree to 1e-5 relative at tensor-parallel 1, 2 and 4, with and without sequence
# parallelism.
. "$(dirname "$0")/lib.sh"
make_text

losses() { grep -o '"loss": [^,]*' "$scratch/$1/metrics.jsonl" | cut -d' ' -f2; }

must_train tp1 1
near_tp1() { # RUN WHAT
    paste <(losses tp1) <(losses "$1") | awk -v what="$2" '
        { d = ($1 - $2) / $1; if (d < 0) d = -d; if (d > worst) worst = d; n++ }
        END { printf "%s: largest relative difference %.2e over %d steps\n", what, worst, n
              exit !(n == 20 && worst < 1e-5) }' || fail "losses of $2"
    pass "losses of tensor-parallel 1 and of $2"
}
for tp in 2 4; do
    must_train "tp$tp" "$tp" --tp "$tp"
    near_tp1 "tp$tp" "tensor-parallel $tp"
    must_train "sp$tp" "$tp" --tp "$tp" --sequence-parallel
    near_tp1 "sp$tp" "tensor-parallel $tp with sequence parallelism"
done
[ "$(losses tp2 | head -n 1)" = "$(losses sp2 | head -n 1)" ] || fail "forward bits depend on sequence parallelism"
must_train sp2_dp3 6 --tp 2 --sequence-parallel --recompute-granularity full
same sp2 sp2_dp3 "sequence parallelism: data-parallel 1 and 3, and recomputation"
finish
