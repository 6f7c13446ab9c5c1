# Two guests at once: each has a stub of its own, and each its own data.
. /pf/lib.sh
. /scenarios/checks.sh

begin
one=$(raw_disk one 32)
two=$(raw_disk two 32)
extra="pf.rounds=10 pf.tag=alpha pf.linger=15" check "xl create of the first" start_guest one rounds "$(virtio_disk xvda "$one")"
extra="pf.rounds=10 pf.tag=beta pf.linger=4" check "xl create of the second" start_guest two rounds "$(virtio_disk xvda "$two")"
check "the second does verified I/O" more_rounds two 2 40
equal "there are two stubs" 2 "$(count_stubs)"
check "the first has its own" xl domid "$(stub_of one)"
check "the second has its own" xl domid "$(stub_of two)"
check "the first verifies its rounds" wait_guest_line one 'PF done=10' 60
check "the second verifies its rounds" wait_guest_line two 'PF done=10' 60
check "the first powers off" wait_gone one 30
check "the second powers off" wait_gone two 30
equal "the first saw no error" "" "$(guest_value one error)"
equal "the second saw no error" "" "$(guest_value two error)"
check "the first image holds the first guest's data" image_holds "$one" alpha 10
check "the second image holds the second guest's data" image_holds "$two" beta 10
nothing_left
finish
