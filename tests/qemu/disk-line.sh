# What xl's disk line says is obeyed: no-discard for a PV and a RAM disk, a CD for an image that nobody may
# write, names of every kind; what has no effect does no harm. A domain's image is not attached twice.
. /pf/lib.sh
. /scenarios/checks.sh

begin
# line FLAGS VDEV TARGET [ro]: a disk line with more words.
line() {
    local flags=$1
    shift
    virtio_disk "$@" | sed "s/,target=/,$flags,target=/"
}
# full NAME: an image of 4 MiB that is allocated as a whole.
full() {
    yes "not a hole" | head -c 4194304 >"/disks/$1.img"
    echo "/disks/$1.img"
}
blocks() { stat -c %b "$1"; }

thick=$(full thick)
thin=$(full thin)
golden=$(full golden)
chmod 0444 "$golden"
words='discard,direct-io-safe'
[ "$(cat /pf/xen-version)" = 4.17 ] || words="$words,untrusted,grant_usage=0"
before=$(blocks "$thick")

check "xl create" start_guest line disk-line \
    "$(line no-discard xvda "$thick")" "$(line "$words" hdb "$thin")" \
    "$(line no-discard xvdq "$(ram_disk line 4)")" "$(line cdrom sdd "$golden")"
log_mark
if start_frontend second 'mode=crate' "$(virtio_disk xvda "$thick")" >/run/create.out 2>&1; then
    fail "a second guest does not get the same image"
    xl destroy second
fi
check_daemon_said "who has an image is told" \
    "disk xvda \(51712\): $thick: in use by domain [0-9]* \(pilotfish-$(domid line)\) as its disk "
check "the guest is done" wait_guest_line line 'PF \(done\|error\)=' 90
check "the guest powers off" wait_gone line 30
equal "the guest saw no error" "" "$(guest_value line error)"
equal "no-discard: none is offered, and zeroing is" "discard=0 zeroes=1 ro=0 written=1" "$(guest_value line vda)"
equal "discard is" "discard=1 zeroes=1 ro=0 written=1" "$(guest_value line vdb)"
equal "no-discard of a RAM disk" "discard=0 zeroes=1 ro=0 written=1" "$(guest_value line vdc)"
equal "a CD, and an image that nobody may write, is a read-only disk" \
    "discard=0 zeroes=0 ro=1 written=0" "$(guest_value line vdd)"
equal "the image with no-discard has no hole" "$before" "$(blocks "$thick")"
check "the other has" test "$(blocks "$thin")" -lt "$before"
# What libxl itself refuses for a standalone backend, so that it never comes to us.
for word in script=block-nbd colo format=qcow2; do
    disk=$(line "$word" xvda "$thin")
    [ "${word%=*}" != format ] || disk=${disk/format=raw,/}
    start_frontend refused 'mode=crate' "$disk" >/run/create.out 2>&1 && xl destroy refused
    check "libxl refuses $word" grep -q 'no suitable backend for disk xvda' /run/create.out
done
nothing_left
finish
