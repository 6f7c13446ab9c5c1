# A driver domain of the scenarios: dom0's userland in an unprivileged domain with Xen's own `xl devd`
# (bash). Source it after /scenarios/checks.sh.
# shellcheck shell=bash

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

# driver_config LINE [WORDS]: writes /run/driver.cfg for a driver domain with that line, which gives it its data, and
# those words on its kernel's command line.
driver_config() {
    driver_initrd /run/driver.initrd
    cat >/run/driver.cfg <<END_OF_CONFIG
name = 'driver'
memory = 320
vcpus = 1
kernel = '/guest/Image'
ramdisk = '/run/driver.initrd'
extra = 'console=hvc0 rdinit=/pf/driver-init.sh loglevel=4 panic=5 ${2:-}'
driver_domain = 1
$1
END_OF_CONFIG
}

# start_driver SECTORS: makes the driver domain, and waits until it has its data, of that size.
start_driver() {
    : >"$(guest_log driver)"
    check "a driver domain starts" timeout 60 xl create /run/driver.cfg
    if wait_guest_line driver "PF driver=$1" 60; then
        pass "it has the data"
    else
        tail -n 40 "$(guest_log driver)"
        die "the driver domain has no data of $1 sectors"
    fi
}

# far_disk NAME DEVICE: makes /disks/NAME.pilotfish, a disk whose data the driver domain has; prints its path.
far_disk() {
    printf 'storage = "pv"\nbackend = "driver"\ntarget = "%s"\n' "$2" >"/disks/$1.pilotfish"
    echo "/disks/$1.pilotfish"
}

# attach_again STUB DEVICE: the stub's disk leads to the driver domain that runs now.
attach_again() {
    check "the stub's disk is detached from the dead domain" timeout 60 xl block-detach "$1" xvda
    check "and attached to the new one" timeout 60 xl block-attach "$1" \
        "vdev=xvda,format=raw,backendtype=phy,backend=driver,access=rw,target=$2"
}
