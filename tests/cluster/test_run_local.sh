#!/bin/bash
# `trireme run` on this machine alone.
set -euo pipefail
. "$TRIREME_SOURCE/tests/cluster/local.sh"
cat >>"$scratch/tiny.yaml" <<'YAML'
# A rank that is parked for as long as this script needs is not to be taken for one that hangs.
recovery: {heartbeat_interval_ms: 50, lease_ms: 20000, progress_timeout_floor_ms: 60000, memory_interval: 1}
YAML

must_train plain 2
must_end quiet 0 2
same plain quiet "a supervised run computes what mpirun alone does"
tell quiet begin "attempt attempt=1" "end exit_code=0"
"$trireme" status "$scratch/quiet" | grep -q '^ended       with code 0' || fail "status does not say that it ended"
"$trireme" status --json "$scratch/quiet" | python3 -c 'import json, sys; s = json.load(sys.stdin); assert s["exit_code"] == 0 and s["committed_step"] == 20 and not s["alive"]'
pass "status tells how it ended"

# The first dies when both have updated: by then, the copy in memory that the step began with is made.
# The second, when the supervisor has heard that the run goes on.
must_train longer 2 --train-iters 60
export TRIREME_FAULT="0,27,updated,1,park;1,27,updated,1,park;1,27,updated,1,kill;1,40,forward,2,park;0,41,optimizer,2,segv;1,0,startup,3,kill"
TRAINER=$faulty begin killed 2 --train-iters 60
parked killed 0 27 updated
parked killed 1 27 updated
release 1 27 updated
await killed "it goes on" grep -q '"event":"recovered","attempt":2' "$scratch/killed/events.jsonl"
release 1 40 forward
ends killed 0
same longer killed "three ranks died, one of them while starting"
tell killed "fault attempt=1 rank=1 signal=9 step=27" "recovered attempt=2 source=memory steps_lost=0" \
    "fault attempt=2 rank=0 signal=11 step=41" "fault attempt=3 rank=1" "recovered attempt=4 source=memory" "end exit_code=0"
pass "and events.jsonl tells who, how and when"
grep -q 'rank 1 .*was killed (signal 9) at step 27, in optimizer' "$scratch/killed.err" || { cat "$scratch/killed.err"; fail "no sentence says so"; }
grep -q 'resumed at step 26 from memory after .* s, 0 steps lost' "$scratch/killed.err" || { cat "$scratch/killed.err"; fail "no sentence says how it was resumed"; }
pass "so do its sentences"

export TRIREME_FAULT="*,5,forward,*,segv"
TRAINER=$faulty must_end hopeless 72 2 --max-same-failures 3
tell hopeless "fault attempt=1" "fault attempt=2" "fault attempt=3" "end exit_code=72 text~gave.up"
pass "a crash that repeats at the same step ends the run, with 72"
unset TRIREME_FAULT

must_end bad 78 2 --num-attention-heads 5
[ ! -e "$scratch/bad/supervisor" ] || fail "a bad configuration started something"
must_end slots 78 2 --lease-ms 100
pass "a bad configuration is refused before anything is started, with 78"
must_end mismatch 0 2
must_end mismatch 78 2 --num-layers 3
grep -q 'num_layers' "$scratch/mismatch.err" || { cat "$scratch/mismatch.err"; fail "no word of the key"; }
pass "what only ranks can find out ends it with 78, and not with another attempt"

# Asked to stop: a checkpoint, 75, and the same command goes on.
TRIREME_FAULT="1,100,forward,1,park" TRAINER=$faulty begin asked 2 --train-iters 200
parked asked 1 100 forward
"$trireme" status "$scratch/asked" | grep -q '^alive' || fail "status does not say that it is alive"
kill -TERM $supervised
await asked "its ranks know" ranks_know asked
release 1 100 forward
ends asked 75
at=$(basename "$(final asked)")
must_end asked 0 2 --train-iters 200 --exit-interval 1000000
must_train whole 2 --train-iters 200
same whole asked "stopped by SIGTERM with a checkpoint ($at), and gone on"

# What an mpirun that was killed leaves, a remote shell say, keeps the pipe of its errors open.
mkdir "$scratch/path"
printf '#!/bin/sh\nsleep 600 >/dev/null &\necho $! >>%q\nexec %q "$@"\n' "$scratch/holders" "$(command -v mpirun)" >"$scratch/path/mpirun"
chmod +x "$scratch/path/mpirun"
export TRIREME_FAULT="1,5,forward,1,kill;1,10,forward,2,segv;0,15,forward,3,kill"
before_leaving() { kill $(cat "$scratch/holders"); }
PATH=$scratch/path:$PATH TRAINER=$faulty must_end held 0 2
unset TRIREME_FAULT
same plain held "four attempts, each of which left a process with mpirun's pipe"
[ "$(wc -l <"$scratch/holders")" = 4 ] || fail "there were $(wc -l <"$scratch/holders") holders"
before_leaving() { :; }
kill $(cat "$scratch/holders") || fail "the supervisor waited until they had ended"
pass "the supervisor waits for none of them"

agents_are_gone
for key in $(cat "$scratch"/*/supervisor/run.json | grep -o '[0-9a-f]\{16\}'); do
    [ -z "$(ls -d /dev/shm/trireme-"$key"* 2>/dev/null || true)" ] || fail "shared memory of run $key is left"
done
pass "nothing is left"
finish
