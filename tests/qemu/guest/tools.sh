# The disk with fio and the tools for file systems, mounted read-only on /tools. Source it
# after /guest/lib.sh and /guest/disk.sh.
# shellcheck shell=sh disable=SC2034

# mount_tools: pf.tools= names the disk, vdb unless told otherwise.
mount_tools() {
    tools_disk=$(option tools vdb)
    wait_device "/dev/$tools_disk" 30 || stop "no /dev/$tools_disk"
    mkdir -p /tools
    mount -t ext4 -o ro "/dev/$tools_disk" /tools || stop "the tools' disk does not mount"
    mount -t proc proc /tools/proc
    mount -t sysfs sys /tools/sys
    mount --bind /dev /tools/dev
    mount -t tmpfs tmp /tools/tmp
    # Some are there already.
    while read -r module; do insmod "/tools/modules/$module.ko" 2>/dev/null; done </tools/modules/list
}

# tool PROGRAM ARGUMENT...: runs one of them; /tools is its root directory. By its path: of a mere
# name busybox's chroot runs its own applet, if it has one (of blkdiscard and fstrim it has).
tool() {
    tool_program=$1
    shift
    chroot /tools "/usr/bin/$tool_program" "$@"
}
