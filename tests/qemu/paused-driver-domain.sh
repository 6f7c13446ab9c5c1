# A guest is destroyed while the driver domain that has its data is paused amid its I/O. Guest and stub stay
# as dying domains, for that domain still has pages of the stub mapped, and go when it goes on.
. /pf/lib.sh
. /scenarios/checks.sh
. /scenarios/driver-domains.sh

# is_dying DOMID: whether that domain is there still, and dying.
is_dying() { xl list 2>/dev/null | awk -v id="$1" '$2 == id && $5 ~ /d/ { found = 1 } END { exit !found }'; }

# is_freed DOMID...: whether Xen has none of these domains any more.
is_freed() { ! xl list 2>/dev/null | awk '{ print $2 }' | grep -q -x -F "$(printf '%s\n' "$@")"; }

begin
image=$(raw_disk far 32)
driver_config "disk = [ '$(pv_disk xvda "$image")' ]"
start_driver 65536
disk=$(far_disk far /dev/xvda)
extra="pf.rounds=10000 pf.tag=far" check "xl create" start_guest far rounds "$(virtio_disk xvda "$disk")"
check "the guest does verified I/O" more_rounds far 2 60
guest=$(domid far)
stub=$(domid "$(stub_of far)")

log_mark
check "the driver domain is paused" xl pause driver
stands_still far 2 "for its storage"
equal "it saw no error" "" "$(guest_value far error)"
free=$(free_mib)
from=$(now_ms)
check "xl destroy returns" timeout 40 xl destroy far
fact destroy_ms $(($(now_ms) - from))
sleep 2
xl list
daemon_lines
check "the stub is a dying domain" is_dying "$stub"
check "so is the guest" is_dying "$guest"
fact freed_mib $(($(free_mib) - free))
check "but Xen has the guest's memory back" test $(($(free_mib) - free)) -ge 190

extra="pf.rounds=3 pf.tag=near" check "another guest starts meanwhile" \
    start_guest near rounds "$(virtio_disk xvda "$(raw_disk near 32)")"
check "it verifies its rounds" wait_guest_line near 'PF done=3' 60
check "it powers off" wait_gone near 30
check "the others are dying still" is_dying "$stub"

check "the driver domain goes on" xl unpause driver
from=$(now_ms)
wait_for 40 is_freed "$guest" "$stub"
check "guest and stub are freed" is_freed "$guest" "$stub"
fact freed_ms $(($(now_ms) - from))
extra="pf.rounds=2 pf.tag=next" check "the next guest starts with the same data" \
    start_guest next rounds "$(virtio_disk xvda "$disk")"
check "it verifies its rounds" wait_guest_line next 'PF done=2' 60
check "it powers off" wait_gone next 30
check "the driver domain ends" xl destroy driver
check "the image in dom0 holds what the next guest wrote" image_holds "$image" next 2
nothing_left
finish
