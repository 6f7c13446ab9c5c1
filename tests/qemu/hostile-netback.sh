# The network's back end is not honest: a driver domain with an image of ours (tests/hostile, netback/) does to the stub
# what a netback can do: rings, ids, pages, frames, events, xenbus states, nodes. Behind it is an NBD server of that image.
# The same stub serves a second disk, a PV disk from dom0, to the same guest, which writes and reads both in turn. A
# bystander has a stub of its own.
. /pf/lib.sh
. /scenarios/checks.sh

begin
cat >/run/evil.cfg <<END_OF_CONFIG
name = 'evil'
type = 'pvh'
kernel = '$pf_hostile/netback.img'
memory = 32
vcpus = 1
driver_domain = 1
on_poweroff = 'preserve'
on_crash = 'preserve'
END_OF_CONFIG
: >"$(guest_log evil)"
check "the driver domain starts" timeout 60 xl create /run/evil.cfg
check "it waits for an interface" wait_guest_line evil 'PF waiting=1' 20
near=$(raw_disk near 8)
# First, while the machine has nothing else to do.
log_mark
start_frontend steady 'mode=patient' \
    "$(virtio_disk xvda "$(nbd_disk far far 'network-backend = "evil"' 'backend-timeout-ms = 3000')")" \
    "$(virtio_disk xvdb "$near")" || die "xl create"
stub=$(stub_of steady)
stub_domid=$(domid "$stub")
heap() { xenstore-read "/local/domain/$stub_domid/data/pilotfish/heap_peak_kib" 2>/dev/null; }
fact stub_heap_before_kib "$(heap)"
start_bystander 100000
watch_stalls
xenstore-write "/local/domain/$(domid evil)/data/go" 1
told_attacks evil 500
fact stub_heap_after_kib "$(heap)"
fact flapped "$(guest_value evil flapped)"
tell_stalls
turns=$(guest_value steady turns)
fact turns "${turns%% *}"
echo "the guest: $turns"
equal "the guest saw no request unanswered, and its other disk served" "" "$(guest_value steady error)"
equal "the stub is the same" "$stub_domid" "$(domid "$stub")"
check "it did not panic" sh -c "! grep -q PANIC '$(guest_log "$stub")'"
check "its console stays short" test "$(stat -c %s "$(guest_log "$stub")")" -lt 65536
fact stub_console_bytes "$(stat -c %s "$(guest_log "$stub")")"
check "the daemon's log stays short" test "$(daemon_lines | wc -l)" -lt 30
tail -n 40 "$(guest_log "$stub")"
check "the guest is destroyed" xl destroy steady
equal "no byte of the other disk is on this one" 0 "$(grep -a -c '^far ' "$near")"
check "the driver domain is destroyed" xl destroy evil
check "the bystander goes on" more_rounds bystander 2 60
equal "the bystander saw no error" "" "$(guest_value bystander error)"
check "the bystander is destroyed" xl destroy bystander
nothing_left
finish
