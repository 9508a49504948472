#!/bin/bash
# Hosts for tests, on one machine: each has a network, an address, a host name, processes, /tmp, /run
# and /dev/shm of its own, runs a real sshd, and can be killed, frozen, cut off and booted again. All
# other files are shared, as on a cluster. Needs root and Linux namespaces.
#
#   hosts.sh able                 says why hosts can't be had here; silent and 0 where they can
#   hosts.sh up N [NAME...]       node1 ... nodeN, and others by name, on one switch
#   hosts.sh down                 ends everything that was made here
#   hosts.sh exec HOST COMMAND... runs a command there, in this directory, as from a console: it works
#                                 whatever has become of the network
#   hosts.sh pids HOST [COMMAND]  the processes there, as this machine numbers them; only those whose
#                                 name (of 15 characters) is COMMAND
#   hosts.sh remains HOST         processes and files that were not there when it had booted
#
#   hosts.sh kill HOST            every process dies at once, and peers see sockets close
#   hosts.sh crash HOST           the same, and peers see nothing: the power is gone
#   hosts.sh boot HOST            after kill or crash: again, with empty memory and a sound cable
#   hosts.sh freeze | thaw HOST   every process stops, and goes on
#   hosts.sh cut | mend HOST      the cable, pulled out of the switch and put back
#   hosts.sh drop | undrop HOST   everything from and to it is lost, while its link stays up
#   hosts.sh mute | deaf HOST [PERCENT [PEER]]   loses what it sends, or receives; of PEER alone
#   hosts.sh hear HOST            neither mute nor deaf any more
#   hosts.sh delay HOST MS [LOSS_PERCENT [SEED]] each packet takes MS longer, either way; 0: no more
#
# A script sources this file and calls hosts_up and so on. HOSTS_DIR, a directory for state, must be
# set. In there, `rsh` reaches hosts from hosts as ssh does, since it is ssh with a configuration of
# its own; plain ssh works between hosts, too. HOSTS_SHARED names further directories below /tmp, /run
# or /dev/shm that all hosts share. RELAY is the program that delays.
#
# Nothing is left behind: hosts are processes and what lives with them, and nothing has a name outside
# of HOSTS_DIR. When the process HOSTS_OWNER (the script, or who called this one) is gone, they end.

hosts_script=$(realpath "${BASH_SOURCE[0]}")
hosts_private="/tmp /run /dev/shm" # what every host has for itself
hosts_subnet=10.77.0

hosts_fail() {
    echo "hosts: $*" >&2
    return 1
}

hosts_able() {
    local tool
    [ "$(id -u)" = 0 ] || { echo "hosts need root, for namespaces"; return 1; }
    for tool in ip nft nsenter unshare setsid ssh ssh-keygen /usr/sbin/sshd; do
        command -v "$tool" >/dev/null || { echo "hosts need $tool (see cmake/packages.sh)"; return 1; }
    done
    unshare --net --mount --uts --ipc --pid --fork --mount-proc \
        sh -c 'ip link add br0 type bridge && mount -n -t tmpfs none /tmp && hostname h' 2>/dev/null ||
        { echo "hosts need namespaces and bridges, which this machine refuses"; return 1; }
}

# --- processes: noted by number and time of birth, so that none is mistaken for a later one

