# A guest whose disk loses its storage backend for a while: writes fail, then work again.
. /guest/lib.sh
. /guest/disk.sh

# put MIB: writes a MiB there, directly; reads it back and compares.
put() {
    pattern "gone" "$1" >/tmp/put
    dd if=/tmp/put of=/dev/vda bs=64k seek=$(($1 * 16)) oflag=direct conv=notrunc 2>/tmp/why || return 1
    holds "$1"
}

holds() {
    pattern "gone" "$1" >/tmp/put
    dd if=/dev/vda of=/tmp/got bs=64k skip=$(($1 * 16)) count=16 iflag=direct 2>/dev/null || return 2
    cmp -s /tmp/put /tmp/got || return 3
}

now_ms() {
    read -r up _ </proc/uptime
    echo $((${up%.*} * 1000 + 1${up#*.} * 10 - 1000))
}

wait_device /dev/vda 30 || stop "no /dev/vda"
put 1
value good_before $?
status=0
while [ $status = 0 ]; do
    sleep 0.2
    from=$(now_ms)
    put 2
    status=$?
done
value bad_ms $(($(now_ms) - from))
# A read may have met it: whichever it is, it failed.
[ $status = 3 ] && stop "the disk returned something else"
value bad $status
value why "$(grep -o 'error.*\|rror$' /tmp/why | head -n 1)"
from=$(now_ms)
put 3
value bad_again $?
value bad_again_ms $(($(now_ms) - from))
tries=0
until put 3 || [ $tries -ge 80 ]; do
    tries=$((tries + 1))
    sleep 0.5
done
put 4
value good_after $?
holds 1
value kept $?
value done 1
