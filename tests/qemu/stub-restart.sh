# on-stub-crash = "restart": the stub, built with bugs on demand, panics again and again under a
# guest that does verified I/O: during an access, a queue's work, a completion, by a failed
# allocation, by a stack overflow. Each time it goes on in place; the guest sees no error.
. /pf/lib.sh
. /scenarios/checks.sh

begin
check "the daemon stops" daemon_stop
restart_daemon
log_mark

image=$(raw_disk phoenix 32)
vcpus=2 extra="pf.rounds=100000 pf.tag=phoenix" check "xl create" \
    start_guest phoenix rounds "$(virtio_disk xvda "$image")"
check "the guest does I/O" more_rounds phoenix 2 40
stub=$(domid "$(stub_of phoenix)")

# The stub restarts in place at most three times in ten minutes: a guest for each three bugs.
count=0
for bug in "taken 7" "published 3" "access 5"; do
    count=$((count + 1))
    from=$(now_ms)
    bug_in "$stub" "$bug"
    check "restart $count, after: $bug" wait_for 20 restarted_times "$stub" "$count"
    check "the guest goes on" more_rounds phoenix 3 40
    fact "restart_${bug% *}_ms" $(($(now_ms) - from))
done
equal "the same stub serves" "$stub" "$(domid "$(stub_of phoenix)")"
check_daemon_said "the daemon's log says so" 'stub .domain [0-9]+. restarted in place, [1-3] times so far: .*bug on demand'
end_guest phoenix "$image"

image=$(raw_disk again 32)
extra="pf.rounds=100000 pf.tag=again" start_guest again rounds "$(virtio_disk xvda "$image")" ||
    die "xl create of the second guest failed"
check "the guest does I/O" more_rounds again 2 40
stub=$(domid "$(stub_of again)")
count=0
for bug in "alloc" "stack" "finished 5"; do
    count=$((count + 1))
    bug_in "$stub" "$bug"
    check "restart $count, after: $bug" wait_for 20 restarted_times "$stub" "$count"
    check "the guest goes on" more_rounds again 3 40
done
end_guest again "$image"
nothing_left
daemon_stop
daemon_start
finish
