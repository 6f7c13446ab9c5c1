# What a disk's target names does not exist: libxl itself says so for a plain path, the daemon
# for the path in a disk file. In both cases the guest does not start and nothing is left.
. /pf/lib.sh
. /scenarios/checks.sh

begin
create_fails missing rounds "$(virtio_disk xvda /disks/no-such.img)"
check "xl names the path" grep -q /disks/no-such.img /run/create.out
log_mark
printf 'storage = "pv"\ntarget = "/disks/no-such.img"\n' >/disks/missing.pilotfish
create_fails missing rounds "$(virtio_disk xvda /disks/missing.pilotfish)"
fact xl_create_failed_after_ms "$create_ms"
check_daemon_said "the daemon's log names the path" '/disks/no-such.img'
nothing_left
finish
