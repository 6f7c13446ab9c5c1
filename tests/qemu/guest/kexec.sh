# A guest that loads a crash kernel (from its second disk) and panics during I/O. The crash kernel
# runs /guest/kexec-second.sh. Its device tree hides Xen: a kernel finds Xen's pages taken by the
# one before it and would not start. It has no console then; it tells by the disk.
. /guest/lib.sh
. /guest/disk.sh

wait_device /dev/vda 30 || stop "no /dev/vda"
wait_device /dev/vdb 30 || stop "no /dev/vdb"
kernel=$(option kernel_bytes 0)
initrd=$(option initrd_bytes 0)
dd if=/dev/vdb bs=1M 2>/dev/null | head -c "$kernel" >/tmp/Image
dd if=/dev/vdb bs=1M skip=$(((kernel + 1048575) / 1048576)) 2>/dev/null | head -c "$initrd" >/tmp/initrd
# "xen,xen" becomes "xxx,xxx".
xxd -p /sys/firmware/fdt | tr -d '\n' | sed 's/78656e2c78656e00/7878782c78787800/g' | xxd -r -p >/tmp/dtb
# kexec takes a guest with /proc/xen for a dom0 and asks the hypervisor, in vain: it gets a root
# with no more of /proc than it needs.
mkdir /tmp/root
mount --bind / /tmp/root
mount --bind /sys /tmp/root/sys
for file in iomem kallsyms kcore cpuinfo; do
    : >/tmp/root/proc/$file
    mount --bind /proc/$file /tmp/root/proc/$file
done
chroot /tmp/root /usr/bin/kexec -p /tmp/Image --initrd=/tmp/initrd --dtb=/tmp/dtb \
    --command-line="rdinit=/guest/kexec-second.sh maxcpus=1 reset_devices loglevel=7" || stop "kexec -p"
rm /tmp/Image /tmp/initrd
value loaded "$(cat /sys/kernel/kexec_crash_loaded)"
for number in 0 1 2 3; do
    worker vda first "$number" &
done
# Readers too: their data would go to this kernel's memory.
for reader in 0 1; do
    (while dd if=/dev/vda of=/dev/null bs=1M count=16 iflag=direct 2>/dev/null; do :; done) &
done
sleep 4
value crashing 1
echo 1 >/proc/sys/kernel/sysrq
echo c >/proc/sysrq-trigger
