# A guest whose disk has a part that its storage cannot hold: only that part fails, and when
# there is room again, it works.
. /guest/lib.sh
. /guest/disk.sh

# put MIB: writes a MiB there, directly; reads it back and compares.
put() {
    pattern "storage" "$1" >/tmp/put
    dd if=/tmp/put of=/dev/vda bs=64k seek=$(($1 * 16)) oflag=direct conv=notrunc 2>/tmp/why || return 1
    dd if=/dev/vda of=/tmp/got bs=64k skip=$(($1 * 16)) count=16 iflag=direct 2>/dev/null || return 2
    cmp -s /tmp/put /tmp/got || return 3
}

wait_device /dev/vda 30 || stop "no /dev/vda"
put 1
value good_before $?
put 40
value bad $?
value why "$(grep -o 'error.*\|rror$' /tmp/why | head -n 1)"
put 2
value good_after $?
value room_wanted 1
tries=0
until put 40 || [ $tries -ge 40 ]; do
    tries=$((tries + 1))
    sleep 0.5
done
put 40
value bad_with_room $?
value done 1
