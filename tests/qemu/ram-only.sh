# A disk inside the stub: no image, no blkback, no loop device; only guest and stub.
. /pf/lib.sh
. /scenarios/checks.sh

begin
extra="pf.rounds=6 pf.tag=ram pf.linger=3" check "xl create" start_guest ramonly rounds "$(virtio_disk xvda "$(ram_disk ramonly 24)")"
check "the guest verifies six rounds" wait_guest_line ramonly 'PF done=6' 40
equal "no PV backend serves it" "" "$(backends vbd)"
equal "one stub serves it" 1 "$(count_stubs)"
check "the guest powers off" wait_gone ramonly 30
equal "the guest saw no error" "" "$(guest_value ramonly error)"
nothing_left
finish
