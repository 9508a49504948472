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

# A parked rank is not to be taken for one that hangs, nor a node for lost where all is so busy.
options=(--nodes 2 --progress-timeout-floor-ms 600000 --lease-ms 20000 --linger-ms 30000 --eval-interval 4 --save-interval 3)

# Slurm itself signals, up to a minute before the time that was asked for; it looks every half a minute.
# The time is near only while the rank is parked: neither before that nor in the second start.
time_limit() {
    tested=limit
    write_batch limit "${options[@]}"
    TRAINER=$(faulty_trainer "1,7,optimizer,1,park") submit_run limit --time=600 --signal=B:USR1@1190
    parked 1 7 optimizer
    on_slurm scontrol update JobId="$job" TimeLimit=20
    wait_until 120 "the time limit comes near" has_events limit stop 1
    wait_until 120 "the ranks of limit know" ranks_know limit
    on_slurm scontrol update JobId="$job" TimeLimit=600
    release 1 7 optimizer
    job_ends limit "$job" COMPLETED
    job_restarts "$job" 1 || fail "the job started again $(job_field "$job" Restarts) times"
    must_tell limit "attempt attempt=1" "stop signal=10" "end exit_code=75" "begin" "attempt attempt=2" "end exit_code=0"
    same one limit "a time limit costs a requeue and no bit"
}

# preempt NAME PHASE:STEP ...: one job, asked to stop in the first of these phases in its first start, and
# in another one in each that follows.
preempt() {
    local faults= i step phase
    tested=$1
    shift
    local phases=("$@")
    for i in "${!phases[@]}"; do
        faults+="1,${phases[i]#*:},${phases[i]%:*},$((i + 1)),park;"
    done
    write_batch "$tested" "${options[@]}"
    # SIGTERM ends a rank that has not come up yet, and that would be another fault.
    case $faults in 1,0,startup,*) faults+="0,0,startup,1,park;" ;; esac
    TRAINER=$(faulty_trainer "${faults%;}") submit_run "$tested"
    for i in "${!phases[@]}"; do
        step=${phases[i]#*:} phase=${phases[i]%:*}
        parked 1 "$step" "$phase"
        [ "$parked_attempt" = $((i + 1)) ] || fail "parked in attempt $parked_attempt, not $((i + 1))"
        [ "$phase" != startup ] || parked 0 0 startup
        on_slurm scancel --signal=TERM "$job"
        wait_until 120 "the stop in $phase is told" has_events "$tested" stop $((i + 1))
        wait_until 120 "the ranks that stop in $phase know" ranks_know "$tested"
        release 1 "$step" "$phase"
        [ "$phase" != startup ] || release 0 0 startup
        wait_until 120 "the job stopped in $phase is requeued" job_restarts "$job" $((i + 1))
        pass "asked to stop in $phase of step $step, the job is requeued"
    done
    job_ends "$tested" "$job" COMPLETED
    same one "$tested" "a job that was stopped in ${phases[*]%:*} ends with the same bits"
}

# A job whose time is always up before its first step: it saves nothing, and ends the chain itself.
hopeless() {
    local starts=0
    tested=hopeless
    write_batch hopeless "${options[@]}"
    TRAINER=$(faulty_trainer "0,0,startup,*,park") submit_run hopeless
    until job_is_over "$job"; do
        [ -e "$marks/parked.0.0.startup" ] || { sleep 0.1; continue; }
        starts=$((starts + 1))
        [ $starts -lt 5 ] || fail "a job that gets nowhere started $starts times"
        parked 0 0 startup
        on_slurm scancel --signal=USR1 --batch "$job"
        wait_until 120 "stop $starts is told" has_events hopeless stop $starts
        wait_until 120 "the ranks of start $starts know" ranks_know hopeless
        release 0 0 startup
        wait_until 120 "start $starts is over" job_left_start "$job" $starts
    done
    job_is "$job" FAILED && [ "$(job_field "$job" ExitCode)" = 72:0 ] ||
        { cat "$scratch/hopeless.log"; fail "a job that gets nowhere is $(job_field "$job" JobState), $(job_field "$job" ExitCode)"; }
    [ ! -d "$scratch/hopeless/checkpoints" ] || [ "$(final hopeless)" = "$scratch/hopeless/checkpoints/step-00000000" ] ||
        fail "it got somewhere: $(final hopeless)"
    pass "a job without progress between two starts ends itself, after $starts starts"
}
job_left_start() { # JOB NUMBER
    job_is_over "$1" || [ "$(job_field "$1" Restarts)" -ge "$2" ]
}

