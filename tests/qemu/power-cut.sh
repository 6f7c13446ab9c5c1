# Power failure. A guest with a raw disk and an ext4 writes as fast as it can and tells what it
# knows to be safe: records of O_DIRECT writes whose flush has returned, files that are synced and
# renamed. At a random moment something dies: the stub, the guest, the storage backend (blkback is taken
# off the stub's disks and back, then the guest destroyed), or guest and stub at once. Then dom0 looks into
# the images: what was acknowledged is there or something newer is, every sector is whole, and
# nothing was written after the end (tests/src/power). kills= ends, `power-failure` is this with 50.
#
# Where storage= says so (nbd-disks.sh), the data are on NBD servers. These are killed and started again server_kills=
# times in each of the guest's lives, which may cost it nothing but time; and `server` is a way to die for the guest too.
#
# dom0 and its page cache live on: this is the end of everything above the storage, not the loss
# of power of the storage itself. A lossy server is more: it loses its cache.
. /pf/lib.sh
. /scenarios/checks.sh
. /scenarios/nbd-disks.sh

program=$pf_hostile/power-failure
kills=${kills:-4}
server_kills=${server_kills:-0}
seed=${seed:-$(($(date +%s) % 32768))}
RANDOM=$seed
fact seed "$seed"

# told NAME: the last whole line of the guest about that, without the name.
told() { sed -n "s/^.*PF $1=\([0-9,]*;\).*/\1/p" "$(guest_log cut)" | tail -n 1; }
pf_told() { [ -n "$(told raw)" ] && [ -n "$(told files)" ]; }
# sum NUMBERS: of a line that was told.
sum() { echo "${1:-0;}" | tr -d ';' | tr ',' '+' | { read -r sum && echo $((sum)); }; }

# restart_backends DOMID: takes blkback off every disk of that domain for a moment. (For ever would
# keep libxl from closing the disks: it waits for their storage backend, then leaves their loop devices.)
restart_backends() {
    local device vbd=/sys/bus/xen-backend/drivers/vbd names=""
    for device in "$vbd"/vbd-"$1"-*; do names="$names ${device##*/}"; done
    for device in $names; do echo "$device" >$vbd/unbind; done
    sleep 0.$((RANDOM % 10))
    for device in $names; do echo "$device" >$vbd/bind; done
}

pf_told_more() { [ "$(told raw)" != "$1" ] && [ "$(told files)" != "$2" ]; }

# short_while: waits up to MS milliseconds.
short_while() {
    local ms=$((RANDOM % $1))
    sleep "$((ms / 1000)).$(printf %03d $((ms % 1000)))"
}

# kill_servers: once, while the guest writes; it has to go on with both disks after that.
kill_servers() {
    local raw files
    storage_kill
    short_while 1500
    # What was told before the end has come through the console.
    sleep 0.3
    raw=$(told raw) files=$(told files)
    storage_start || die "the server does not start again in epoch $epoch"
    if wait_for 60 pf_told_more "$raw" "$files"; then
        server_ends=$((server_ends + 1))
    else
        fail "epoch $epoch: the guest does not go on after the server's end"
    fi
    short_while 1000
}

# end_it HOW: one of the ways to die.
end_it() {
    local stub
    stub=$(stub_of cut)
    case $1 in
        stub) timeout 40 xl destroy "$stub" ;;
        guest) timeout 40 xl destroy cut ;;
        backend)
            restart_backends "$(domid "$stub")"
            timeout 40 xl destroy cut
            ;;
        server)
            storage_kill
            short_while 1000
            timeout 40 xl destroy cut
            ;;
        server-back)
            # It may be amid what the stub does again.
            storage_kill
            short_while 500
            storage_start
            short_while 300
            timeout 40 xl destroy cut
            ;;
        both)
            timeout 40 xl destroy "$stub" &
            timeout 40 xl destroy cut
            wait $!
            ;;
    esac
} 2>&1

# judge KIND PLACE EPOCH HOW: the program's verdict, counted.
judge() {
    local line
    if "$program" check "$1" "$2" "/run/power.$1" "$3" "$(told "$1")" >/run/verdict 2>&1; then
        good=$((good + 1))
    else
        fail "epoch $3, ended by the end of the $4: $1"
    fi
    sed "s/^/epoch $3 ($4): /" /run/verdict
    line=$(head -n 1 /run/verdict)
    checked=$((checked + $(expr "$line" : '.*checked=\([0-9]*\)')))
    acked=$((acked + $(expr "$line" : '.* acked=\([0-9]*\)')))
    newer=$((newer + $(expr "$line" : '.*newer=\([0-9]*\)')))
}

begin
raw=$(raw_disk power-raw 16)
files=$(raw_disk power-files 64)
mkfs.ext4 -q -F "$files" || die "mkfs"
raw_target=$(stored power-raw "$raw")
files_target=$(stored power-files "$files")
rm -f /run/power.raw /run/power.files
[ -n "${ways:-}" ] || ways=(stub guest backend both)
done_kills=0 records=0 checked=0 acked=0 newer=0 good=0 server_ends=0 stopped=0
for epoch in $(seq "$kills"); do
    way=${ways[(epoch - 1) % ${#ways[@]}]}
    storage_start || die "no server for the disks in epoch $epoch"
    vcpus=2 extra="pf.epoch=$epoch" start_guest cut power-cut \
        "$(virtio_disk xvda "$raw_target")" "$(virtio_disk xvdb "$files_target")" ||
        die "xl create in epoch $epoch"
    wait_for 60 pf_told || die "the guest tells of nothing in epoch $epoch: $(guest_value cut error)"
    [ "$epoch" != 1 ] || check_way cut 0
    for _ in $(seq "$server_kills"); do kill_servers; done
    after_ms=$((200 + RANDOM % 2500))
    sleep "$((after_ms / 1000)).$(printf %03d $((after_ms % 1000)))"
    # Nothing of it has ended yet.
    stopped=$((stopped + $(grep -c 'PF [a-z]*_stopped=' "$(guest_log cut)")))
    end_it "$way"
    wait_gone cut 40 || fail "epoch $epoch: the guest is still there"
    no_domains 30 || fail "epoch $epoch: still there: $(domains | tr '\n' ' ')"
    wait_for 20 pf_no_loops || fail "epoch $epoch: a loop device is still there"
    storage_settle
    done_kills=$((done_kills + 1))
    records=$((records + $(sum "$(told raw)") + $(sum "$(told files)")))
    echo "epoch $epoch ($way after $after_ms ms): raw $(told raw) files $(told files)"

    judge raw "$raw" "$epoch" "$way"
    # As after any power failure: the journal is replayed by the mount, then all has to be clean.
    if mount -o loop "$files" /mnt; then
        judge files /mnt "$epoch" "$way"
        umount /mnt
    else
        fail "epoch $epoch: the file system does not mount"
    fi
    e2fsck -f -n "$files" >/run/fsck 2>&1 || { fail "epoch $epoch: e2fsck"; cat /run/fsck; }
done
equal "all ends came" "$kills" "$done_kills"
equal "no write, flush or file of a guest failed before its end" 0 "$stopped"
equal "and each went on after each end of its server" $((kills * server_kills)) "$server_ends"
equal "raw disk and files are well after each" $((2 * kills)) "$good"
check "the guests acknowledged records in plenty ($records)" test "$records" -ge $((kills * 10))
fact kills "$done_kills"
fact server_kills "$server_ends"
fact records_acknowledged "$records"
fact units_checked "$checked"
fact units_acknowledged_in_their_life "$acked"
fact units_newer_than_acknowledged "$newer"
nothing_left
finish
