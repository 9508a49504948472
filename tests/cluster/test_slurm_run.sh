#!/bin/bash
# `trireme run` in jobs that `trireme slurm` wrote: to the end by either launcher, in an array and one after
# the other, and not requeued for a mistake.
set -euo pipefail
. "$TRIREME_SOURCE/tests/cluster/lib.sh"
. "$TRIREME_SOURCE/tests/cluster/slurm.sh"
. "$TRIREME_SOURCE/tests/cluster/supervised.sh"
make_text

hosts_up 3 head
slurm_up head node1 node2 node3
must_train one 1

# Ranks on two nodes, two each and one: Slurm is free to give nodes in any order.
write_batch srun --nodes 3 --spares 1 --ntasks-per-node 2
submit_run srun
job_ends srun "$job" COMPLETED
grep -q '4 ranks: data 4' "$scratch/srun.log" || { cat "$scratch/srun.log"; fail "there were not 4 ranks"; }
same one srun "a job of 4 ranks on 2 nodes, started by srun"
write_batch uneven --nodes 2 --ntasks-per-node 2 --data-parallel-size 3
submit_run uneven
job_ends uneven "$job" COMPLETED
same one uneven "3 ranks on 2 nodes"
write_batch mpirun --nodes 2 --launcher mpirun
submit_run mpirun
job_ends mpirun "$job" COMPLETED
same one mpirun "the same by mpirun, whose daemons srun starts"

# A node that is far away: MPI_Init must not let ranks send before all of them can receive.
hosts_delay node3 60
write_batch far --nodes 3 --train-iters 5 --lease-ms 20000
submit_run far
job_ends far "$job" COMPLETED
[ "$(count_events far attempt)" = 1 ] || fail "ranks on nodes that are far from each other did not start at once"
pass "ranks on nodes that are far from each other start"
hosts_delay node3 0

# Ranks that end before their agent has seen them: srun alone knows, and goes on.
# On one node: the PMIx of two tries for half a minute to reach a step that has ended.
printf '#!/bin/sh\ncase $1.$SLURM_PROCID.$TRIREME_ATTEMPT in
--self-test.*) ;;
*.1.1) kill -TERM $$ ;;
*.0.2) exit 3 ;;
esac
exec %q "$@"\n' "$TRIREME_BIN/trireme-train" >"$scratch/early_trainer"
chmod +x "$scratch/early_trainer"
write_batch early --nodes 1 --ntasks-per-node 2
TRAINER=$scratch/early_trainer submit_run early
job_ends early "$job" COMPLETED
must_tell early "fault rank=1 signal=15 phase=start-up" "fault rank=0 cause~with.code.3.before.it.came.up" "attempt attempt=3" "end exit_code=0"
same one early "ranks that end before they come up are told by srun, and replaced"

# Agents by a remote shell, from inside of a job.
write_batch rsh --nodes 2
sed -i "s#/trireme run #&--rsh $HOSTS_DIR/rsh #" "$scratch/rsh.sbatch"
submit_run rsh
job_ends rsh "$job" COMPLETED
same one rsh "agents that ssh starts, in a job"

# Two GPUs on each of two nodes, which every rank of a node sees; each takes that of its number.
cat >"$scratch/gpu_trainer" <<END
#!/bin/sh
[ "\$1" = --self-test ] || echo "\$SLURMD_NODENAME \$SLURM_LOCALID \$CUDA_VISIBLE_DEVICES" >>$scratch/visible
exec $TRIREME_BIN/trireme-train "\$@"
END
chmod +x "$scratch/gpu_trainer"
write_batch gpus --nodes 2 --gpus-per-node 2
TRAINER=$scratch/gpu_trainer submit_run gpus
job_ends gpus "$job" COMPLETED
[ "$(sort "$scratch/visible" | cut -d' ' -f2- | sort | uniq -c | xargs)" = "2 0 0,1 2 1 0,1" ] ||
    { cat "$scratch/visible"; fail "ranks do not see the GPUs of their node"; }
on_slurm scontrol show job "$job" | grep -q 'TresPerNode=.*gpu:2' || { on_slurm scontrol show job "$job"; fail "the job did not ask for 2 GPUs a node"; }
same one gpus "a job with GPUs"
emulated=$TRIREME_BIN/../tests/trireme-train-emulated
if [ -x "$emulated" ]; then
    # Health checks take every GPU in turn, and are not ranks.
    printf '#!/bin/sh\n[ "$1" != --self-test ] || exec %q "$@"\nexport TRIREME_ATTEMPT=${TRIREME_ATTEMPT:-1} TRIREME_FAKE_GPU_NOTE=%q\nexec %q "$@"\n' "$emulated" "$scratch/taken" "$emulated" >"$scratch/gpu_trainer"
    write_batch emulated --nodes 2 --gpus-per-node 2 --device cuda --train-iters 4
    TRAINER=$scratch/gpu_trainer submit_run emulated
    job_ends emulated "$job" COMPLETED
    [ "$(sed 's/.*GPU//' "$scratch/taken" | sort | uniq -c | xargs)" = "2 0 2 1" ] ||
        { cat "$scratch/taken"; fail "ranks took other GPUs than one each"; }
    pass "each rank drives a GPU of its own (emulated)"
fi

# A mistake that sbatch cannot see, and that a second start would meet again.
write_batch wrong --nodes 1
sed -i 's#text.bin#nowhere.bin#' "$scratch/wrong.sbatch"
submit_run wrong
job_ends wrong "$job" FAILED
job_restarts "$job" 0 || fail "a job with a bad configuration was requeued"
[ "$(job_field "$job" ExitCode)" = 78:0 ] || fail "it exited $(job_field "$job" ExitCode)"
pass "a bad configuration is not requeued"

# An array, whose jobs stop after 8 steps each; two of them are not needed any more.
write_batch chain --nodes 2 --chain 5 --exit-interval 8
submit_run chain
wait_until 120 "the array is over" slurm_no_jobs
[ "$(grep -c 'ranks on 2 nodes; run' "$scratch/chain.log")" = 3 ] || { cat "$scratch/chain.log"; fail "not 3 jobs of the array ran"; }
same one chain "an array goes on from job to job, and ends when training is complete"

# Two jobs of one name: the second waits for the first, which may not be requeued.
write_batch single --nodes 2 --exit-interval 13 --progress-timeout-floor-ms 60000
TRAINER=$(faulty_trainer "0,5,forward,1,park") submit_run single --no-requeue
first=$job
parked 0 5 forward
submit_run single
waits_for_its_like() { on_slurm scontrol show job -o "$job" | grep -q ' JobState=PENDING Reason=Dependency '; }
wait_until 120 "the second job waits for the first, and not for nodes" waits_for_its_like
release 0 5 forward
job_ends single "$job" COMPLETED
job_is "$first" FAILED || fail "the first job is $(job_field "$first" JobState)"
[ "$(grep -c 'step     14/20' "$scratch/single.log")" = 1 ] || fail "the second job did not go on where the first one stopped"
same one single "two jobs of one name run one after the other, and the second goes on"

slurm_down
nothing_left head node1 node2 node3
finish
