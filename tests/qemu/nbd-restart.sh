# on-stub-crash = "restart" with an NBD disk: the stub, built with bugs on demand, panics three times under a guest that
# does verified I/O. Each time it goes on in place over a new connection. The guest sees no error, and no flush fails: the
# server was there all the while, and had what was not flushed.
. /pf/lib.sh
. /scenarios/checks.sh

begin
check "the daemon stops" daemon_stop
restart_daemon
log_mark
check "dom0 has a bridge" network_start
image=$(raw_disk web 32)
nbd_export web "$image"
check "an NBD server listens" nbd_start

vcpus=2 extra="pf.rounds=100000 pf.tag=web" check "xl create" \
    start_guest web rounds "$(virtio_disk xvda "$(nbd_disk web web)")"
check "the guest does I/O" more_rounds web 2 60
stub=$(domid "$(stub_of web)")
count=0
for bug in "taken 7" "finished 5" "alloc"; do
    count=$((count + 1))
    from=$(now_ms)
    bug_in "$stub" "$bug"
    check "restart $count, after: $bug" wait_for 20 restarted_times "$stub" "$count"
    check "the guest goes on" more_rounds web 3 60
    fact "restart_${bug% *}_ms" $(($(now_ms) - from))
done
tail -n 30 "$(guest_log "$(stub_of web)")"
equal "the same stub serves" "$stub" "$(domid "$(stub_of web)")"
check_daemon_said "the daemon's log says so" 'stub .domain [0-9]+. restarted in place, [1-3] times so far: .*bug on demand'
end_guest web "$image"
nothing_left
nbd_signal TERM
daemon_stop
daemon_start
finish
