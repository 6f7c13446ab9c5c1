# Guest and stub are paused and go on, each alone and both together, while four workers do
# verified I/O: a pause is latency, nothing else.
. /pf/lib.sh
. /scenarios/checks.sh

begin
image=$(raw_disk pause 8)
vcpus=2 extra="pf.tag=pause" check "xl create" start_guest pausing workers "$(virtio_disk xvda "$image")"
check "the guest does I/O" more_rounds pausing 2 40
stub=$(stub_of pausing)

# paused WHAT SECONDS DOMAIN...: pauses the domains for that long; no I/O gets done meanwhile.
paused() {
    local what=$1 seconds=$2 domain from
    shift 2
    for domain; do check "$what: xl pause $domain" xl pause "$domain"; done
    # What was told before the pause is still on its way through the console.
    sleep 1
    from=$(rounds_of pausing)
    sleep "$seconds"
    equal "$what: nothing gets done" "$from" "$(rounds_of pausing)"
    for domain; do check "$what: xl unpause $domain" xl unpause "$domain"; done
    check "$what: I/O goes on" more_rounds pausing 1 40
}
for seconds in 1 5; do
    paused "the guest is paused for $seconds s" $seconds pausing
done
for seconds in 1 4; do
    paused "the stub is paused for $seconds s" $seconds "$stub"
done
paused "both are paused, the guest first" 2 pausing "$stub"
paused "both are paused, the stub first" 2 "$stub" pausing
# Many short ones, with no regard to what is under way.
for n in $(seq 10); do
    xl pause pausing && xl unpause pausing && xl pause "$stub" && xl unpause "$stub" || fail "short pause $n"
done
check "after ten short pauses I/O goes on" more_rounds pausing 4 60
equal "with the same stub" "$stub" "$(stub_of pausing)"
equal "the guest saw no error" "" "$(guest_value pausing error)"
check "xl destroys the guest" timeout 40 xl destroy pausing
check "the image holds what the guest wrote" workers_hold pausing "$image" pause 4
nothing_left
finish
