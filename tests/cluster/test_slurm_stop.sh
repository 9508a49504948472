#!/bin/bash
# A job that is asked to stop saves, is requeued, and goes on: at its time limit, and by scancel or
# preemption in every phase. No start that was preempted counts as one without progress.
set -euo pipefail
. "$TRIREME_SOURCE/tests/cluster/lib.sh"
. "$TRIREME_SOURCE/tests/cluster/slurm.sh"
. "$TRIREME_SOURCE/tests/cluster/supervised.sh"
make_text
hosts_up 2 head
slurm_up head node1 node2
must_train one 1

# A parked rank is not to be taken for one that hangs.
options=(--nodes 2 --progress-timeout-floor-ms 60000 --eval-interval 4 --save-interval 3)

# Slurm itself signals, up to a minute before the time that was asked for.
time_limit() {
    write_batch limit "${options[@]}"
    TRAINER=$(faulty_trainer "1,7,optimizer,1,park") submit_run limit --time=1 --signal=B:USR1@55
    parked 1 7 optimizer
    wait_until 60 "the time limit comes near" has_events limit stop 1
    release 1 7 optimizer
    job_ends limit "$job" COMPLETED
    job_restarts "$job" 1 || fail "the job started again $(job_field "$job" Restarts) times"
    must_tell limit "attempt attempt=1" "stop signal=10" "end exit_code=75" "begin" "attempt attempt=2" "end exit_code=0"
    same one limit "a time limit costs a requeue and no bit"
}

# preempt NAME PHASE:STEP ...: one job, asked to stop in the first of these phases in its first start, and
# in another one in each that follows.
preempt() {
    local name=$1 faults= i step phase
    shift
    local phases=("$@")
    for i in "${!phases[@]}"; do
        faults+="1,${phases[i]#*:},${phases[i]%:*},$((i + 1)),park;"
    done
    write_batch "$name" "${options[@]}"
    TRAINER=$(faulty_trainer "${faults%;}") submit_run "$name"
    for i in "${!phases[@]}"; do
        step=${phases[i]#*:} phase=${phases[i]%:*}
        parked 1 "$step" "$phase"
        [ "$parked_attempt" = $((i + 1)) ] || fail "parked in attempt $parked_attempt, not $((i + 1))"
        on_slurm scancel --signal=TERM "$job"
        wait_until 30 "the stop in $phase is told" has_events "$name" stop $((i + 1))
        release 1 "$step" "$phase"
        wait_until 60 "the job stopped in $phase is requeued" job_restarts "$job" $((i + 1))
        pass "asked to stop in $phase of step $step, the job is requeued"
    done
    job_ends "$name" "$job" COMPLETED
    same one "$name" "a job that was stopped in ${phases[*]%:*} ends with the same bits"
}

# All at once: most of the time goes into Slurm's pause before a job that was requeued.
runs=()
for run in time_limit "preempt early startup:0 comm_init:0 forward:1" "preempt late grad_exchange:4 evaluate:8 save:9"; do
    $run &
    runs+=($!)
done
for run in "${runs[@]}"; do
    wait "$run"
done

slurm_down
nothing_left head node1 node2
pass "all jobs ended as they should"
finish
