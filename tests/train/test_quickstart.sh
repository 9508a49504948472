#!/bin/bash
# The first command of the README, from text to sample, with the loss it must reach.
. "$(dirname "$0")/lib.sh"

TRIREME_RUN=$scratch/run "$TRIREME_SOURCE/examples/quickstart.sh" >"$scratch/out" 2>&1 </dev/null ||
    { cat "$scratch/out"; fail "quickstart.sh exited $?"; }
value() { sed -n "s/^$1: *\([^ ]*\).*/\1/p" "$scratch/out"; }
tokens=$(sed -n 's/.*: \([0-9.]*\)M tokens.*/\1/p' "$scratch/out")
awk -v n="$tokens" 'BEGIN { exit !(n >= 0.5) }' || fail "trained on ${tokens}M tokens, not 0.5M or more"
pass "at least 500 KB of text"
awk -v before="$(value 'loss before')" -v after="$(value 'loss after')" \
    'BEGIN { exit !(before > 5.4 && before < 5.7 && after < 2.0) }' ||
    fail "loss from $(value 'loss before') to $(value 'loss after')"
pass "the loss falls from that of guessing, ln 256, to $(value 'loss after')"
grep -q 'training on 2 ranks' "$scratch/out" && grep -q 'resumed from' "$scratch/out" || fail "no resume"
pass "trained on 2 ranks, resumed on 3"
[ -f "$(value checkpoint)/manifest.json" ] || fail "no checkpoint at $(value checkpoint)"
pass "the checkpoint is where it says"
sample=$(sed -n '/^sample:/,$p' "$scratch/out" | tail -n +2)
[ "${#sample}" -gt 200 ] || fail "sampled ${#sample} characters"
pass "a few lines of text are sampled"
finish
