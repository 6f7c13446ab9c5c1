# A guest with two vCPUs: both do I/O at once, so both have accesses with the stub at once.
. /pf/lib.sh
. /scenarios/checks.sh

begin
image=$(raw_disk vcpus 32)
vcpus=2 check "xl create" start_guest vcpus two-vcpus "$(virtio_disk xvda "$image")"
check "the guest is done" wait_guest_line vcpus 'PF done=16' 60
equal "it has two CPUs" 2 "$(guest_value vcpus cpus)"
equal "the first CPU verified its rounds" 8 "$(guest_value vcpus cpu0)"
equal "the second CPU verified its rounds" 8 "$(guest_value vcpus cpu1)"
check "the guest powers off" wait_gone vcpus 30
equal "the guest saw no error" "" "$(guest_value vcpus error)"
nothing_left
finish
