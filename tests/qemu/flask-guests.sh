# Guests with labels of `pilotfishd --policy` under an enforcing FLASK policy: their stubs serve them without
# a target, and reach nobody else. What cannot be served says why. Guests cannot connect with each other.
. /pf/lib.sh
. /scenarios/checks.sh

begin
# answer STUB KEY EXPECTED
answer() { equal "$1: $2 is answered with $3" "$3" "$(guest_value "$1" "$2")"; }
# refused_as WHAT CONFIGURATION PATTERN: xl create fails, and the daemon says so.
refused_as() {
    log_mark
    if timeout 60 xl create "$2"; then fail "$1 does not start: it did"; else pass "$1 does not start"; fi
    check_daemon_said "the daemon says why" "$3"
}

/usr/sbin/pilotfishd --check-host >/run/check.out
check "--check-host takes an enforcing FLASK for good" grep -q -E '^ok +XSM: flask, enforcing' /run/check.out

log_mark
one=$(raw_disk one 32)
two=$(ram_disk two 16)
extra="pf.rounds=30 pf.tag=alpha" check "the first guest starts" start_guest one rounds "$(virtio_disk xvda "$one")"
extra="pf.rounds=30 pf.tag=beta" check "the second guest starts" start_guest two rounds "$(virtio_disk xvda "$two")"
check "the policy is loaded again under running guests" xl loadpolicy /pf/xenpolicy
for name in one two; do
    check "$name does verified I/O" more_rounds "$name" 2 60
    equal "$name has its label" "system_u:system_r:pf_guest_${name}_t" "$(label_of "$name")"
    equal "its stub has the one that belongs to it" "system_u:system_r:pf_stub_${name}_t" "$(label_of "$(stub_of "$name")")"
done
check_daemon_said "the daemon says that the policy decides" 'its stub is system_u:system_r:pf_stub_one_t'
for name in one two; do
    check "$name verifies all its rounds" wait_guest_line "$name" 'PF done=30' 120
    check "$name powers off" wait_gone "$name" 30
    equal "$name saw no error" "" "$(guest_value "$name" error)"
done
check "the image holds what the first wrote" image_holds "$one" alpha 30

check "a guest for the hostile stub is made" xl create -p "$(guest_config victim mmio)"
check "a guest that is another's is made" xl create -p "$(guest_config one mmio)"
twin=$(guest_config victim rounds "$(virtio_disk xvda "$(ram_disk twin 8)")")
sed "s/name = 'victim'/name = 'twin'/" "$twin" >/run/twin.cfg
refused_as "a guest with the label of another" /run/twin.cfg 'has the label system_u:system_r:pf_guest_victim_t too'
plain=$(guest_config plain rounds "$(virtio_disk xvda "$(ram_disk plain 8)")")
sed -i "s/^seclabel.*/seclabel = 'system_u:system_r:domU_t'/" "$plain"
refused_as "a guest with a label of Xen's own" "$plain" 'domU_t, none of .pilotfishd --policy.*make_priv_for'
refused_as "a guest whose policy lacks rights" "$(guest_config lame rounds "$(virtio_disk xvda "$(ram_disk lame 8)")")" \
    'does not allow hvm dm of .*pf_stub_lame_t over .*pf_guest_lame_t, mmu map_write .*--policy lame'

domctl=$(interface domctl)
words="other=$(domid one) domctl=$domctl"
device_model='server server_page server_range server_off nr_vcpus map grant_table'
domctls='getdomaininfo pausedomain destroydomain'
label=$(label victim stub) check "a hostile stub with the stub's label runs" launch_stub probe probe "$(domid victim)" "$words"
check "it has asked for everything" wait_guest_line probe 'PF done=1' 40
for what in $device_model port; do answer probe "${what}_target" ok; done
# Allowed by the policy: this guest has no such interrupt, and Arm no buffered server.
for what in irq buffered_server; do answer probe "${what}_target" EINVAL; done
for whose in other dom0; do
    for what in $device_model buffered_server irq; do answer probe "${what}_$whose" EACCES; done
done
for whose in target other dom0; do
    for what in $domctls; do answer probe "${what}_$whose" EACCES; done
done
for whose in target other; do answer probe "set_target_$whose" EACCES; done
answer probe port_dom0 ok
answer probe port_other EACCES
xl destroy probe

label=system_u:system_r:domU_t check "the same runs with a label of Xen's own" launch_stub unarmed probe "$(domid victim)" "$words"
check "it has asked for everything" wait_guest_line unarmed 'PF done=1' 40
for whose in target other dom0; do
    for what in $device_model buffered_server irq $domctls; do answer unarmed "${what}_$whose" EACCES; done
done
for whose in target other; do answer unarmed "port_$whose" EACCES; done
xl destroy unarmed

label=$(label guest guest) check "the same runs with the label of a guest" launch_stub neighbour probe "$(domid victim)" "$words"
check "it has asked for everything" wait_guest_line neighbour 'PF done=1' 40
for whose in target other; do
    for what in $device_model port; do answer neighbour "${what}_$whose" EACCES; done
done
answer neighbour port_dom0 ok
xl destroy neighbour
xl destroy victim

# Of a guest that grants its memory: one label for the set-up of the ioreq server, one for what comes after. Who may
# map resources may write the guest's grant table.
check "a guest that grants its memory is made" xl create -p "$(guest_config grants mmio)"
first=$(label grants stub)_building
label=$first check "the same runs with the first label of its stub" launch_stub starting probe "$(domid grants)" "$words"
check "it has asked for everything" wait_guest_line starting 'PF done=1' 40
for what in server server_page server_range server_off nr_vcpus grant_table port; do answer starting "${what}_target" ok; done
answer starting map_target EACCES
xl destroy starting
label=$(label grants stub) first_label=$first check "the same runs with the second label" \
    launch_stub serving probe "$(domid grants)" "$words"
check "it has asked for everything" wait_guest_line serving 'PF done=1' 40
# A port of its own is nobody's until the guest takes it.
for what in nr_vcpus port; do answer serving "${what}_target" ok; done
for what in server server_page grant_table map; do answer serving "${what}_target" EACCES; done
xl destroy serving
for whose in other dom0; do
    for what in $device_model; do
        for name in starting serving; do answer $name "${what}_$whose" EACCES; done
    done
done
equal "who may write the grant table may not use what it grants" refused "$(guest_value starting forged)"
equal "and who may use grants may not write the table" "no table" "$(guest_value serving forged)"
xl destroy grants
xl destroy one
nothing_left
finish
