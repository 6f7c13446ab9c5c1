# Somebody destroys a stub under its guest. The guest's vCPU waits for an answer that never
# comes; by default the daemon ends the guest as crashed, and its own on_crash decides
# (here: destroy).
. /pf/lib.sh
. /scenarios/checks.sh

begin
image=$(raw_disk orphan 32)
extra="pf.rounds=1000 pf.tag=orphan" check "xl create" start_guest orphan rounds "$(virtio_disk xvda "$image")"
check "the guest does I/O" more_rounds orphan 2 40
log_mark
from=$(now_ms)
check "xl destroy of the stub" timeout 30 xl destroy "$(stub_of orphan)"
check "the guest is ended" wait_gone orphan 40
fact guest_ended_after_ms $(($(now_ms) - from))
check_daemon_said "the daemon's log says so" 'its stub .domain [0-9]+. .*policy: CrashGuest'
nothing_left
finish
