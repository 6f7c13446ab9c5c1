# The NBD server is not honest: a program of ours in dom0 (tests/hostile-net, nbd/) does to the stub what a server can do:
# negotiation, replies, data, the connection's bytes and its end. The same stub serves a second disk, from an honest
# server, to the same guest, which writes and reads both in turn. A bystander has a stub of its own. group= is negotiation, or
# replies (hostile-nbd-replies).
#
# attack first-greeting: a guest starts while its server greets as none of NBD's
# attack first-size: a guest starts while its export has no bytes
# attack first-blocks: a guest starts while its export has blocks of 513 bytes
# attack first-infos: a guest starts while its server sends informations without end
# attack first-silence: a guest starts while its server greets and says nothing more
# attack next-guest: another guest of the same server, when all is over
. /pf/lib.sh
. /scenarios/checks.sh
. /scenarios/steady.sh

# hostile_server PORT GROUP|ATTACK: starts the server there, whose attacks of a group begin with the file /run/nbd.go; what it says is read as a guest's console of the name
# server-PORT.
hostile_server() {
    timeout 560 "$pf_hostile/hostile-nbd" "10.0.0.1:$1" "$2" /run/nbd.go >"$(guest_log "server-$1")" 2>&1 &
    server_pid=$!
    wait_guest_line "server-$1" 'PF listening=' 10
}

# end_server: ends the server that was started last.
end_server() {
    kill "$server_pid"
    wait "$server_pid" 2>/dev/null
}

# first NAME PORT SERVERS-ATTACK PATTERN: a guest whose server makes that attack on each connection does not start, and
# the daemon says why.
first() {
    attack "$1"
    stretch "$1"
    check "$1: its server runs" hostile_server "$2" "$3"
    disk_refused "$1: the guest" "disk xvda \(51712\): .*NBD server 10.0.0.1:$2: $4" \
        "$(virtio_disk xvda "$(server="10.0.0.1:$2" nbd_disk "$1" far)")"
    check "$1: the daemon says few lines" test "$(daemon_lines | wc -l)" -lt 8
    end_server
    attacked "" "$(stretched)"
}

begin
check "dom0 has a bridge" network_start
near=$(raw_disk near 8)
nbd_export near "$near"
check "an honest NBD server listens" nbd_start
group=${group:-negotiation}
rm -f /run/nbd.go
check "the hostile one listens" hostile_server 10810 $group
main_pid=$server_pid
# First, while the machine has nothing else to do: xl's scripts for an interface take long beside others.
start_steady \
    "$(virtio_disk xvda "$(server=10.0.0.1:10810 nbd_disk far far 'backend-timeout-ms = 3000')")" \
    "$(virtio_disk xvdb "$(nbd_disk near near)")"
heap_fact before
start_bystander 100000
watch_stalls
touch /run/nbd.go
told_attacks server-10810 400
heap_fact after
[ $group = negotiation ] || fact flap_connections "$(guest_value server-10810 flap_connections)"
check "it got something done on the hostile server's disk" test "$(good_of)" -gt 100
judge_steady
equal "no byte of one disk is on the other" 0 "$(grep -a -c '^far ' "$near")"
check "the other disk has its own" grep -a -q '^near ' "$near"

# next_guest: another guest of the same server.
next_guest() {
    attack next-guest
    stretch next-guest
    start_frontend next 'mode=patient' "$(virtio_disk xvda /disks/far.pilotfish)" \
        "$(virtio_disk xvdb /disks/near.pilotfish)" || fail "the next guest starts"
    check "both its disks serve" wait_guest_line next 'PF turns=[0-9]* good=[1-9][0-9]* errors=0' 20
    check "the next guest is destroyed" xl destroy next
    attacked "" "$(stretched)"
}

[ $group = replies ] || next_guest
server_pid=$main_pid
end_server
if [ $group = negotiation ]; then
    first first-greeting 10811 greeting-magic 'not an NBD server'
    first first-size 10812 size-0 'the export has a bad size'
    first first-blocks 10813 block-odd 'the export has a bad block size'
    first first-infos 10814 infos-without-end 'the negotiation is too long'
    # On a slow machine the daemon's patience ends first.
    first first-silence 10815 greeting-then-silence '(the negotiation took too long|not ready yet)'
fi
tell_stalls

end_bystander
nothing_left
nbd_signal TERM
finish
