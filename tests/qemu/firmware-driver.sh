# A driver as firmware has it: VERSION_1 and nothing else, queues of 2 to 64, one request at a
# time, polling. It cuts its requests in every way, starts over after each, resets during a
# request, and once makes the device ask for a reset. A driver that accepts what was not offered is
# refused; one that accepts nothing at all is served.
. /pf/lib.sh
. /scenarios/checks.sh

begin
image=$(raw_disk firmware 3)
sectors=$((3 * 2048))
check "xl create" start_frontend firmware 'mode=firmware tag=firmware' "$(virtio_disk xvda "$image")"
check "the guest is done" wait_guest_line firmware 'PF \(done\|error\)=' 90
equal "it saw no error" "" "$(guest_value firmware error)"
equal "the capacity" "$sectors" "$(guest_value firmware sectors)"
equal "for what was not offered FEATURES_OK stays clear" 0 "$(guest_value firmware features_ok_not_offered)"
equal "and so does DRIVER_OK" 0 "$(guest_value firmware driver_ok_not_offered)"
equal "and no request is served" 0 "$(guest_value firmware served_not_offered)"
for framing in merged three full many odd; do
    check "requests in the framing \"$framing\" read as they were written" \
        test "$(guest_value firmware ${framing}_requests)" -gt 100
    case $framing in
        # The driver never acknowledges.
        full | many) wanted=1 ;;
        *) wanted=0 ;;
    esac
    equal "interrupts told meanwhile, if wanted" $wanted "$(guest_value firmware ${framing}_interrupts)"
    fact "${framing}_us_per_request" \
        $(($(guest_value firmware ${framing}_ms) * 1000 / $(guest_value firmware ${framing}_requests)))
done
equal "the serial number" pf-51712 "$(guest_value firmware serial)"
equal "a driver that accepts nothing, not even VERSION_1, is served" 1 "$(guest_value firmware read_with_nothing)"
equal "what is said twice changes nothing" 1 "$(guest_value firmware said_twice)"
equal "nothing arrives after a reset during a request" 20 "$(guest_value firmware quiet_after_reset)"
equal "and the next driver is served" 1 "$(guest_value firmware read_after_resets)"
equal "a request without room for a status stops the device" 1 "$(guest_value firmware needs_reset)"
equal "which says so" 2 "$(guest_value firmware needs_reset_interrupts)"
equal "and is well after a reset" 1 "$(guest_value firmware read_after_needs_reset)"
check "the guest powers off" wait_gone firmware 30
check "the image holds every sector" image_holds_sectors "$image" firmware "$sectors"
nothing_left
finish
