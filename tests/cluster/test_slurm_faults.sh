#!/bin/bash
# A job that loses a node: with one in reserve it goes on in its allocation, without it is requeued; and
# when the node with the batch script is lost, the nodes that are left have it requeued. No bit is lost.
set -euo pipefail
. "$TRIREME_SOURCE/tests/cluster/lib.sh"
. "$TRIREME_SOURCE/tests/cluster/slurm.sh"
. "$TRIREME_SOURCE/tests/cluster/supervised.sh"
make_text
hosts_up 4 head
slurm_up head node1 node2 node3 node4
must_train one 1

# A job that lost a node without another in reserve is to be requeued, and not to wait for that node.
options=(--node-wait-ms 5000 --progress-timeout-floor-ms 600000)

# park_at NAME RANK STEP [OPTION...]: a job whose rank waits there; sets $job and $parked_host.
park_at() {
    write_batch "$1" "${@:4}" "${options[@]}"
    TRAINER=$(faulty_trainer "$2,$3,grad_exchange,1,park") submit_run "$1" ${NOT_ON:+--exclude="$NOT_ON"}
    parked "$2" "$3" grad_exchange
}

# lose NAME COMMAND: a node is lost under two jobs at once, one with a node in reserve and one without: that
# of rank 1, sets $lost. Of the first job that is any but its first, since two that answer are enough.
lose() {
    local spare plain other
    # Its ranks ask for each other's addresses one by one, on whatever nodes of the job they are.
    OMPI_MCA_pmix_base_collect_data=0 park_at "$1_spare" 1 7 --nodes 3 --spares 1
    spare=$job lost=$parked_host
    [ "$lost" != node1 ] || fail "rank 1 is on the first of its job's nodes"
    other=$(printf '%s\n' node2 node3 | grep -vx "$lost")
    NOT_ON=$other park_at "$1_plain" 1 8 --nodes 2
    plain=$job
    [ "$parked_host" = "$lost" ] || fail "rank 1 is on $parked_host, and on $lost in the other job"
    "$2" "$lost"
    forget 1 7 grad_exchange
    forget 1 8 grad_exchange
    job_ends "$1_spare" "$spare" COMPLETED
    job_restarts "$spare" 0 || fail "a job with a node in reserve was requeued"
    must_tell "$1_spare" "attempt attempt=1 nodes~$lost" "fault node=$lost" "attempt attempt=2 nodes~node1.*$other" "end exit_code=0"
    same one "$1_spare" "$1: a job with a node in reserve goes on in its allocation"
    job_ends "$1_plain" "$plain" COMPLETED
    job_restarts "$plain" 1 || fail "a job without a node in reserve started $(job_field "$plain" Restarts) times again"
    must_tell "$1_plain" "fault node=$lost" "end exit_code=69" "begin" "end exit_code=0"
    same one "$1_plain" "$1: a job without one is requeued, and goes on elsewhere"
}

lose killed hosts_kill
hosts_boot "$lost"
slurm_node_up "$lost"
lose cut hosts_cut
hosts_mend "$lost"
wait_until 120 "$lost is idle" slurm_node_is_idle "$lost"
ended_on() { [ -z "$(hosts_pids "$1" trireme)$(hosts_pids "$1" trireme-train-f)" ]; }
wait_until 120 "no agent is left on $lost" ended_on "$lost"
pass "once it is back, the agents of a node that was cut off end with their jobs"
hosts_kill "$lost" # there slurmstepd goes on for minutes, trying to reach an srun that ended long ago
hosts_boot "$lost"
slurm_node_up "$lost"

# A node that was cut off and is back while the job goes on: its agent must not have the job requeued.
write_batch mended --nodes 3 --spares 1 "${options[@]}"
TRAINER=$(faulty_trainer "1,7,grad_exchange,1,park;0,12,grad_exchange,2,park") submit_run mended
parked 1 7 grad_exchange
lost=$parked_host
hosts_cut "$lost"
forget 1 7 grad_exchange
parked 0 12 grad_exchange
key=$(grep -o '[0-9a-f]\{16\}' "$scratch/mended/supervisor/run.json")
wait_until 120 "its agent's patience is over" hosts_exec "$lost" grep -qs 'running the orphan command' "/tmp/trireme-$key-$lost/agent.log"
hosts_mend "$lost"
wait_until 120 "$lost is back" grep -q "$lost is back" "$scratch/mended.log"
sleep 5 # longer than its orphan command would wait
release 0 12 grad_exchange
job_ends mended "$job" COMPLETED
job_restarts "$job" 0 || fail "a node that came back had the job requeued"
same one mended "a node that was cut off and comes back leaves the job alone"
wait_until 120 "$lost is idle" slurm_node_is_idle "$lost"

# The batch host: nobody is left there to notice.
park_at batch 1 9 --nodes 3 --spares 1
[ "$(job_field "$job" BatchHost)" = node1 ] || fail "the batch host is $(job_field "$job" BatchHost)"
hosts_kill node1
forget 1 9 grad_exchange
wait_until 120 "the job without a script is requeued" job_restarts "$job" 1
hosts_boot node1
slurm_node_up node1
job_ends batch "$job" COMPLETED
must_tell batch "begin" "attempt attempt=1" "begin" "attempt attempt=2" "end exit_code=0"
same one batch "a job whose batch host was lost is requeued by the nodes that are left"

slurm_down
nothing_left head node1 node2 node3 node4
finish
