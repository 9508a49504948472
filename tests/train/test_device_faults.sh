#!/bin/bash
# Ranks that are killed, and numbers that are bad, while the trainer runs on a device: what it goes on
# from is whole, from the disk and from the memory of nodes, and it ends with the same bits.
. "$(dirname "$0")/device.sh"

device whole 1

# A save whose copy still comes to the host when a rank dies is no checkpoint; the one before is.
for phase in forward optimizer; do
    name=killed_$phase
    TRIREME_FAULT="1,5,$phase,1,kill" device_ends "$name" 2 137 --save-interval 2 --no-save-async
    newest=$(basename "$(final "$name")")
    [ "$newest" = step-00000002 ] || fail "killed at $phase of step 5, the newest checkpoint is $newest"
    "$TRIREME_BIN/trireme" ckpt verify "$(final "$name")" >/dev/null || fail "$newest is damaged"
    TRIREME_ATTEMPT=2 device "$name" 4
    same whole "$name" "killed at $phase of step 5 on 2 ranks, resumed on 4"
done
TRIREME_FAULT="0,6,updated,1,kill" device_ends killed_late 2 137 --save-interval 1
TRIREME_ATTEMPT=2 device killed_late 1
same whole killed_late "killed between update and gather of step 6, while saves were under way"

# A rank that stands still: the others' devices wait for it, and their hosts no longer than allowed,
# whoever notices first, a watchdog or the deadline of an operation.
TRIREME_FAULT="1,5,forward,1,stop" device_ends stuck 2 69 --save-interval 2 --no-save-async \
    --progress-timeout-ceiling-ms 15000
says stuck 'over 2 devices did not complete in time\|rank 1 on .* does not get on'
TRIREME_ATTEMPT=2 device stuck 2
same whole stuck "a rank that stands still ends the run by a deadline, and it is resumed"

# The device does not update on a bad step, and the host finds out late.
export BAD_SAMPLES="9"  # of step 3
device_ends stop 2 76 --save-interval 2
[ "$(basename "$(final stop)")" = step-00000002 ] || fail "stop: the newest checkpoint is $(final stop)"
says stop 'step 3: loss is nan on rank 1'
for ranks in 1 2 4; do
    device "skip$ranks" "$ranks" --nonfinite-policy skip --save-interval 2
done
same skip1 skip2 "bad samples are skipped: 1 and 2 ranks"
same skip1 skip4 "bad samples are skipped: 1 and 4 ranks"
differ whole skip1 "samples were skipped in these runs"
device rollback 2 --nonfinite-policy rollback --save-interval 1
says rollback 'went back to step 2'
BAD_LOSS=1000 device_ends spike 2 76 --loss-spike-factor 2 --loss-spike-window 2
says spike 'step 3: loss .* is a spike'
pass "bad numbers stop the run, or are skipped or rolled back over, before any update"
BAD_SAMPLES=""

# Copies in memory are made of the device's state, and a run goes on from them.
mkfifo "$scratch/to_agent"
"$TRIREME_BIN/../tests/slot_agent" "$scratch/n0" "$scratch/n1" <"$scratch/to_agent" >"$scratch/agent.out" &
agent=$!
exec 7>"$scratch/to_agent"
before_leaving() { exec 7>&- && wait "$agent"; }
until grep -q ready "$scratch/agent.out" 2>/dev/null; do kill -0 "$agent"; sleep 0.02; done
cat >"$scratch/on_nodes" <<'SH'
#!/bin/sh
node=n$((OMPI_COMM_WORLD_RANK / 2))
export TRIREME_RUNTIME="$SCRATCH/$node" TRIREME_DOMAIN="$node"
exec "$EMULATED" "$@"
SH
chmod +x "$scratch/on_nodes"
export SCRATCH=$scratch EMULATED=$emulated
emulated=$scratch/on_nodes
TRIREME_FAULT="*,*,forward,1,slow:50;3,5,forward,1,kill" device_ends memory 4 137 --memory-interval 1
TRIREME_ATTEMPT=2 device memory 4 --memory-interval 1
says memory 'resumed at step [1-4] from memory'
same whole memory "killed in step 5 on 4 ranks, resumed from the memory of nodes"
finish
