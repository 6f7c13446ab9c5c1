# The data are not dom0's: a driver domain, unprivileged and with Xen's own `xl devd`, has the
# block device, and the stub's PV disk leads there. It is killed under I/O and made again.
. /pf/lib.sh
. /scenarios/checks.sh
. /scenarios/driver-domains.sh

begin
image=$(raw_disk far 32)
driver_config "disk = [ '$(pv_disk xvda "$image")' ]"
start_driver 65536
extra="pf.rounds=30 pf.tag=far" check "xl create" start_guest far driver-domain "$(virtio_disk xvda "$(far_disk far /dev/xvda)")"
check "the guest does verified I/O" more_rounds far 2 60
equal "dom0 has no storage backend but the driver domain's" "$(domid driver)/51712" "$(backends vbd | tr '\n' ' ' | sed 's/ $//')"
stub=$(stub_of far)

# The driver domain dies under I/O, and another takes its place with the same data.
check "the driver domain is killed" xl destroy driver
sleep 2
at=$(rounds_of far)
sleep 3
equal "the guest waits" "$at" "$(rounds_of far)"
start_driver 65536
attach_again "$stub" /dev/xvda
check "the guest goes on" more_rounds far 2 60

tail -n 20 "$(guest_log "$stub")"
check "the guest is done" wait_guest_line far 'PF done=30' 90
check "it powers off" wait_gone far 30
equal "the guest saw no error" "" "$(guest_value far error)"
# Writes that the dead domain had completed but not flushed are told as lost.
check "but for one failed flush at most" test "$(guest_value far failures)" -le 1
fact failed_flushes "$(guest_value far failures)"
check "the driver domain ends" xl destroy driver
check "the image in dom0 holds what the guest wrote" image_holds "$image" far 30
nothing_left
finish
