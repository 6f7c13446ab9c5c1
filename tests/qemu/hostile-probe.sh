# A stub asks Xen for what it must not have: everything that a device model does, but on dom0
# and on a guest that is not its own; domctls that act, on anybody; a buffered ioreq server on its own
# guest. Each refusal by its errno; beside each, the same on its own guest, which succeeds: so
# a refusal is none because the call was wrong. And the same stub without set_target gets
# nothing at all.
. /pf/lib.sh
. /scenarios/checks.sh

begin
# Enough rounds to outlast both stubs: a bystander that has gone is no witness.
start_bystander 50
other=$(domid bystander)
check "a guest for the hostile stub is made" xl create -p "$(guest_config victim mmio)"
target=$(domid victim)
domctl=$(interface domctl)

device_model='server server_page server_range server_off nr_vcpus map grant_table'
control='pausedomain destroydomain'
# answers STUB KEY EXPECTED...
answer() { equal "$1: $2 is answered with $3" "$3" "$(guest_value "$1" "$2")"; }

check "the hostile stub runs" launch_stub probe probe "$target" "other=$other" "domctl=$domctl"
check "it has asked for everything" wait_guest_line probe 'PF done=1' 40
for what in $device_model; do answer probe "${what}_target" ok; done
answer probe buffered_server_target EINVAL
for whose in other dom0; do
    for what in $device_model buffered_server irq; do answer probe "${what}_$whose" EPERM; done
done
# Xen lets a device model look at its guest, and nobody else.
answer probe getdomaininfo_target ok
for what in $control set_target; do answer probe "${what}_target" EPERM; done
for what in getdomaininfo $control set_target; do answer probe "${what}_other" EPERM; done
for what in getdomaininfo $control; do answer probe "${what}_dom0" EPERM; done
# The right to map resources is also one to the grant table: a page that nobody has granted.
equal "it reads its guest's memory by a grant that it forged" read "$(guest_value probe forged)"
xl destroy probe

targeted=no check "the same stub runs without a target" launch_stub unarmed probe "$target" "other=$other" "domctl=$domctl"
check "it has asked for everything" wait_guest_line unarmed 'PF done=1' 40
for whose in target other dom0; do
    for what in $device_model buffered_server irq getdomaininfo $control; do answer unarmed "${what}_$whose" EPERM; done
done
equal "it gets no grant table to forge in" "no table" "$(guest_value unarmed forged)"
xl destroy unarmed
xl destroy victim

check "the bystander verifies all its rounds" wait_guest_line bystander 'PF done=50' 120
check "the bystander powers off" wait_gone bystander 30
equal "the bystander saw no error" "" "$(guest_value bystander error)"
check "the bystander's image holds what it wrote" image_holds "$bystander_image" witness 50
nothing_left
finish
