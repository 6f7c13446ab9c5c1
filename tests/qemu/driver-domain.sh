# The data are not dom0's: a driver domain, unprivileged and with Xen's own `xl devd`, has the
# block device, and the stub's PV disk leads there. It is killed under I/O and made again.
. /pf/lib.sh
. /scenarios/checks.sh

# driver_initrd FILE: dom0's userland, packed for a driver domain.
driver_initrd() {
    rm -rf /run/driver
    mkdir -p /run/driver
    # Everything of the root file system but what is large and not needed there.
    (cd / && find . -xdev \( -path ./guest -o -path ./scenarios -o -path ./var/log \) -prune -o -print |
        cpio -o -H newc) >"$1" 2>/dev/null
    (cd /run/driver && cpio -i -d modules/xen_blkfront.ko </guest/initrd 2>/dev/null &&
        { cat /modules/list && echo xen_blkfront; } >modules/list &&
        mkdir -p var/log && find . | cpio -o -H newc) >>"$1" 2>/dev/null
}

# start_driver: makes the driver domain; its disk is an image of dom0.
start_driver() {
    : >"$(guest_log driver)"
    timeout 60 xl create /run/driver.cfg
}

begin
image=$(raw_disk far 32)
driver_initrd /run/driver.initrd
cat >/run/driver.cfg <<END_OF_CONFIG
name = 'driver'
memory = 320
vcpus = 1
kernel = '/guest/Image'
ramdisk = '/run/driver.initrd'
extra = 'console=hvc0 rdinit=/pf/driver-init.sh loglevel=4 panic=5'
driver_domain = 1
disk = [ '$(pv_disk xvda "$image")' ]
END_OF_CONFIG
check "a driver domain starts" start_driver
check "it has the data" wait_guest_line driver 'PF driver=65536' 60
cat >/disks/far.pilotfish <<END_OF_FILE
storage = "pv"
backend = "driver"
target = "/dev/xvda"
END_OF_FILE
extra="pf.rounds=30 pf.tag=far" check "xl create" start_guest far driver-domain "$(virtio_disk xvda /disks/far.pilotfish)"
check "the guest does verified I/O" more_rounds far 2 60
equal "dom0 has no storage backend but the driver domain's" "$(domid driver)/51712" "$(backends vbd | tr '\n' ' ' | sed 's/ $//')"
stub=$(stub_of far)

# The driver domain dies under I/O, and another takes its place with the same data.
check "the driver domain is killed" xl destroy driver
sleep 2
at=$(rounds_of far)
sleep 3
equal "the guest waits" "$at" "$(rounds_of far)"
check "another driver domain starts" start_driver
check "it has the data" wait_guest_line driver 'PF driver=65536' 60
check "the stub's disk is detached from the dead one" timeout 60 xl block-detach "$stub" xvda
check "and attached to the new one" timeout 60 xl block-attach "$stub" \
    'vdev=xvda,format=raw,backendtype=phy,backend=driver,access=rw,target=/dev/xvda'
check "the guest goes on" more_rounds far 2 60

tail -n 20 "$(guest_log "$stub")"
check "the guest is done" wait_guest_line far 'PF done=30' 90
check "it powers off" wait_gone far 30
equal "the guest saw no error" "" "$(guest_value far error)"
# Writes that the dead domain had completed but not flushed are told as lost.
check "but for one failed flush at most" test "$(guest_value far failures)" -le 1
fact failed_flushes "$(guest_value far failures)"
check "the driver domain ends" xl destroy driver
check "the image in dom0 holds what the guest wrote" image_holds "$image" far 30
nothing_left
finish
