#!/bin/bash
# Real runs, killed at calls of each sort while they save behind training, and then continued; and
# runs whose disk fails, fills up, or is slow.
. "$(dirname "$0")/lib.sh"
make_text

must_train whole 1 $settings --train-iters 12 --keep-latest 2
disturb counted 2 count --keep-latest 2 || fail "a counted run: $(cat "$scratch/counted.err")"
equal counted whole "counted"
calls=$(wc -l <"$scratch/counted.calls")
[ "$calls" -gt 150 ] || fail "three saves by two ranks are only $calls calls"
echo "three saves by two ranks, old ones removed: $calls calls"

# The number of the first call of a sort in the save of step 8, or of a later one.
call_of() { # call_of NAME PATH [WHICH [RUN]]
    awk -v name="$1" -v path="$2" -v which="${3:-1}" '$2 ~ name && $3 ~ path && ++n == which { print $1; exit }' \
        "$scratch/${4:-counted}.calls"
}

points="$(call_of mkdir step-00000008) $(call_of pwrite 'step-00000008.*shard-00001')
    $(call_of fsync 'step-00000008.*shard-00000') $(call_of pwrite 'step-00000008.*manifest')
    $(call_of rename '^step-00000008$') $(call_of unlink 'removed')"
[ "$(echo $points | wc -w)" = 6 ] || fail "the calls to be killed at are not there: $points"
for number in $points; do
    name=killed_$number
    code=0
    disturb "$name" 2 "kill:$number" --keep-latest 2 || code=$?
    [ "$code" != 0 ] || fail "to be killed at call $number, it ended"
    where=$(tail -1 "$scratch/$name.calls")
    must_train "$name" 1 $settings --train-iters 12 --keep-latest 2
    said "$name" "resumed from"
    ! grep -q "passed over" "$scratch/$name.err" || fail "killed at call $where: $(cat "$scratch/$name.err")"
    equal "$name" whole "killed at call $where"
    resumed=$(sed -n 's/.*resumed from.*(step \([0-9]*\)).*/\1/p' "$scratch/$name.err")
    # At the last step there is no save any more that would clear up.
    [ "$(hidden "$name")" = 0 ] || [ "$resumed" = 12 ] || fail "killed at call $where: leftovers"
    pass "killed at call $where: resumed from step $resumed, equal"
done

# Both ranks write one file; killed in the middle of its data, and at the second fsync of it.
disturb shared 2 count --keep-latest 2 --shard-group-size 2 || fail "a counted run: $(cat "$scratch/shared.err")"
equal shared whole "two ranks to a file"
[ "$(ls "$(final shared)"/shard-* | wc -l)" = 1 ] || fail "two ranks did not share a file"
for number in $(call_of pwrite 'step-00000008.*shard-00000' 40 shared) $(call_of fsync 'step-00000008.*shard-00000' 2 shared); do
    name=shared_killed_$number
    code=0
    disturb "$name" 2 "kill:$number" --keep-latest 2 --shard-group-size 2 || code=$?
    [ "$code" != 0 ] || fail "to be killed at call $number, it ended"
    where=$(tail -1 "$scratch/$name.calls")
    must_train "$name" 1 $settings --train-iters 12 --keep-latest 2
    said "$name" "resumed from"
    ! grep -q "passed over" "$scratch/$name.err" || fail "killed at call $where: $(cat "$scratch/$name.err")"
    equal "$name" whole "killed at call $where"
    pass "two ranks to a file, killed at call $where: equal"
done

must_disturb() {
    disturb "$@" || fail "$1 ($3) exited $?: $(cat "$scratch/$1.err")"
}

number=$(call_of fsync 'step-00000008.*shard-00000')
must_disturb broken 2 "EIO:$number"
said broken "saving step 8: .*input/output error; training goes on"
[ "$(steps broken)" = "4 12" ] || fail "an I/O error in the save of step 8 leaves $(steps broken)"
equal broken whole "an I/O error"
[ "$(hidden broken)" = 0 ] || fail "the failed save left its stage"
pass "an I/O error in a save: named, training went on, the others are there"

code=0
disturb full 2 "full:$number" || code=$?
[ "$code" = 74 ] || fail "a full disk to the end exits 74, not $code: $(cat "$scratch/full.err")"
said full "saving step 8: .*no space left on device; training goes on"
grep -q '"step": 12,' "$scratch/full/metrics.jsonl" || fail "a full disk: training did not go on to step 12"
[ "$(steps full)" = 4 ] || fail "a full disk leaves $(steps full)"
must_train full 1 $settings --train-iters 12
said full "resumed from .*step-00000004"
equal full whole "after a full disk"
pass "a disk full from step 8 on: named, trained to the end, exit 74; with room again, resumed and equal"

for fault in short interrupt; do
    must_disturb $fault 2 $fault
    equal $fault whole "$fault"
done
pass "every write cut short, every other one interrupted: equal"

# 20 ms for each write and fsync: a save takes half a second, and steps do not wait for it. One of the
# two that others follow shows it: a machine may take its time just where training stands still.
must_disturb slow 2 slow:20000
milliseconds() { # milliseconds STEP FROM TO: what is between two words in the line on that step: "3.2 ms", "1.24 s"
    sed -n "s/.*saved .*step-0000000$1\".*$2 \([0-9.]*\) \([a-zµ]*\)$3.*/\1 \2/p" "$scratch/slow.err" |
        awk '{ print $1 * ($2 == "s" ? 1000 : $2 == "ms" ? 1 : 0.001) }'
}
shown=
for step in 4 8; do
    took=$(milliseconds $step in ';') stood=$(milliseconds $step 'stood still for' '')
    told="a save of $took ms, training stood still for $stood ms"
    awk -v took="$took" -v stood="$stood" 'BEGIN { exit !(took >= 300 && stood > 0 && stood < took / 3) }' || continue
    shown=$told
    break
done
[ -n "$shown" ] || fail "a slow disk: $told, and no better before"
pass "a slow disk: $shown"
finish
