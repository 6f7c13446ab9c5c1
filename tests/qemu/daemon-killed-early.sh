# The daemon is killed after it made a stub and before it told libxl: the guest does not start,
# and the next daemon removes the stub that nobody needs.
. /pf/lib.sh
. /scenarios/checks.sh

begin
image=$(raw_disk early 32)
pf_some_stub() { [ "$(count_stubs)" -gt 0 ]; }
(create_fails early rounds "$(virtio_disk xvda "$image")" >/run/early.out 2>&1) &
xl_job=$!
check "a stub appears" wait_for 15 pf_some_stub
daemon_stop KILL
state=$(xenstore-read "/local/domain/0/backend/virtio_disk/$(domid early)/51712/state")
equal "the disk was not announced yet" 1 "$state"
wait $xl_job
cat /run/early.out
check "xl create fails" grep -q 'pass xl create fails' /run/early.out
log_mark
daemon_start
nothing_left
extra="pf.rounds=1" check "then a guest starts" start_guest early rounds "$(virtio_disk xvda "$image")"
check "and does its round" wait_guest_line early 'PF done=1' 40
check "and powers off" wait_gone early 30
nothing_left
finish
