#!/bin/bash
# Saving while training: the same checkpoints as when training waits; and what becomes of a run when
# the disk is full, a save is killed in the middle, or the newest checkpoint is damaged.
. "$(dirname "$0")/lib.sh"
make_text

steps() { # the checkpoints of a run, in one line
    (cd "$scratch/$1/checkpoints" && ls -d step-* 2>/dev/null | sed 's/step-0*//' | xargs)
}

hidden() {
    find "$scratch/$1/checkpoints" -name '.step-*' | wc -l
}

# A run with checkpoints at 5, 10, 15 and 20.
saves="--save-interval 5 --eval-iters 0"

must_train waiting 2 $saves --no-save-async
must_train behind 2 $saves
[ "$(steps waiting)" = "5 10 15 20" ] && [ "$(steps behind)" = "5 10 15 20" ] ||
    fail "the checkpoints are $(steps waiting) and $(steps behind)"
for step in 5 10 15 20; do
    name=checkpoints/step-000000$(printf %02d $step)
    "$TRIREME_BIN/trireme" ckpt diff "$scratch/waiting/$name" "$scratch/behind/$name" >"$scratch/diff" ||
        fail "step $step differs: $(cat "$scratch/diff")"
done
pass "saved behind training or waiting for it: the same four checkpoints, bit for bit"
grep -q 'snapshots' "$scratch/behind.err" || fail "the memory plan does not name the snapshots"
grep -q 'snapshots' "$scratch/waiting.err" && fail "snapshots are planned although saves wait"
[ "$(hidden behind)" = 0 ] || fail "something is left behind"
pass "the memory plan names the snapshots; nothing is left behind"
must_train resumed 3 --train-iters 10 --lr-decay-iters 20 $saves
must_train resumed 1 $saves
"$TRIREME_BIN/trireme" ckpt diff "$(final waiting)" "$(final resumed)" >/dev/null ||
    fail "resumed from an asynchronous checkpoint, the end differs"
pass "resumed from a checkpoint that was written behind training, at another size: equal"

# Retention: the newest two, every 6th for good. Unverified ones go too once two are verified.
must_train pruned 2 --save-interval 2 --keep-latest 2 --keep-every 6 --eval-iters 0
[ "$(steps pruned)" = "6 12 18 20" ] || fail "retention left $(steps pruned)"
grep -q 'read back and is sound; removed older checkpoints' "$scratch/pruned.err" || fail "nothing said of removal"
[ "$(hidden pruned)" = 0 ] || fail "something half removed is left"
pass "keep_latest 2, keep_every 6: left with 6 12 18 20"
must_train best 2 --save-interval 2 --eval-interval 4 --keep-latest 1 --keep-best 1
best=$(python3 - "$scratch/best/metrics.jsonl" <<'PY'
import json, sys
rows = [json.loads(line) for line in open(sys.argv[1])]
print(min((r["validation_loss"], r["step"]) for r in rows if "validation_loss" in r)[1])
PY
)
expected=$(printf '%s\n' "$best" 18 20 | sort -nu | xargs)
[ "$(steps best)" = "$expected" ] || fail "keep_best left $(steps best), not $expected"
pass "keep_best 1: the best, $best, and the newest two verified ones"

