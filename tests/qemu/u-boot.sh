# Firmware first: U-Boot finds the disk, lists, loads and writes files on its ext4, and boots the
# Linux that it loaded, which goes on with the same disk. All of it comes from the stub's disk, the
# commands too: U-Boot's own boot command (scripts/src/setup/u_boot.rs) runs what is in boot.env.
. /pf/lib.sh
. /scenarios/checks.sh

begin
image=$(raw_disk u-boot 96)
# What U-Boot's ext4 can write to.
mke2fs -q -F -t ext4 -O ^metadata_csum "$image" || die "no file system"
mount -o loop "$image" /mnt || die "no mount"
cp /guest/Image /guest/initrd /mnt/
cat >/mnt/boot.env <<'END'
pilotfish=run list && run load && run copy && run start; echo PF error=U-Boot stopped
list=virtio info && ext4ls virtio 0 / && echo PF listed=1
load=ext4load virtio 0 0x42000000 /Image && echo PF loaded=0x${filesize}
copy=ext4write virtio 0 0x42000000 /copy 0x100000 && ext4load virtio 0 0x46000000 /copy && cmp.b 0x42000000 0x46000000 0x100000 && echo PF copied=1
arguments=console=hvc0 rdinit=/init loglevel=4 panic=5 pf.run=u-boot
start=ext4load virtio 0 0x46000000 /initrd && setenv bootargs ${arguments} && booti 0x42000000 0x46000000:${filesize} ${fdtcontroladdr}
END
umount /mnt

cat >/run/u-boot.cfg <<END
name = 'u-boot'
kernel = '/guest/u-boot.bin'
memory = 256
vcpus = 1
on_reboot = 'destroy'
on_crash = 'destroy'
disk = [ '$(virtio_disk xvda "$image")' ]
END
: >"$(guest_log u-boot)"
check "xl create" timeout 60 xl create /run/u-boot.cfg
wait_guest_line u-boot 'PF \(done\|error\)=' 120
tr -d '\r' <"$(guest_log u-boot)" | head -n 60
equal "neither U-Boot nor Linux saw an error" "" "$(guest_value u-boot error)"
equal "U-Boot lists the file system" 1 "$(guest_value u-boot listed)"
equal "it loads all of the kernel" "$(stat -c %s /guest/Image)" $(($(guest_value u-boot loaded)))
equal "what it writes to a file it reads again" 1 "$(guest_value u-boot copied)"
equal "Linux finds U-Boot's file whole" 1 "$(guest_value u-boot copy_is_whole)"
equal "and verifies files of its own" 8 "$(guest_value u-boot done)"
check "the guest powers off" wait_gone u-boot 30

mount -o loop,ro "$image" /mnt || die "no mount"
check "dom0 finds U-Boot's file whole" sh -c "head -c 1048576 /guest/Image | cmp -s - /mnt/copy"
for n in 1 8; do
    check "and file $n of Linux" sh -c "yes 'u-boot round $n' | head -c 1048576 | cmp -s - /mnt/round-$n"
done
umount /mnt
nothing_left
finish
