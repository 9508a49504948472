#!/bin/bash
# Everything that can end a process, a node or a link, in every phase of a run, one after the other in a
# supervised run over four hosts and a spare, and what makes a rank hang in another one beside it: they end
# with the weights of a run that nothing happened to, and events.jsonl tells each fault. By default each
# fault meets some phases and each phase some faults; with TRIREME_FULL=1 every fault meets every phase.
set -euo pipefail
. "$TRIREME_SOURCE/tests/cluster/lib.sh"
. "$TRIREME_SOURCE/tests/cluster/supervised.sh"
make_text
hosts_up 9 head second

actions=(kill segv stop kill_parent stop_parent hang node_kill node_crash cut mute deaf mpirun_kill agent_kill agent_stop)
phases=(startup comm_init forward grad_exchange optimizer snapshot save evaluate)

# Which faults meet which phases: pairs that differ each time, so that a few cover much.
meets() { # ACTION_NUMBER PHASE_NUMBER
    [ "${TRIREME_FULL:-}" = 1 ] || [ $((($1 * 3 + $2) % 8)) -lt 2 ]
}

# What the record of a fault must say, by action.
told() { # ACTION RANK PHASE
    case $1:$3 in
    hang:save) # all wait for the save, and nobody can tell who holds it up
        echo "fault cause~storage"
        return
        ;;
    esac
    case $1 in
    kill) echo "fault rank=$2 signal=9" ;;
    segv) echo "fault rank=$2 signal=11" ;;
    stop | hang) echo "fault cause~rank.$2" ;;
    node_kill | node_crash | cut | mute | deaf | agent_kill | agent_stop | kill_parent | stop_parent) echo "fault node~node" ;;
    mpirun_kill) echo "fault cause~mpirun" ;;
    esac
}

# plan ACTION...: sets faults, expected, and steps, how many those that meet something take.
plan() {
    local step=1 rank=0 at a p
    faults=() expected=()
    for ((a = 0; a < ${#actions[@]}; a++)); do
        [[ " $* " == *" ${actions[a]} "* ]] || continue
        for ((p = 0; p < ${#phases[@]}; p++)); do
            meets $a $p || continue
            case ${phases[p]} in
            startup | comm_init) at=0 ;;
            forward | grad_exchange | optimizer) step=$((step + 1)) at=$step ;;
            # A save goes on behind training: the run is some steps further when it strikes.
            save) at=$(((step / 8 + 1) * 8)) step=$((at + 32)) ;;
            snapshot | evaluate) step=$(((step / 8 + 1) * 8)) at=$step ;;
            esac
            faults+=("${actions[a]}:${phases[p]}:$at:$rank")
            expected+=("$(told "${actions[a]}" $rank "${phases[p]}")")
            rank=$(((rank + 1) % 4))
        done
    done
    steps=$((step + 20))
}

# suffers NAME WHAT: a run that meets what was planned; further options in the array options.
suffers() {
    local name=$1
    run_arguments=(--train-iters $steps --save-interval 8 --eval-interval 8 --eval-iters 1 --keep-latest 2)
    must_train "quiet_$name" 4 "${run_arguments[@]}"
    run_arguments+=("${options[@]}")
    suffer "$name" "${faults[@]}"
    same "quiet_$name" "$name" "after ${#faults[@]} $2"
    must_tell "$name" begin "${expected[@]}" "end exit_code=0"
    pass "each of them is told in events.jsonl"
    [ "$(count_events "$name" fault)" = ${#faults[@]} ] ||
        fail "$(count_events "$name" fault) faults are told, and there were ${#faults[@]}"
    pass "and nothing else is called a fault"
}

# No node is lost here, and none of these is struck by this script. A hang in a save is told from a slow disk
# by the time alone.
(
    supervisor_host=second hostfile=$scratch/others.txt
    write_hostfile node6 node7 node8 node9
    plan stop hang
    options=(--lease-ms 30000 --linger-ms 30000 --progress-timeout-floor-ms 7000 --start-timeout-ms 15000 --io-timeout-ms 12000)
    suffers hangs "ranks that hang"
) &
hangs=$!

# A silent node is found by its lease, and no rank is taken for one that hangs while this script does to its
# node what has to be done.
plan kill segv kill_parent stop_parent node_kill node_crash cut mute deaf mpirun_kill agent_kill agent_stop
write_hostfile node{1..5}
export SPARES=1
options=(--lease-ms 4500)
suffers storm faults
wait $hangs
nothing_left node{1..9} head second
finish
