# File systems as people use them: made, filled until nearly full with files of known checksums,
# mounted again, checked; half of the files removed, the free space trimmed, filled again where
# it was, and in the end clean by the file system's own checker. ext4 on vda, xfs on vdb; the
# tools' disk is vdc (pf.tools=vdc).
. /guest/lib.sh
. /guest/disk.sh
. /guest/tools.sh

# fill DIR PREFIX PERCENT: files of random content and many sizes until the file system is that
# full, their checksums in DIR/PREFIX.sums. Prints how many.
fill() {
    count=0
    : >"$1/$2.sums"
    while [ "$(df -P "$1" | awk 'NR == 2 { sub("%", "", $5); print $5 }')" -lt "$3" ]; do
        for size in 1 4095 70000 512 1048577 3000000 65536 6291456; do
            count=$((count + 1))
            head -c $size /dev/urandom >"$1/$2.$count" || break 2
            (cd "$1" && md5sum "$2.$count" >>"$2.sums")
        done
    done
    echo $count
}
verify() { (cd "$1" && for list in ./*.sums; do md5sum -c -s "$list" || return 1; done); }
again() {
    umount "/mnt/$1" || stop "$1 cannot be unmounted"
    echo 3 >/proc/sys/vm/drop_caches
    mount -t "$1" "/dev/$2" "/mnt/$1" || stop "$1 does not mount again"
}

# life TYPE DISK BALLAST CHECK...: the whole life of one file system, of which so many bytes
# are allocated beforehand.
life() {
    type=$1
    disk=$2
    ballast=$3
    shift 3
    mkdir -p "/mnt/$type"
    mount -t "$type" "/dev/$disk" "/mnt/$type" || stop "$type does not mount"
    # Room that nobody needs to fill: the emulator is slow.
    [ "$ballast" = 0 ] || fallocate -l "$ballast" "/mnt/$type/ballast" || stop "$type: fallocate"
    value "${type}_files" "$(fill "/mnt/$type" a 92)"
    value "${type}_full" "$(df -P "/mnt/$type" | awk 'NR == 2 { print $5 }')"
    again "$type" "$disk"
    verify "/mnt/$type" || stop "$type: the files changed over the remount"
    value "${type}_verified" 1
    # Every second file goes.
    for file in "/mnt/$type"/a.*[02468]; do rm "$file"; done
    grep '[13579]$' "/mnt/$type/a.sums" >/tmp/left
    cat /tmp/left >"/mnt/$type/a.sums"
    sync
    value "${type}_trimmed" "$(fstrim -v "/mnt/$type" 2>&1 | sed 's/.*[ (]\([0-9][0-9]*\) bytes.*/\1/')"
    again "$type" "$disk"
    verify "/mnt/$type" || stop "$type: the files left changed over the trim"
    value "${type}_after_trim" 1
    value "${type}_more_files" "$(fill "/mnt/$type" b 80)"
    again "$type" "$disk"
    verify "/mnt/$type" || stop "$type: files changed"
    value "${type}_verified_again" 1
    umount "/mnt/$type" || stop "$type cannot be unmounted at the end"
    tool "$@" "/dev/$disk" >/tmp/check 2>&1
    value "${type}_check" "$?"
}

wait_device /dev/vda 30 || stop "no /dev/vda"
mount_tools
mkdir -p /mnt
tool mkfs.ext4 -q -F /dev/vda || stop "mkfs.ext4"
value ext4_made 1
life ext4 vda 24m e2fsck -f -n
tool mkfs.xfs -q -f /dev/vdb || stop "mkfs.xfs"
value xfs_made 1
life xfs vdb 144m xfs_repair -n
# A spoilt file system must not pass for clean: the checkers can tell.
dd if=/dev/zero of=/dev/vda bs=4k seek=1 count=2 conv=notrunc,fsync 2>/dev/null
tool e2fsck -f -n /dev/vda >/dev/null 2>&1
value ext4_spoilt "$?"
dd if=/dev/urandom of=/dev/vdb bs=4k seek=1 count=4 conv=notrunc,fsync 2>/dev/null
tool xfs_repair -n /dev/vdb >/dev/null 2>&1
value xfs_spoilt "$?"
value done 1
