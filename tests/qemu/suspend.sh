# A guest goes to sleep with its disk in use and wakes again, in each way that its kernel and this
# Xen offer. Its kernel takes the driver off the device (reset) and sets it up again.
. /pf/lib.sh
. /scenarios/checks.sh

begin
image=$(raw_disk suspend 32)
config=$(vcpus=2 memory=320 guest_config suspend suspend "$(virtio_disk xvda "$image")")
# A serial port whose interrupt may wake the guest: the console cannot.
echo "vuart = 'sbsa_uart'" >>"$config"
: >"$(guest_log suspend)"
timeout 60 xl create "$config" || die "xl create"
pass "xl create"
guest=$(domid suspend)

# Its state in xl list: r, b, p, s(hut down), c, d.
asleep() { xl list suspend | awk 'NR == 2 { exit $5 !~ /s/ }'; }
woken() { pf_logged suspend "PF \(woken=$1\|error=\)"; }
knock() {
    echo >"$(xenstore-read "/local/domain/$guest/vuart/0/tty")"
    woken "$1"
}

check "its devices are frozen and thawed three times under I/O, as for hibernation" \
    wait_guest_line suspend 'PF \(thawed=3\|error=\)' 120
equal "the driver began on the disk again each time" 4 "$(guest_value suspend starts_thawed)"

check "it goes to sleep (suspend to idle)" wait_guest_line suspend 'PF \(sleeping=idle\|error=\)' 30
sleep 3
rounds=$(rounds_of suspend)
sleep 1
equal "it sleeps" "$rounds" "$(rounds_of suspend)"
check "it is woken by its serial port" wait_for 30 knock idle
equal "the driver began on the disk again" 5 "$(guest_value suspend starts_idle)"

check "it says whether it can suspend to RAM" wait_guest_line suspend 'PF \(deep=[01]\|error=\)' 30
deep=$(guest_value suspend deep)
case $(cat /pf/xen-version) in
    4.17 | 4.20) equal "which it cannot: Xen before 4.22 has no PSCI SYSTEM_SUSPEND for guests" 0 "$deep" ;;
    *) equal "which it can" 1 "$deep" ;;
esac
if [ "$deep" = 1 ]; then
    for n in 1 2; do
        check "its domain is suspended ($n)" wait_for 60 asleep
        equal "the stub stays" 1 "$(count_stubs)"
        sleep 1
        check "xl resume" timeout 20 xl resume suspend
        check "it wakes" wait_for 40 woken "ram$n"
    done
    equal "the driver began on the disk again each time" 7 "$(guest_value suspend starts_ram2)"
fi
check "it goes on with verified I/O" more_rounds suspend 8 60
check "the same domain all the time" test "$guest" = "$(domid suspend)"
equal "the guest saw no error" "" "$(guest_value suspend error)"
check "the guest is destroyed" timeout 40 xl destroy suspend
check "the image holds what the guest wrote" workers_hold suspend "$image" suspend 2
nothing_left
finish
