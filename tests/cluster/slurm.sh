# A real Slurm on test hosts (hosts.sh): a controller and a slurmd per node, each with its munged. What
# a node's daemons keep lies in the host's own /run, so it is lost with the host. Source it after lib.sh.
#
#   slurm_up CONTROLLER NODE...   starts it; the nodes are idle when it returns. $slurm_task_plugin and
#                                 $slurm_cpus: who binds tasks (nobody), and a node's processors (4)
#   slurm_down                    ends jobs and daemons on hosts that are up
#   slurm_node_up NODE            its daemons, after hosts_boot; idle when it returns
#   on_slurm COMMAND...           runs a client command on the controller's host
#   submit SCRIPT [OPTION...]     sbatch; prints the job's number
#   job_field JOB FIELD           what scontrol shows, as JobState, RestartCnt or BatchHost
#   job_wait JOB STATE [SECONDS]  waits for a state, COMPLETED or so; 120 seconds

slurm_able() {
    local tool
    for tool in munged slurmctld slurmd sbatch srun scontrol; do
        PATH=$PATH:/usr/sbin command -v "$tool" >/dev/null ||
            { echo "Slurm's tests need $tool (see cmake/packages.sh)"; return 1; }
    done
}

why=$(slurm_able) || { echo "skipped: $why"; exit 77; }

slurm_dir=$scratch/slurm
export SLURM_CONF=$slurm_dir/slurm.conf

slurm_write_conf() { # CONTROLLER NODE...
    local controller=$1
    shift
    cat >"$SLURM_CONF" <<END
ClusterName=trireme
SlurmctldHost=$controller
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=/run/munge/socket,cred_expire=5
CredType=cred/munge
StateSaveLocation=$slurm_dir/state
SlurmctldPidFile=/run/slurmctld.pid
SlurmctldLogFile=$slurm_dir/slurmctld.log
SlurmdPidFile=/run/slurmd.pid
SlurmdSpoolDir=/run/slurmd.%n
SlurmdLogFile=$slurm_dir/%n.log
TmpFS=/tmp
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=${slurm_task_plugin:-task/none}
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
ReturnToService=2
SlurmdTimeout=10
KillWait=5
JobRequeue=1
MinJobAge=600
SchedulerParameters=bf_interval=3,sched_interval=3,batch_sched_delay=0
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
GresTypes=gpu
$(printf 'NodeName=%s CPUs='"${slurm_cpus:-4}"' RealMemory=1000 Gres=gpu:2 State=UNKNOWN\n' "$@")
PartitionName=all Nodes=$(IFS=, && echo "$*") Default=YES MaxTime=INFINITE State=UP PriorityTier=1 GraceTime=60
PartitionName=urgent Nodes=$(IFS=, && echo "$*") MaxTime=INFINITE State=UP PriorityTier=2
END
    # Two GPUs on each node, as far as Slurm can see: it wants devices, and looks no closer.
    printf 'Name=gpu File=/dev/%s\n' null zero >"$slurm_dir/gres.conf"
}

slurm_munge_up() { # HOST
    hosts_exec "$1" sh -ec 'mkdir -p -m 755 /run/munge
        exec /usr/sbin/munged --key-file "$0" --socket /run/munge/socket --pid-file /run/munge/pid \
            --log-file /run/munge/log --seed-file /run/munge/seed --num-threads 2' "$slurm_dir/munge.key"
}

# munged and slurmd; a node that was lost stays down for the controller until it says it is idle.
slurm_node_start() {
    slurm_munge_up "$1" && hosts_exec "$1" /usr/sbin/slurmd -N "$1" -f "$SLURM_CONF"
}

slurm_node_is_idle() {
    [ "$(on_slurm sinfo -h -n "$1" -o %t)" = idle ]
}

slurm_node_up() {
    slurm_node_start "$1"
    wait_until 120 "$1 is idle" slurm_node_is_idle "$1"
}

on_slurm() {
    hosts_exec "$slurm_controller" "$@"
}

slurm_up() {
    local node starts=() start
    slurm_controller=$1
    shift
    slurm_nodes=("$@")
    mkdir -p "$slurm_dir/state"
    (umask 077 && head -c 1024 /dev/urandom >"$slurm_dir/munge.key")
    slurm_write_conf "$slurm_controller" "$@"
    for node in "$@"; do
        slurm_node_start "$node" &
        starts+=($!)
    done
    slurm_munge_up "$slurm_controller"
    on_slurm /usr/sbin/slurmctld -c -f "$SLURM_CONF"
    for start in "${starts[@]}"; do
        wait "$start"
    done
    for node in "$@"; do
        wait_until 120 "$node is idle" slurm_node_is_idle "$node"
    done
}

slurm_no_jobs() {
    [ -z "$(on_slurm squeue -h -o %i)" ]
}

slurm_ended() { # HOST DAEMON
    [ -z "$(hosts_pids "$1" "$2")" ]
}

slurm_down() {
    local host name
    on_slurm scancel --user=root || true
    wait_until 120 "no job is left" slurm_no_jobs
    # Each while those live that it may want to talk to before it ends.
    for name in slurmctld slurmd munged; do
        for host in "${slurm_nodes[@]}" "$slurm_controller"; do
            kill $(hosts_pids "$host" "$name") 2>/dev/null || true
        done
        for host in "${slurm_nodes[@]}" "$slurm_controller"; do
            wait_until 120 "$name on $host has ended" slurm_ended "$host" "$name"
        done
    done
    for host in "${slurm_nodes[@]}" "$slurm_controller"; do
        hosts_exec "$host" rm -rf /run/munge "/run/slurmd.$host" /run/slurmd.pid /run/slurmctld.pid
    done
}

submit() {
    on_slurm sbatch --parsable "${@:2}" "$1"
}

job_field() {
    on_slurm scontrol show job -o "$1" | tr ' ' '\n' | sed -n "s/^$2=//p"
}

job_is() {
    [ "$(job_field "$1" JobState)" = "$2" ]
}

job_wait() {
    wait_until "${3:-120}" "job $1 is $2" job_is "$1" "$2"
}

# write_batch NAME [OPTION...]: the script $scratch/NAME.sbatch for the run $scratch/NAME, by `trireme
# slurm`; half an hour, which nothing here needs.
write_batch() {
    (cd "$scratch" && "$TRIREME_BIN/trireme" slurm tiny.yaml --time 30 --train-data-path text.bin \
        --run-dir "$scratch/$1" --output "$scratch/$1.log" "${@:2}") >"$scratch/$1.sbatch"
}

# submit_run NAME [SBATCH OPTION...]: that script, with the trainer $TRAINER; sets $job.
submit_run() {
    job=$(TRIREME_TRAINER=${TRAINER:-$TRIREME_BIN/trireme-train} submit "$scratch/$1.sbatch" "${@:2}")
}

job_is_over() {
    case $(job_field "$1" JobState) in
    PENDING | RUNNING | COMPLETING) return 1 ;;
    esac
}

# job_ends NAME JOB STATE: waits for its end, which must be that state.
job_ends() {
    wait_until 240 "job $2 is over" job_is_over "$2"
    job_is "$2" "$3" || { cat "$scratch/$1.log"; fail "job $2 of $1 is $(job_field "$2" JobState), not $3"; }
}

job_restarts() {
    [ "$(job_field "$1" Restarts)" = "$2" ]
}
