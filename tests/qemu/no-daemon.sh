# xl create while no daemon runs: it waits for the disk, gives up, says so, and leaves nothing.
. /pf/lib.sh
. /scenarios/checks.sh

begin
check "the daemon stops on TERM" daemon_stop
create_fails nobody rounds "$(virtio_disk xvda "$(raw_disk nobody 8)")"
fact xl_create_failed_after_ms "$create_ms"
check "it waited for the disk (10 s) and for little else" test "$create_ms" -ge 9000 -a "$create_ms" -le 45000
check "xl says that the disk was not ready" grep -q -i 'timed out\|timeout\|unable to add' /run/create.out
nothing_left
daemon_start
extra="pf.rounds=1" check "with the daemon back, a guest starts" start_guest somebody rounds "$(virtio_disk xvda "$(raw_disk nobody 32)")"
check "and does its round" wait_guest_line somebody 'PF done=1' 40
check "and powers off" wait_gone somebody 30
nothing_left
finish
