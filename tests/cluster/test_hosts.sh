#!/bin/bash
# Hosts are hosts: apart in names, processes, memory and files, joined by a network that can be damaged
# in each way that hosts.sh names, and gone without a trace.
set -euo pipefail
. "$TRIREME_SOURCE/tests/cluster/lib.sh"

hosts_up 3
on() { hosts_exec "$@"; }
sleeper_on() { # HOST SECONDS: the process that sleeps for so long there (numbers begin anew some time)
    local pid
    for pid in $(hosts_pids "$1" sleep); do
        [ "$(tr '\0' ' ' <"/proc/$pid/cmdline")" != "sleep $2 " ] || echo "$pid"
    done
}
reaches() { on "$1" timeout 1 bash -c "exec 3<>/dev/tcp/$2/22" 2>/dev/null; }
must_reach() { wait_until 60 "$1 reaches $2 ($3)" reaches "$1" "$2"; }
must_not_reach() { ! reaches "$1" "$2" || fail "$3: $1 reaches $2"; }

[ "$(on node2 hostname)" = node2 ] || fail "node2 is called $(on node2 hostname)"
for name in tmp run dev/shm; do
    on node1 touch "/$name/mark.$$"
    ! on node2 test -e "/$name/mark.$$" && [ ! -e "/$name/mark.$$" ] || fail "/$name is shared"
done
on node1 touch "$scratch/mark" && on node2 test -e "$scratch/mark" || fail "the scratch directory is not shared"
[ -n "$(hosts_remains node1)" ] || fail "a file of node1 is not seen to remain"
host_is_clean node2 || fail "node2 is not clean: $remains"
on node1 sh -c "rm /tmp/mark.$$ /run/mark.$$ /dev/shm/mark.$$"
on node1 sh -c 'sleep 97 >/dev/null 2>&1 &'
sleeps() { [ "$(hosts_remains node1)" = "process sleep 97" ]; }
wait_until 60 "a process of node1 is seen to remain" sleeps
! on node2 pgrep -f 'sleep 97' >/dev/null || fail "node2 sees a process of node1"
kill "$(sleeper_on node1 97)"
wait_until 60 "node1 is clean" host_is_clean node1
pass "hosts share files, and neither memory nor processes"

[ "$(on node1 sh -c 'echo words | "$HOSTS_DIR/rsh" -x -o BatchMode=yes node2 "hostname; cat"')" = $'node2\nwords' ] ||
    fail "rsh did not run a command on node2 with its input"
code=0
on node1 ssh node3 'exit 7' || code=$?
[ $code = 7 ] || fail "ssh gives $code, not the command's 7"
pass "a remote shell as ssh is"

hosts_cut node2
must_not_reach node1 node2 cut
must_reach node1 node3 "node2 is cut"
hosts_mend node2
must_reach node1 node2 mend
hosts_drop node2
must_not_reach node1 node2 drop
on node2 sh -c 'ip -br link show eth0 | grep -q LOWER_UP' || fail "drop: node2's link is down"
hosts_undrop node2
must_reach node1 node2 undrop
pass "a cable that is pulled, and one that loses all"

# hears FROM TO SECONDS: does a datagram arrive, so soon?
hears() {
    : >"$scratch/heard"
    on "$2" python3 -c 'import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(("", 999)); s.settimeout(float(sys.argv[1]))
print("up", flush=True); s.recv(9)' "$3" >"$scratch/heard" 2>/dev/null &
    wait_until 60 "the receiver is up" grep -q up "$scratch/heard"
    on "$1" bash -c "echo ping >/dev/udp/$2/999" 2>/dev/null || true # who is mute may be told
    wait $!
}
must_hear() { hears "$1" "$2" 60 || fail "$3: $2 does not hear $1"; }
must_not_hear() { ! hears "$1" "$2" 0.5 || fail "$3: $2 hears $1"; }
hosts_mute node2
must_not_hear node2 node1 mute
must_hear node1 node2 mute
hosts_hear node2
hosts_deaf node2 100 node1
must_not_hear node1 node2 "deaf to node1"
must_hear node3 node2 "deaf to node1"
must_hear node2 node1 "deaf to node1"
hosts_hear node2
must_hear node1 node2 hear
pass "loss in one direction, and between two hosts alone"