# A person's scancel is final, though the script is told of it, too, and saves if there is time.
cancelled() {
    tested=cancelled
    write_batch cancelled "${options[@]}"
    TRAINER=$(faulty_trainer "1,5,optimizer,1,park") submit_run cancelled
    parked 1 5 optimizer
    on_slurm scancel "$job"
    release 1 5 optimizer
    wait_until 120 "the job is over" job_is_over "$job"
    sleep 1
    job_is "$job" CANCELLED && job_restarts "$job" 0 || fail "a cancelled job is $(job_field "$job" JobState)"
    pass "a job that is cancelled stays so"
}

# With mpirun, SIGTERM kills the daemons of its nodes, whose ranks have no time to save: the run counts
# that as lost nodes, starts once more, saves, and stops.
by_mpirun() {
    tested=by_mpirun
    write_batch by_mpirun "${options[@]}" --launcher mpirun
    TRAINER=$(faulty_trainer "1,6,forward,1,park") submit_run by_mpirun
    parked 1 6 forward
    on_slurm scancel --signal=TERM "$job"
    # Its daemon ends rank 1 where it is parked: released, it might be quicker, and save.
    wait_until 120 "the stop under mpirun is told" has_events by_mpirun stop 1
    wait_until 120 "the end of its daemons is told" has_events by_mpirun fault 1
    forget 1 6 forward
    job_ends by_mpirun "$job" COMPLETED
    job_restarts "$job" 1 || fail "the job by mpirun started again $(job_field "$job" Restarts) times"
    # Slurm signals agents and daemons at once: what is heard of first may be either.
    must_tell by_mpirun "attempt attempt=1" "stop signal=15" "end exit_code=75" "attempt attempt=3" "end exit_code=0"
    must_tell by_mpirun "attempt attempt=1" "fault attempt=1" "attempt attempt=2" "end exit_code=75"
    same one by_mpirun "a job whose daemons of mpirun were asked to stop ends with the same bits"
}

# All at once: most of the time goes into Slurm's pause before a job that was requeued.
runs=()
for run in time_limit "preempt early startup:0 comm_init:0 forward:1" "preempt late grad_exchange:4 evaluate:8 save:9" hopeless cancelled by_mpirun; do
    (
        trap '[ $? = 0 ] || cat "$scratch/$tested.log"' EXIT
        marks=$(mktemp -d "$scratch/marks.XXXXXX")
        $run
    ) &
    runs+=($!)
done
for run in "${runs[@]}"; do
    wait "$run"
done

# Preempted by a partition that goes before: saved within the grace time, requeued, and on afterwards.
tested=preempted
write_batch preempted "${options[@]}"
TRAINER=$(faulty_trainer "1,7,optimizer,1,park") submit_run preempted
parked 1 7 optimizer
printf '#!/bin/sh\nhostname >%q\n' "$scratch/urgent.ran" >"$scratch/urgent.sh"
urgent=$(submit "$scratch/urgent.sh" --partition=urgent --nodes=2 --exclusive --output=/dev/null)
wait_until 120 "preemption is told" has_events preempted stop 1
wait_until 120 "its ranks know" ranks_know preempted
[ ! -e "$scratch/urgent.ran" ] || fail "the urgent job did not wait for the grace time"
release 1 7 optimizer
job_ends urgent "$urgent" COMPLETED
job_ends preempted "$job" COMPLETED
job_restarts "$job" 1 || fail "the preempted job started again $(job_field "$job" Restarts) times"
must_tell preempted "attempt attempt=1" "stop signal=15" "end exit_code=75" "begin" "attempt attempt=2" "end exit_code=0"
same one preempted "a job that another partition preempts goes on with the same bits"

slurm_down
nothing_left head node1 node2
pass "all jobs ended as they should"
finish
