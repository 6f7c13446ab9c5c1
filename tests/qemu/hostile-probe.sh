# A stub asks Xen for what it must not have: everything that a device model does, but on dom0
# and on a guest that is not its own; domctls that act, on anybody; a buffered ioreq server on its own
# guest. Each refusal by its errno; beside each, the same on its own guest, which succeeds: so
# a refusal is none because the call was wrong. And the same stub without set_target gets
# nothing at all.
#
# attack server: an ioreq server for another guest and for dom0
# attack server_page: the page of another guest's ioreq server
# attack server_range: a range of addresses in another guest, for a server
# attack server_off: another guest's server is switched off
# attack nr_vcpus: how many vCPUs another guest has
# attack map: a page of another guest's RAM, and of dom0's
# attack grant_table: another guest's grant table as a resource
# attack buffered_server: a server with a buffered ring, of anybody
# attack irq: an interrupt of another guest's
# attack getdomaininfo: what Xen tells a toolstack of another guest
# attack pausedomain: a domctl that stops somebody, its own guest too
# attack destroydomain: a domctl that ends somebody, its own guest too
# attack set_target: a domctl that gives it another guest
# attack forged: a grant of any page, written into another's grant table
. /pf/lib.sh
. /scenarios/checks.sh

begin
# Enough rounds to outlast both stubs: a bystander that has gone is no witness.
start_bystander 80
watch_stalls
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
xl destroy probe
targeted=no check "the same stub runs without a target" launch_stub unarmed probe "$target" "other=$other" "domctl=$domctl"
check "it has asked for everything" wait_guest_line unarmed 'PF done=1' 40
xl destroy unarmed
xl destroy victim

# asked WHAT WHOSE EXPECTED: by the stub with a target, and by the one without.
asked() {
    answer probe "$1_$2" "$3"
    answer unarmed "$1_$2" EPERM
}
for what in $device_model buffered_server; do
    attack $what
    for whose in other dom0; do asked $what $whose EPERM; done
    case $what in
        buffered_server) asked $what target EINVAL ;;
        *) asked $what target ok ;;
    esac
    attacked
done
# On its own guest it depends on the line.
attack irq
for whose in other dom0; do asked irq $whose EPERM; done
answer unarmed irq_target EPERM
attacked
# Xen lets a device model look at its guest, and nobody else.
attack getdomaininfo
asked getdomaininfo target ok
for whose in other dom0; do asked getdomaininfo $whose EPERM; done
attacked
for what in $control; do
    attack $what
    for whose in target other dom0; do asked $what $whose EPERM; done
    attacked
done
attack set_target
for whose in target other; do answer probe "set_target_$whose" EPERM; done
attacked
# The right to map resources is also one to the grant table: a page that nobody has granted.
attack forged
equal "it reads its guest's memory by a grant that it forged" read "$(guest_value probe forged)"
equal "without a target it gets no grant table to forge in" "no table" "$(guest_value unarmed forged)"
attacked
tell_stalls

check "the bystander verifies all its rounds" wait_guest_line bystander 'PF done=80' 120
check "the bystander powers off" wait_gone bystander 30
equal "the bystander saw no error" "" "$(guest_value bystander error)"
check "the bystander's image holds what it wrote" image_holds "$bystander_image" witness 80
nothing_left
finish