hosts_birth() { # PID: state and time of birth
    local stat
    { stat=$(<"/proc/$1/stat"); } 2>/dev/null || return 1
    set -- ${stat##*) }
    echo "$1 ${20}"
}

hosts_note() { # NAME PID
    local birth
    birth=$(hosts_birth "$2") || hosts_fail "process $2 for $1 has ended" || return
    echo "$2 ${birth#* }" >"$HOSTS_DIR/$1"
}

hosts_pid() { # NAME: the number of a noted process that lives
    local pid born birth
    [ -e "$HOSTS_DIR/$1" ] && read -r pid born <"$HOSTS_DIR/$1" && birth=$(hosts_birth "$pid") || return 1
    [ "${birth% *}" != Z ] && [ "${birth#* }" = "$born" ] && echo "$pid"
}

hosts_end() { # NAME: kills it and waits until it is gone
    local pid
    while pid=$(hosts_pid "$1"); do
        kill -9 "$pid" 2>/dev/null || true
        sleep 0.01
    done
    rm -f "$HOSTS_DIR/$1"
}

# hosts_start NAME COMMAND...: in the background, in a session of its own; waits until it has said a
# line, and notes it.
hosts_start() {
    local name=$1 fd said=
    shift
    exec {fd}< <(exec setsid "$@" </dev/null 2>"$HOSTS_DIR/$name.log")
    local pid=$!
    read -r -u "$fd" said || true
    exec {fd}<&-
    [ "$said" = ready ] || hosts_fail "$name did not start: $(<"$HOSTS_DIR/$name.log")" || return
    hosts_note "$name" "$pid"
}

# --- networks: one for the switch and one per host, each kept in being by a process

hosts_names() {
    cut -d' ' -f2 "$HOSTS_DIR/list"
}

hosts_number() { # HOST: gives its port on the switch and its address
    local number name
    while read -r number name; do
        [ "$name" != "$1" ] || { echo "$number"; return; }
    done <"$HOSTS_DIR/list"
    hosts_fail "there is no host $1"
}

hosts_in_network() { # NAME COMMAND...
    local pid
    pid=$(hosts_pid "$1.network") || hosts_fail "there is no network of $1" || return
    nsenter --net="/proc/$pid/ns/net" "${@:2}"
}

hosts_make_network() { # NAME
    hosts_start "$1.network" unshare --net sh -c \
        'ip link set lo up && echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6 && echo ready && exec sleep infinity'
}

hosts_plug() { # HOST: a new network card in a new cable
    local number port
    number=$(hosts_number "$1") || return
    port=v$number
    hosts_unplug "$1"
    hosts_make_network "$1" &&
        hosts_in_network switch ip link add "$port" type veth peer name eth0 \
            address "$(printf '02:00:00:00:%02x:%02x' $((number / 256)) $((number % 256)))" \
            netns "$(hosts_pid "$1.network")" &&
        hosts_in_network switch ip link set "$port" master br0 up &&
        hosts_in_network "$1" sh -c "ip addr add $hosts_subnet.$number/24 dev eth0 && ip link set eth0 up"
}

hosts_unplug() { # HOST
    hosts_end "$1.relay"
    hosts_in_network switch ip link del "v$(hosts_number "$1")" 2>/dev/null || true
    hosts_in_network switch ip link del "w$(hosts_number "$1")" 2>/dev/null || true
    hosts_end "$1.network"
}

# --- hosts

# What process 1 of a host does: its own directories, its name, sshd. Then it only reaps.
hosts_init() { # HOST
    local directory shared
    hostname "$1" || return
    for directory in $hosts_private; do
        mount -n -t tmpfs -o "mode=$(stat -c %a "$directory")" tmpfs /mnt || return
        while read -r shared; do
            [[ $shared/ == "$directory"/* ]] || continue
            mkdir -p "/mnt${shared#"$directory"}" &&
                mount -n --bind "$shared" "/mnt${shared#"$directory"}" || return
        done <"$HOSTS_DIR/shared"
        mount -n --move /mnt "$directory" || return
    done
    mount -n --bind "$HOSTS_DIR/etc_hosts" /etc/hosts && mount --bind "$HOSTS_DIR/ssh_config" /etc/ssh/ssh_config &&
        mkdir -m 755 /run/sshd && /usr/sbin/sshd -f "$HOSTS_DIR/sshd_config" -E "/run/sshd/log" || return
    sleep infinity &
    hosts_census >"$HOSTS_DIR/$1.census"
    echo ready
    exec >/dev/null
    while :; do wait; done
}

# Processes and files of this host, a line each, without what looks.
hosts_census() {
    local directory prune=() processes
    processes=$(ps -e -o args=)
    while read -r directory; do
        prune+=(-path "$directory" -prune -o)
    done <"$HOSTS_DIR/shared"
    {
        sed -e "\#$hosts_script#d" -e '/^ps -e/d' -e '/sshd_config/d' -e '/^sleep infinity$/d' -e 's/^/process /' <<<"$processes"
        find $hosts_private -mindepth 1 "${prune[@]}" -printf 'file %p\n'
        tail -n +2 /proc/sysvipc/shm
    } | LC_ALL=C sort
}

hosts_boot() { # HOST
    ! hosts_pid "$1" >/dev/null || hosts_fail "$1 is up" || return
    hosts_plug "$1" || return
    # Its process 1 dies with the one that is noted, and everything with process 1.
    hosts_start "$1" nsenter --net="/proc/$(hosts_pid "$1.network")/ns/net" \
        unshare --mount --uts --ipc --pid --fork --kill-child --mount-proc "$BASH" "$hosts_script" init "$1" || return
    local pid child
    pid=$(hosts_pid "$1")
    read -r child _ <"/proc/$pid/task/$pid/children" || true # without a newline
    hosts_note "$1.init" "$child"
}

hosts_kill() {
    hosts_pid "$1" >/dev/null || hosts_fail "$1 is not up" || return
    hosts_end "$1.init"
    # It waits for process 1, which is gone when all its processes are.
    while hosts_pid "$1" >/dev/null; do sleep 0.01; done
    rm -f "$HOSTS_DIR/$1"
}

hosts_crash() {
    hosts_cut "$1" && hosts_kill "$1" && hosts_end "$1.network"
}

hosts_exec() { # HOST COMMAND...
    local pid
    pid=$(hosts_pid "$1.init") || hosts_fail "$1 is not up" || return
    env -u TMPDIR nsenter -t "$pid" -n -u -i -p -m -- sh -c 'cd "$0" && exec "$@"' "$PWD" "${@:2}"
}

hosts_pids() { # HOST [COMMAND]
    local init space
    init=$(hosts_pid "$1.init") || hosts_fail "$1 is not up" || return
    space=$(readlink "/proc/$init/ns/pid")
    ps -e -o pid=,pidns=,comm= | while read -r pid of name; do
        [ "pid:[$of]" = "$space" ] && [ "$pid" != "$init" ] && [ "$name" = "${2:-$name}" ] && echo "$pid" || true
    done
}

hosts_remains() {
    hosts_exec "$1" "$BASH" "$hosts_script" census | LC_ALL=C comm -13 "$HOSTS_DIR/$1.census" -
}

hosts_signal() { # HOST SIGNAL: twice, for what was forked meanwhile
    local pids
    for _ in 1 2; do
        pids=$(hosts_pids "$1") || return
        [ -z "$pids" ] || kill "-$2" $pids 2>/dev/null || true
    done
}
hosts_freeze() { hosts_signal "$1" STOP; }
hosts_thaw() { hosts_signal "$1" CONT; }

# --- the network's faults

hosts_cut() { hosts_in_network switch ip link set "v$(hosts_number "$1")" down; }
hosts_mend() { hosts_in_network switch ip link set "v$(hosts_number "$1")" up; }

hosts_port() { # HOST: what is plugged into the switch
    [ ! -e "$HOSTS_DIR/$1.relay" ] && echo "v$(hosts_number "$1")" || echo "x$(hosts_number "$1")"
}
hosts_drop() { hosts_in_network switch ip link set "$(hosts_port "$1")" nomaster; }
hosts_undrop() { hosts_in_network switch ip link set "$(hosts_port "$1")" master br0; }

hosts_filter() { # HOST input|output iifname|oifname saddr|daddr PERCENT PEER
    local peer= chance=
    [ -z "$6" ] || peer="ip $4 $hosts_subnet.$(hosts_number "$6")" || return
    [ "$5" = 100 ] || chance="numgen random mod 100 < $5"
    hosts_in_network "$1" nft -f - <<END
add table inet hosts
add chain inet hosts $2 { type filter hook $2 priority 0; }
add rule inet hosts $2 $3 eth0 $peer $chance drop
END
}
hosts_mute() { hosts_filter "$1" output oifname daddr "${2:-100}" "${3:-}"; }
hosts_deaf() { hosts_filter "$1" input iifname saddr "${2:-100}" "${3:-}"; }
hosts_hear() { hosts_in_network "$1" nft delete table inet hosts; }

hosts_delay() { # HOST MS [LOSS_PERCENT [SEED]]
    local number
    number=$(hosts_number "$1") || return
    hosts_end "$1.relay"
    hosts_in_network switch ip link del "w$number" 2>/dev/null || true
    hosts_in_network switch ip link set "v$number" master br0 || return
    [ "$2" != 0 ] || return 0
    hosts_in_network switch sh -e <<END || return
ip link add w$number type veth peer name x$number
ip link set w$number up
ip link set x$number master br0 up
ip link set v$number nomaster
END
    hosts_start "$1.relay" nsenter --net="/proc/$(hosts_pid switch.network)/ns/net" \
        "$RELAY" "v$number" "w$number" "$2" "${3:-0}" "${4:-1}"
}

# --- all of them

# Directories that are shared although they lie where hosts have their own; none inside another.
hosts_list_shared() {
    local directory last=
    printf '%s\n' "$HOSTS_DIR" "$PWD" "${hosts_script%/*}" ${TRIREME_SOURCE:-} ${TRIREME_BIN:+"${TRIREME_BIN%/*}"} ${HOSTS_SHARED:-} |
        xargs -d '\n' realpath | LC_ALL=C sort -u | while read -r directory; do
        case $directory/ in
        /tmp/ | /run/ | /dev/shm/) hosts_fail "$directory can't be shared as a whole" || return ;;
        "${last:-none}"/*) ;;
        /tmp/* | /run/* | /dev/shm/*) echo "$directory" && last=$directory ;;
        esac
    done
}

hosts_write_ssh() {
    ssh-keygen -q -t ed25519 -N '' -C hosts -f "$HOSTS_DIR/key" &&
        ssh-keygen -q -t ed25519 -N '' -C hosts -f "$HOSTS_DIR/host_key" || return
    # SHLVL keeps bash from reading the user's .bashrc.
    cat >"$HOSTS_DIR/sshd_config" <<END
HostKey $HOSTS_DIR/host_key
AuthorizedKeysFile $HOSTS_DIR/key.pub
PermitRootLogin prohibit-password
StrictModes no
UsePAM no
UseDNS no
PidFile none
MaxStartups 100
SetEnv SHLVL=2
KexAlgorithms curve25519-sha256
END
    cat >"$HOSTS_DIR/ssh_config" <<END
IdentityFile $HOSTS_DIR/key
IdentitiesOnly yes
StrictHostKeyChecking no
UserKnownHostsFile /dev/null
LogLevel ERROR
END
    printf '#!/bin/sh\nexec ssh -F %q "$@"\n' "$HOSTS_DIR/ssh_config" >"$HOSTS_DIR/rsh"
    chmod +x "$HOSTS_DIR/rsh"
}

hosts_up() { # N [NAME...]
    local number=0 name boots=() boot
    mkdir -p "$HOSTS_DIR" && [ ! -e "$HOSTS_DIR/list" ] || hosts_fail "$HOSTS_DIR has hosts already" || return
    for name in $(seq -f 'node%g' "$1") "${@:2}"; do
        echo "$((++number)) $name"
    done >"$HOSTS_DIR/list"
    [ "$number" -le 250 ] || hosts_fail "250 hosts at most" || return
    { echo "127.0.0.1 localhost" && sed "s/^/$hosts_subnet./" "$HOSTS_DIR/list"; } >"$HOSTS_DIR/etc_hosts"
    hosts_list_shared >"$HOSTS_DIR/shared" && hosts_write_ssh && hosts_note owner "${HOSTS_OWNER:-$$}" &&
        hosts_start keeper "$BASH" "$hosts_script" keep && hosts_make_network switch &&
        hosts_in_network switch sh -c 'ip link add br0 type bridge && ip link set br0 up' || return
    for name in $(hosts_names); do
        hosts_boot "$name" &
        boots+=($!)
    done
    for boot in "${boots[@]}"; do
        wait "$boot" || return
    done
}

# Ends the hosts when their owner is gone.
hosts_keep() {
    echo ready
    exec >/dev/null
    while hosts_pid owner >/dev/null; do sleep 0.5; done
    rm -f "$HOSTS_DIR/keeper" # so that it does not end itself
    hosts_down
}

hosts_down() {
    local name
    [ -e "$HOSTS_DIR/list" ] || return 0
    hosts_end keeper
    for name in $(hosts_names); do
        hosts_end "$name.init"
        hosts_end "$name"
        hosts_end "$name.relay"
        hosts_end "$name.network"
        rm -f "$HOSTS_DIR/$name".*
    done
    hosts_end switch.network
    (cd "$HOSTS_DIR" && rm -f list owner shared etc_hosts rsh ssh_config sshd_config key key.pub host_key host_key.pub \
        switch.network.log keeper.log)
}

if [ "$0" = "${BASH_SOURCE[0]}" ]; then
    set -u
    : "${HOSTS_OWNER:=$PPID}"
    verb=${1:-help}
    case $verb in
    able) hosts_able; exit ;;
    up | down | exec | pids | remains | kill | crash | boot | freeze | thaw | cut | mend | drop | undrop | \
        mute | deaf | hear | delay | init | census | keep) ;;
    *)
        sed -n '2,/^$/s/^# \{0,1\}//p' "$0"
        exit 64
        ;;
    esac
    [ -n "${HOSTS_DIR:-}" ] || { hosts_fail "HOSTS_DIR is not set"; exit 64; }
    export HOSTS_DIR
    shift
    "hosts_$verb" "$@"
fi