connect_us() { on node1 bash -c "begin=\${EPOCHREALTIME/./}; exec 3<>/dev/tcp/node2/22; echo \$((\${EPOCHREALTIME/./} - begin))"; }
hosts_delay node2 50
connect_us >/dev/null # the address is asked for first
took=$(connect_us)
[ "$took" -ge 100000 ] || fail "with 50 ms each way a connection took $took us"
digest=$(head -c 3000000 "$TRIREME_BIN/trireme-train" | sha256sum)
[ "$(head -c 3000000 "$TRIREME_BIN/trireme-train" | on node1 ssh node2 sha256sum)" = "$digest" ] ||
    fail "what a delayed cable carries is changed"
hosts_delay node2 1 100
must_not_reach node1 node2 "100 % loss"
hosts_delay node2 0
must_reach node1 node2 "no delay"
pass "a long cable, and a bad one"

on node2 sh -c 'touch /dev/shm/old; sleep 98 >/dev/null 2>&1 &'
sleeps() { sleeper=$(sleeper_on node2 98) && [ -n "$sleeper" ]; }
wait_until 60 "a process of node2 sleeps" sleeps
is_stopped() { grep -q 'State:.*stopped' "/proc/$sleeper/status"; }
goes_on() { ! is_stopped; }
hosts_freeze node2
wait_until 60 "a process is frozen" is_stopped
hosts_thaw node2
wait_until 60 "it thaws" goes_on
hosts_kill node2
[ ! -e "/proc/$sleeper" ] || fail "kill: a process is left"
must_not_reach node1 node2 kill
hosts_boot node2
must_reach node1 node2 boot
! on node2 test -e /dev/shm/old || fail "a host that was killed kept its memory"
# The other end of a connection hears of a kill, and not of a crash.
for how in kill crash; do
    [ $how = kill ] && patience=20 || patience=1
    : >"$scratch/heard"
    # It listens until this script says that the other host is gone, and so long on top.
    rm -f "$scratch/gone"
    on node1 bash -c 'exec 3<>/dev/tcp/node2/22; read -r -u 3; echo open
        until [ -e "$0" ]; do sleep 0.02; done; read -r -t "$1" -u 3; [ $? -gt 128 ] || echo closed' \
        "$scratch/gone" "$patience" >"$scratch/heard" &
    wait_until 60 "the connection is open" grep -q open "$scratch/heard"
    "hosts_$how" node2
    touch "$scratch/gone"
    wait $! || true
    [ "$how.$(tail -1 "$scratch/heard")" = kill.closed ] || [ "$how.$(tail -1 "$scratch/heard")" = crash.open ] ||
        fail "$how: the other end saw: $(<"$scratch/heard")"
    hosts_boot node2
done
must_reach node1 node2 "boot after a crash"
pass "hosts die, silently or not, and boot with empty memory"

nothing_left node1 node2 node3
is_gone() { [[ $(hosts_birth "$1" || echo Z) == Z* ]]; }
pids=$(hosts_pids node1) network=$(hosts_pid node1.network) switch=$(hosts_pid switch.network)
hosts_down
for pid in $pids $network $switch; do
    is_gone "$pid" || fail "process $pid of the hosts is left"
done
[ -z "$(ls -A "$HOSTS_DIR")" ] || fail "files of the hosts are left: $(ls -A "$HOSTS_DIR")"

# An owner that dies takes its hosts with it.
bash -c '. "$TRIREME_SOURCE/tests/cluster/hosts.sh"; hosts_up 1 && hosts_pid node1.init >"$0"; kill -9 $$' "$scratch/init" || true
read -r pid <"$scratch/init"
wait_until 60 "the hosts of an owner that was killed are gone" is_gone "$pid"
wait_until 60 "the state of an owner that was killed is gone" test ! -e "$HOSTS_DIR/list"
pass "hosts leave nothing"
finish