# A damaged newest checkpoint is passed over by name, and saved anew once training gets there.
must_train damaged 2 $saves --train-iters 10 --lr-decay-iters 20
python3 - "$(final damaged)" <<'PY'
import json, sys
step = sys.argv[1]
entry = json.load(open(step + "/manifest.json"))["files"][1]
with open(step + "/" + entry["name"], "r+b") as shard:
    offset, size = entry["exp_avg"]
    shard.seek(offset + size // 2)
    byte = shard.read(1)[0]
    shard.seek(offset + size // 2)
    shard.write(bytes([byte ^ 4]))
PY
must_train damaged 2 $saves
grep -q 'passed over checkpoint ".*step-00000010".*shard-00001.h5.*checksum' "$scratch/damaged.err" ||
    fail "the damaged checkpoint is not named: $(cat "$scratch/damaged.err")"
grep -q 'resumed from ".*step-00000005"' "$scratch/damaged.err" || fail "it did not fall back to step 5"
"$TRIREME_BIN/trireme" ckpt diff "$scratch/damaged/checkpoints/step-00000010" "$scratch/waiting/checkpoints/step-00000010" >/dev/null ||
    fail "the damaged step 10 was not saved anew"
"$TRIREME_BIN/trireme" ckpt diff "$(final damaged)" "$(final waiting)" >/dev/null || fail "the end differs"
pass "one flipped bit in the newest: passed over by name, resumed from 5, saved anew, equal at the end"
for shard in "$scratch"/damaged/checkpoints/step-*/shard-00000.h5; do truncate -s 4000 "$shard"; done
code=0
train damaged 2 $saves --train-iters 30 || code=$?
[ "$code" = 65 ] || fail "only damaged checkpoints exit 65, not $code: $(cat "$scratch/damaged.err")"
pass "only damaged checkpoints: exit 65, no fresh start"

# Killed while a save is under way: the one before loads.
name=killed
mpirun -np 2 "$TRIREME_BIN/trireme-train" "$scratch/tiny.yaml" --train-data-path "$scratch/text.bin" \
    --run-dir "$scratch/$name" --save-interval 1 --train-iters 100000 --lr-decay-iters 20 --eval-iters 0 \
    >"$scratch/$name.out" 2>"$scratch/$name.err" </dev/null &
launcher=$!
until [ -d "$scratch/$name/checkpoints/step-00000003" ]; do kill -0 "$launcher" || fail "it ended"; sleep 0.02; done
kill -KILL "$launcher"
wait "$launcher" 2>/dev/null || true
# Its ranks notice, and end.
end=$((SECONDS + 60))
while pgrep -f -- "--run-dir $scratch/$name " >/dev/null; do
    [ $SECONDS -lt $end ] || fail "ranks outlive a mpirun that was killed"
    sleep 0.05
done
newest=$(steps $name | awk '{print $NF}')
must_train $name 2 --save-interval 0 --train-iters $((newest + 2)) --lr-decay-iters 20 --eval-iters 0
must_train straight 1 --train-iters $((newest + 2)) --lr-decay-iters 20 --eval-iters 0
"$TRIREME_BIN/trireme" ckpt diff "$(final $name)" "$(final straight)" >/dev/null || fail "killed: the end differs"
[ "$(hidden $name)" = 0 ] || fail "the stage of the killed save is still there"
pass "killed at about step $newest with a save each step: resumed, equal, leftovers removed"

# A disk that takes neither checkpoints nor metrics: the run may write files of 8 KiB.
cat >"$scratch/small_files" <<'SH'
#!/bin/bash
trap '' XFSZ
ulimit -f "$FILE_KIB"
exec "$TRIREME_BIN/trireme-train" "$@"
SH
chmod +x "$scratch/small_files"
export OMPI_MCA_btl=self FILE_KIB=8
code=0
TRAINER="$scratch/small_files" train files 1 $saves --train-iters 60 --log-interval 60 || code=$?
[ "$code" = 74 ] || fail "a last save that fails exits 74, not $code: $(cat "$scratch/files.err")"
grep -q '^step *60/60' "$scratch/files.out" || fail "training did not go on to step 60: $(cat "$scratch/files.err")"
[ "$(grep -c 'could not write to metrics.jsonl.*training goes on' "$scratch/files.err")" = 1 ] ||
    fail "it is not told once that metrics are missing: $(cat "$scratch/files.err")"
python3 -c 'import json, sys; [json.loads(line) for line in open(sys.argv[1])]' "$scratch/files/metrics.jsonl" ||
    fail "metrics.jsonl has half a line"
pass "no room for checkpoints and metrics: told, trained to the end, exit 74"
# Nor for its configuration, which is there already: a node was lost, say, while the disk is full.
code=0
train again 1 $saves --exit-interval 10 || code=$?
[ "$code" = 75 ] || fail "stopped at 10: exit $code"
code=0
FILE_KIB=1 TRAINER="$scratch/small_files" train again 1 $saves --exit-interval 10 || code=$?
[ "$code" = 74 ] && grep -q '^step *20/20' "$scratch/again.out" ||
    fail "started again on a full disk: exit $code: $(cat "$scratch/again.err")"
unset OMPI_MCA_btl FILE_KIB
pass "started again without room for anything: trained to the end, exit 74"

# A disk that fills up: told with its cause, training goes on, the older checkpoint is kept.
disk=$scratch/disk
mkdir -p "$disk"
if [ "$(id -u)" = 0 ] && mount -t tmpfs -o size=10m tmpfs "$disk" 2>/dev/null; then
    before_leaving() { umount "$disk"; }
    one=$(du -sm "$(final waiting)" | cut -f1)
    code=0
    train full 1 $saves --save "$disk/checkpoints" || code=$?
    if [ "$code" = 0 ]; then fail "10 MiB hold four checkpoints of $one MiB"; fi
    [ "$code" = 74 ] || fail "a last save that fails exits 74, not $code: $(cat "$scratch/full.err")"
    grep -q 'saving step [0-9]*: .*free and the checkpoint takes.*; training goes on' "$scratch/full.err" ||
        fail "no cause is told: $(cat "$scratch/full.err")"
    grep -q '"step": 20,' "$scratch/full/metrics.jsonl" || fail "training did not go on to step 20"
    left=$(ls -d "$disk"/checkpoints/step-* | tail -1)
    [ -z "$(find "$disk/checkpoints" -name '.step-*')" ] || fail "a stage is left on the full disk"
    "$TRIREME_BIN/trireme" ckpt diff "$left" "$scratch/waiting/checkpoints/$(basename "$left")" >/dev/null ||
        fail "what is left on the full disk is not whole"
    pass "disk full: told with its cause, trained to the end, $(basename "$left") is whole, exit 74"
    # With room for the newest two, one on its way and one being removed, retention keeps it going.
    rm -rf "$disk"/checkpoints
    mount -o remount,size=16m "$disk"
    must_train roomy 1 --save-interval 2 --eval-iters 0 --save "$disk/checkpoints" --keep-latest 1
    grep -q 'free and the checkpoint takes' "$scratch/roomy.err" && fail "retention did not make room"
    pass "a disk of 16 MiB with keep_latest: ten saves, and every one fits"
else
    echo "skipped: the full disk (mounting a small tmpfs takes root)"
fi
finish
