#!/bin/bash
# The newest checkpoint of a real run, damaged in every way that a file can be: it is named, the one
# before is used, and the run ends as if nothing had happened.
. "$(dirname "$0")/lib.sh"
make_text

must_train whole 2 $settings --train-iters 12
must_train start 2 $settings --train-iters 8
# The same steps of another run, and of the same configuration saved another time.
must_train other 2 $settings --train-iters 8 --seed 8
must_train twin 2 $settings --train-iters 8

newest=checkpoints/step-00000008
older=checkpoints/step-00000004

# damage NAME WHAT WORDS COMMAND...: does COMMAND in a copy of the run; WORDS are what it must say.
damage() {
    local name=$1 what=$2 words=$3
    shift 3
    cp -r "$scratch/start" "$scratch/$name"
    (cd "$scratch/$name" && "$@")
    train "$name" 1 $settings --train-iters 12 || fail "$what: exit code $?: $(cat "$scratch/$name.err")"
    said "$name" "passed over checkpoint \".*step-00000008\": .*$words"
    said "$name" 'resumed from ".*step-00000004"'
    equal "$name" whole "$what"
    pass "$what: $(sed -n 's/.*passed over checkpoint "[^"]*": //p' "$scratch/$name.err" | sed "s#[^ \"]*/checkpoints/##" | head -1)"
}

damage deleted "a shard deleted" shard-00001.h5 rm $newest/shard-00001.h5
damage shorter "a shard one byte shorter" shard-00000.h5 truncate -s -1 $newest/shard-00000.h5
damage emptied "a shard emptied" shard-00000.h5 truncate -s 0 $newest/shard-00000.h5
damage longer "a shard with more at its end" shard-00001.h5 truncate -s +4096 $newest/shard-00001.h5
damage step "a shard of another step" shard-00001.h5 cp $older/shard-00001.h5 $newest/shard-00001.h5
damage run "a shard of another run" shard-00001.h5 cp ../other/$newest/shard-00001.h5 $newest/shard-00001.h5
damage save "a shard of another save of the same state" shard-00000.h5 \
    cp ../twin/$newest/shard-00000.h5 $newest/shard-00000.h5
damage places "two shards in each other's place" shard-0000 \
    sh -c "mv $newest/shard-00000.h5 x && mv $newest/shard-00001.h5 $newest/shard-00000.h5 && mv x $newest/shard-00001.h5"
damage folder "a folder in a shard's place" shard-00001.h5 \
    sh -c "rm $newest/shard-00001.h5 && mkdir $newest/shard-00001.h5"
damage manifest "the manifest deleted" manifest.json rm $newest/manifest.json
damage cut "the manifest cut short" manifest.json truncate -s 1000 $newest/manifest.json
damage older "the manifest of another step" "shard-00000.h5\|of step 4" cp $older/manifest.json $newest/manifest.json
damage hollow "nothing but its folder" manifest.json sh -c "rm $newest/*"
damage twice "another step under its name" "of step 4" sh -c "rm -r $newest && cp -r $older $newest"

name=all
cp -r "$scratch/start" "$scratch/$name"
rm "$scratch/$name/$newest/shard-00000.h5" "$scratch/$name/$older/manifest.json"
code=0
train $name 1 $settings --train-iters 12 || code=$?
[ "$code" = 65 ] || fail "no sound checkpoint exits 65, not $code: $(cat "$scratch/$name.err")"
said $name "none of the 2 checkpoints .* is sound"
pass "no sound checkpoint at all: exit 65, no fresh start"
finish
