#!/bin/bash
# srun starts trireme-train through PMIx, alone and from a batch script, and it computes what one process
# does.
set -euo pipefail
. "$TRIREME_SOURCE/tests/cluster/lib.sh"
. "$TRIREME_SOURCE/tests/cluster/slurm.sh"
make_text
hosts_up 4 head
[ "$(nproc)" -lt 2 ] || slurm_task_plugin=task/affinity slurm_cpus=$(nproc)
slurm_up head node1 node2 node3 node4

must_train one 1
export SLURM_PMIX_FENCE=ring # docs/slurm.md
arguments=("$TRIREME_BIN/trireme-train" "$scratch/tiny.yaml" --train-data-path "$scratch/text.bin" --run-dir)
on_slurm srun --mpi=pmix -K1 -N3 -n3 "${arguments[@]}" "$scratch/srun" >"$scratch/srun.out" 2>&1 ||
    { cat "$scratch/srun.out"; fail "srun exited $?"; }
grep -q '3 ranks: data 3' "$scratch/srun.out" || { cat "$scratch/srun.out"; fail "srun did not start 3 ranks that know each other"; }
same one srun "srun on three nodes computes what one process does"

# Slurm binds each task to processors of its own, and that stays; those that it gives to two together
# they divide.
if [ "$(nproc)" = 2 ]; then
    for bind in quiet none; do
        on_slurm srun --mpi=pmix -K1 -N1 -n2 --cpu-bind=$bind "${arguments[@]}" "$scratch/$bind" --cpu-threads 0 >"$scratch/$bind.out" 2>&1 ||
            { cat "$scratch/$bind.out"; fail "srun --cpu-bind=$bind exited $?"; }
        grep -q ', 1 thread$' "$scratch/$bind.out" || { cat "$scratch/$bind.out"; fail "a rank has not a thread for its core"; }
        same one $bind "ranks with --cpu-bind=$bind"
    done
    ! grep -q 'each rank is bound' "$scratch/quiet.out" || fail "ranks are bound again behind Slurm"
    grep -q 'each rank is bound.*rank 0: cores 0$' "$scratch/none.out" || { cat "$scratch/none.out"; fail "ranks do not divide what Slurm gave to both"; }
    pass "ranks that Slurm binds stay so, and others divide what they have"
fi

cat >"$scratch/job.sh" <<END
#!/bin/bash
#SBATCH --nodes=2 --ntasks-per-node=2 --time=5 --output=$scratch/job.out
srun --mpi=pmix -K1 ${arguments[@]} $scratch/job
END
job=$(submit "$scratch/job.sh")
job_wait "$job" COMPLETED
same one job "a batch job on two nodes, two ranks each, too"

hosts_kill node2
hosts_boot node2
slurm_node_up node2
on_slurm srun -N4 -l hostname | sort >"$scratch/names"
[ "$(cut -d' ' -f2 "$scratch/names" | sort | tr '\n' ' ')" = "node1 node2 node3 node4 " ] ||
    fail "after a node came back: $(<"$scratch/names")"
pass "a node that died and came back takes work"

slurm_down
nothing_left head node1 node2 node3 node4
finish
