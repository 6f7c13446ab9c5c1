# The stub's PV disk is detached and attached again by xl, under verified I/O: another storage
# backend device, another loop device, another ring. The guest sees nothing but the delay.
. /pf/lib.sh
. /scenarios/checks.sh

begin
image=$(raw_disk moved 32)
extra="pf.rounds=40 pf.tag=moved" check "xl create" start_guest moved rounds "$(virtio_disk xvda "$image")"
check "the guest does I/O" more_rounds moved 2 40
stub=$(stub_of moved)
for turn in 1 2 3; do
    check "xl detaches the stub's disk ($turn)" timeout 60 xl block-detach "$stub" xvda
    equal "no backend is left ($turn)" "" "$(backends vbd)"
    was=$(rounds_of moved)
    sleep 2
    equal "the guest waits ($turn)" "$was" "$(rounds_of moved)"
    check "xl attaches it again ($turn)" timeout 60 xl block-attach "$stub" \
        "vdev=xvda,format=raw,backendtype=phy,script=/usr/sbin/pilotfishd,access=rw,target=$image"
    check "the guest goes on ($turn)" more_rounds moved 2 40
done
check "the guest verifies all rounds" wait_guest_line moved 'PF done=40' 90
check "the guest powers off" wait_gone moved 30
equal "the guest saw no error" "" "$(guest_value moved error)"
check "the image holds what the guest wrote" image_holds "$image" moved 40
nothing_left
finish
