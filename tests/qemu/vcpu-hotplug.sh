# A guest with four vCPUs and a queue for each takes CPUs off- and online under I/O; then dom0
# takes three of them away and gives them back (xl vcpu-set).
. /pf/lib.sh
. /scenarios/checks.sh

begin
image=$(raw_disk hotplug 8)
vcpus=4 memory=256 extra="pf.cycles=4" check "xl create" start_guest hotplug vcpu-hotplug "$(virtio_disk xvda "$image")"
check "the guest does I/O" more_rounds hotplug 2 60
equal "it has a queue for each vCPU" 4 "$(guest_value hotplug queues)"
check "its CPUs go and come back four times" wait_guest_line hotplug 'PF cycles=done' 120
check "I/O goes on" more_rounds hotplug 2 60
check "all its CPUs are there" wait_guest_line hotplug 'PF online=0-3' 10
pf_online() { [ "$(guest_value hotplug online)" = "$1" ]; }
for round in 1 2; do
    check "dom0 takes three vCPUs away ($round)" xl vcpu-set hotplug 1
    check "the guest has one ($round)" wait_for 20 pf_online 0
    check "I/O goes on with one ($round)" more_rounds hotplug 2 60
    check "dom0 gives them back ($round)" xl vcpu-set --ignore-host hotplug 4
    check "the guest has four ($round)" wait_for 30 pf_online 0-3
    check "I/O goes on with four ($round)" more_rounds hotplug 2 60
done
equal "the guest saw no error" "" "$(guest_value hotplug error)"
check "xl destroys the guest" timeout 40 xl destroy hotplug
check "the image holds what the guest wrote" workers_hold hotplug "$image" hotplug 4
nothing_left
finish
