# on-stub-crash = "restart" where it cannot be: a stub that panics too often, one that was
# destroyed, one with a RAM disk. The daemon says why, and ends the guest as crashed.
. /pf/lib.sh
. /scenarios/checks.sh

begin
check "the daemon stops" daemon_stop
restart_daemon

log_mark
image=$(raw_disk often 32)
extra="pf.rounds=100000 pf.tag=often" check "xl create" start_guest often rounds "$(virtio_disk xvda "$image")"
check "the guest does I/O" more_rounds often 1 40
stub=$(domid "$(stub_of often)")
for count in 1 2 3; do
    bug_in "$stub" panic
    check "restart $count" wait_for 20 restarted_times "$stub" "$count"
    check "the guest goes on" more_rounds often 1 40
done
bug_in "$stub" panic
check "the fourth panic ends the guest" wait_gone often 40
check_daemon_said "the daemon says why" 'no restart: it ended for good'
nothing_left

log_mark
image=$(raw_disk orphan 32)
extra="pf.rounds=100000 pf.tag=orphan" check "xl create" start_guest orphan rounds "$(virtio_disk xvda "$image")"
check "the guest does I/O" more_rounds orphan 1 40
check "xl destroy of the stub" timeout 30 xl destroy "$(stub_of orphan)"
check "the guest is ended" wait_gone orphan 40
check_daemon_said "the daemon says why" 'no restart: a stub domain that is gone cannot be replaced'
nothing_left

log_mark
extra="pf.rounds=1 pf.linger=100" check "a guest with a RAM disk starts" start_guest volatile rounds "$(virtio_disk xvda "$(ram_disk volatile 8)")"
check_daemon_said "the daemon says that its stub cannot be restarted" 'cannot be restarted: disk xvda \(51712\)'
check "it is destroyed" timeout 40 xl destroy volatile
nothing_left
daemon_stop
daemon_start
finish
