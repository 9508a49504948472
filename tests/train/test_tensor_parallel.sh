#!/bin/bash
# Losses of 20 steps agree to 1e-5 relative at tensor-parallel 1, 2 and 4.
. "$(dirname "$0")/lib.sh"
make_text

losses() { grep -o '"loss": [^,]*' "$scratch/$1/metrics.jsonl" | cut -d' ' -f2; }

must_train tp1 1
for tp in 2 4; do
    must_train "tp$tp" "$tp" --tp "$tp"
    paste <(losses tp1) <(losses "tp$tp") | awk -v tp="$tp" '
        { d = ($1 - $2) / $1; if (d < 0) d = -d; if (d > worst) worst = d; n++ }
        END { printf "tensor-parallel %d: largest relative difference %.2e over %d steps\n", tp, worst, n
              exit !(n == 20 && worst < 1e-5) }' || fail "losses at tensor-parallel $tp"
    pass "losses at tensor-parallel 1 and $tp"
done
finish
