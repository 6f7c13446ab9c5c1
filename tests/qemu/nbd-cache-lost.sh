# A server that loses its cache: nbdkit, which writes to the image at a flush alone, is killed with what the guest had
# written and not flushed. The stub does these writes again, before anything else. If it cannot, one flush fails.
#
# Then power-cut on two such servers, which are killed amid writes.
storage=lossy
. /pf/lib.sh
. /scenarios/checks.sh
. /scenarios/nbd-disks.sh

log=/run/nbdkit.log
# serve [FILTER PARAMETER...]: starts the server, with one more filter of nbdkit, and an empty log.
serve() {
    rm -f $log
    nbdkit_start 10809 --filter=log ${1:+"--filter=$1"} --filter=cache file "$image" cache=writeback logfile=$log "${@:2}"
}
# requests KIND: how many requests of that kind the server was asked for since it runs.
requests() { grep -c " $1 id=[0-9]* offset=.* \.\.\.\$" $log; }
pf_asked() { [ "$(requests Write)" -ge "$1" ]; }

# stored_blocks TAG FIRST COUNT: how many blocks of 64 KiB the image holds as the guest wrote them.
stored_blocks() {
    local block count=0
    for block in $(seq "$2" $(($2 + $3 - 1))); do
        dd if="$image" of=/run/place bs=64k skip="$block" count=1 2>/dev/null
        if pattern "$1" "$block" 65536 | cmp -s - /run/place; then count=$((count + 1)); fi
    done
    echo $count
}

# answered TAG SAME FLUSH AGAIN: the guest goes on until its next part begins, and has these statuses.
answered() {
    check "$1: the guest goes on" xl unpause lost
    check "$1: it is done" wait_guest_line lost "PF $1_again=" 40
    check "$1: it is stopped before it goes on" xl pause lost
    equal "$1: it reads what it wrote" "$2" "$(guest_value lost "$1_same")"
    equal "$1: its flush" "$3" "$(guest_value lost "$1_flush")"
    equal "$1: its flush after that" "$4" "$(guest_value lost "$1_again")"
}

# put TAG: has the guest write, and stops it then.
put() {
    [ "$1" = lost ] || check "$1: the guest goes on" xl unpause lost
    check "$1: the guest writes" wait_guest_line lost "PF $1_put=" 60
    check "$1: it is stopped" xl pause lost
    equal "$1: its writes were done" 0 "$(guest_value lost "$1_put")"
    equal "$1: it has not gone on" "" "$(guest_value lost "$1_same")"
}

begin
check "dom0 has a bridge" network_start
image=$(raw_disk lost 16)
check "the server starts" serve
check "xl create" start_guest lost cache-lost "$(virtio_disk xvda "$(nbd_disk lost any)")"

# Less than what the stub flushes by itself for.
put lost
equal "the guest knows of the cache" "write back" "$(guest_value lost cache)"
equal "lost: the server was asked for as many writes" 12 "$(requests Write)"
equal "lost: and for no flush" 0 "$(grep -c ' Flush id=' $log)"
storage_kill
equal "lost: none of them is left" 0 "$(stored_blocks lost 0 12)"
check "lost: the server starts again" serve
check "lost: the stub does the writes again" wait_for 30 pf_asked 12
sleep 1
equal "lost: each once" 12 "$(requests Write)"
equal "lost: the image holds none yet" 0 "$(stored_blocks lost 0 12)"
answered lost 0 0 0
equal "lost: now the image holds all" 12 "$(stored_blocks lost 0 12)"

# Twice as much as the stub keeps: it flushes in between.
put long
flushes=$(grep -c ' Flush id=.*\.\.\.$' $log)
storage_kill
kept=$(stored_blocks long 16 64)
fact blocks_flushed_by_the_stub "$kept"
check "long: the stub has flushed by itself ($flushes flushes, $kept of 64 blocks)" test "$kept" -ge 32
check "long: but not all of it" test "$kept" -lt 64
check "long: the server starts again" serve
check "long: the stub does the rest again" wait_for 30 pf_asked $((64 - kept))
answered long 0 0 0
equal "long: the image holds all" 64 "$(stored_blocks long 16 64)"

# The server that comes back takes no writes: they are lost, and the guest is told so, once.
put failed
storage_kill
check "failed: a server starts that takes no writes" serve error error-pwrite=EIO error-pwrite-rate=100%
check "failed: the stub tries to do them again" wait_for 30 pf_asked 1
check "failed: and says that they may be lost" wait_guest_line "$(stub_of lost)" 'may be lost; a flush fails to tell it' 10
answered failed 2 1 0
equal "failed: the image holds none" 0 "$(stored_blocks failed 96 12)"
storage_kill
check "failed: an honest server starts" serve

# And that is over.
put after
equal "after: the server was asked for the guest's writes alone" 12 "$(requests Write)"
storage_kill
check "after: the server starts again" serve
check "after: the stub does the writes again" wait_for 30 pf_asked 12
answered after 0 0 0
equal "after: the image holds all" 12 "$(stored_blocks after 112 12)"

check "the guest goes on" xl unpause lost
check "it is done" wait_guest_line lost 'PF done=1' 20
check "it powers off" wait_gone lost 30
equal "it saw no other error" "" "$(guest_value lost error)"
storage_kill
nothing_left

kills=${kills:-4}
server_kills=${server_kills:-3}
ways=(server server-back guest both)
. /scenarios/power-cut.sh
