#!/bin/bash
# checkpoint.h5, as a person's tools see it, against what the trainer holds: tensor-parallel 2 x
# data-parallel 3, every kind, bit for bit; moved; and with a shard missing.
. "$(dirname "$0")/lib.sh"
python=/usr/bin/python3
dump=$(dirname "$TRIREME_BIN")/tests/dump_tensors
"$python" -c 'import h5py' 2>/dev/null || { echo "skipped: $python has no h5py"; exit 77; }
make_text

compare() { "$python" "$TRIREME_SOURCE/tests/train/compare_view.py" "$1" "$scratch/held" >"$scratch/compared"; }

must_train six 6 --tp 2 --train-iters 6 --lr-decay-iters 20 --eval-iters 0
step=$(final six)
[ "$(ls "$step"/shard-*.h5 | wc -l)" = 6 ] || fail "six ranks leave six shards"
must_train shared 6 --tp 2 --train-iters 6 --lr-decay-iters 20 --eval-iters 0 --shard-group-size 4 --save-interval 3
[ "$(ls "$(final shared)"/shard-*.h5 | wc -l)" = 2 ] || fail "six ranks, four to a shard, leave two"

# What a trainer of one rank holds after it loaded that: read from its own single shard.
must_train one 1 --load "$step" --train-iters 6 --lr-decay-iters 20 --eval-iters 0
mkdir "$scratch/held"
"$dump" "$(final one)" "$scratch/held"
compare "$step" || { cat "$scratch/compared"; fail "the view is not what the trainer holds"; }
pass "tensor-parallel 2 x data-parallel 3: $(cat "$scratch/compared")"
compare "$(final shared)" || { cat "$scratch/compared"; fail "the view of shared shards is not what the trainer holds"; }
"$TRIREME_BIN/trireme" ckpt verify "$(final shared)" >/dev/null || fail "shared shards do not verify"
pass "the same, four ranks to a shard: $(cat "$scratch/compared")"
compare "$(final one)" || fail "the view of one shard is not what the trainer holds"
pass "one rank: $(cat "$scratch/compared")"

mkdir "$scratch/elsewhere"
mv "$step" "$scratch/elsewhere/moved"
(cd / && compare "$scratch/elsewhere/moved") || fail "moved, the view reads otherwise"
(cd "$scratch/elsewhere/moved" && compare .) || fail "seen from inside, the view reads otherwise"
pass "moved elsewhere: the same"

example="$python $TRIREME_SOURCE/examples/read_checkpoint.py"
$example "$scratch/one/checkpoints" >"$scratch/list"
grep -q '^step 6 of run' "$scratch/list" || fail "the example lists no step"
name=$(awk 'NR == 3 { print $1 }' "$scratch/list")
$example "$scratch/elsewhere/moved" "$name" --kind exp_avg --log >"$scratch/histogram"
[ "$(grep -c '\.\.' "$scratch/histogram")" = 20 ] || fail "the example draws no histogram"
grep -q 'NaN' "$scratch/histogram" && fail "the example saw NaN in a whole tensor"
pass "examples/read_checkpoint.py: a list and a histogram of exp_avg of $name"

if command -v h5dump >/dev/null && command -v h5ls >/dev/null; then
    h5ls -r "$scratch/elsewhere/moved/checkpoint.h5" >"$scratch/h5ls"
    grep -q "^/exp_avg_sq/$name  *Dataset" "$scratch/h5ls" || fail "h5ls does not show $name"
    h5dump -d "/parameter/$name" -s 0,0 -c 1,1 "$scratch/elsewhere/moved/checkpoint.h5" >"$scratch/h5dump"
    grep -q '(0,0): ' "$scratch/h5dump" || fail "h5dump does not read $name"
    pass "h5ls and h5dump"
else
    missing="h5dump and h5ls"
fi

rm "$scratch/elsewhere/moved/shard-00004.h5"
compare "$scratch/elsewhere/moved" && fail "a missing shard goes unnoticed"
grep -q 'are NaN$' "$scratch/compared" || fail "a missing shard is not NaN"
grep -q 'not all that differ' "$scratch/compared" && fail "a missing shard changes other elements"
pass "a missing shard reads NaN, the rest is right: $(tail -1 "$scratch/compared")"
[ -z "${missing:-}" ] || { echo "skipped: no $missing"; exit 77; }
finish
