# The network of a stub's NBD disk is not honest: a program of ours in dom0 (tests/hostile-net, frames/) sends frames to the
# bridge, as any domain there could, and sees all that is sent. The server is an honest one. The same stub serves a second
# disk, a PV disk, to the same guest, which writes and reads both in turn. A bystander has a stub of its own. After
# each attack both disks and the bystander have to go on.
#
# attack impostor-mss-0: another host in the server's place offers segments of no bytes
# attack impostor-mss-1: another host in the server's place offers segments of one byte
# attack impostor-scale: another host in the server's place offers a window scale of 255
# attack impostor-options: another host in the server's place offers options without end
. /pf/lib.sh
. /scenarios/checks.sh
. /scenarios/steady.sh

# Of the stub, as the daemon makes it of its address.
stub_mac=02:50:0a:00:00:06

pf_good_at_least() { [ "$(good_of)" -ge "$1" ]; }

# judge NAME: whether guest, stub and bystander are well after that attack.
judge() {
    if ! wait_for 60 pf_good_at_least $(($(good_of) + 3)); then
        echo "the guest's disk on the server does not serve: $(guest_value steady turns) $(guest_value steady error)"
        tail -n 10 "$(guest_log "$stub")"
        return 1
    fi
    if ! more_rounds bystander 1 60; then
        echo "the bystander stands still"
        return 1
    fi
    [ "$(domid "$stub")" = "$stub_domid" ]
}

# go_on: the program may make its next attack.
go_on() { echo "$made" >/run/frames.go; }

# impostor NAME ATTACK PATTERN: a guest whose server is an impostor does not start, and the daemon says why.
impostor() {
    attack "impostor-$1"
    stretch "impostor-$1"
    : >"$(guest_log impostor)"
    "$pf_hostile/hostile-frames" xenbr0 $stub_mac 10.0.0.6 "$bridge_mac" 10.0.0.99:10809 "impostor:$2" \
        >"$(guest_log impostor)" 2>&1 &
    server_pid=$!
    check "impostor-$1: it is there" wait_guest_line impostor 'PF ready=' 10
    disk_refused "impostor-$1: the guest" "disk xvda \(51712\): .*NBD server 10.0.0.99:10809: $3" \
        "$(virtio_disk xvda "$(server=10.0.0.99 nbd_disk "impostor-$1" far)")"
    kill "$server_pid"
    wait "$server_pid" 2>/dev/null
    check "impostor-$1: it was asked" pf_logged impostor 'PF syn='
    attacked "" "$(stretched)"
}

begin
check "dom0 has a bridge" network_start
# The program has the address of the bridge's own interface, to which frames for another would not come up. Without one
# of its own a bridge takes another with each vif.
bridge_mac=02:00:00:00:00:01
check "the bridge has an address of its own" ip link set xenbr0 address $bridge_mac
far=$(raw_disk far 8)
near=$(raw_disk near 8)
nbd_export far "$far"
check "an NBD server listens" nbd_start
# First, while the machine has nothing else to do: xl's scripts for an interface take long beside others.
start_steady "$(virtio_disk xvda "$(nbd_disk far far 'backend-timeout-ms = 3000')")" "$(virtio_disk xvdb "$near")"
heap_fact before
check "the guest uses both disks" wait_guest_line steady 'PF turns=[0-9]* good=[1-9]' 20
start_bystander 100000
watch_stalls
rm -f /run/frames.go
timeout 560 "$pf_hostile/hostile-frames" xenbr0 $stub_mac 10.0.0.6 "$bridge_mac" 10.0.0.1:10809 \
    /run/frames.go >"$(guest_log frames)" 2>&1 &
made=0
told_attacks frames 500 judge
heap_fact after
fact full_rate_frames_per_s "$(guest_value frames full_rate_frames_per_s)"
fact full_rate_short_frames_per_s "$(guest_value frames full_rate_short_frames_per_s)"
grep 'PF refused_.*=[1-9]' "$(guest_log frames)"
judge_steady
fact near_slowest_ms "${turns##*=}"
equal "no byte of the second disk is on the first" 0 "$(grep -a -c '^near ' "$far")"
equal "no byte of the first disk is on the second" 0 "$(grep -a -c '^far ' "$near")"

impostor mss-0 mss-0 ''
impostor mss-1 mss-1 ''
impostor scale scale-255 ''
impostor options options-without-end ''
tell_stalls

end_bystander
nothing_left
nbd_signal TERM
finish
