# The guest's kernel panics during I/O and a crash kernel, loaded beforehand, takes its place within
# the same domain: it resets the device while the old kernel's requests are under way, then uses it.
#
# Xen may lose the disk's interrupt for good when its vCPU goes down (docs/testing.md). Whether it did
# is asked of Xen itself, and only then is all done again, with a new guest.
. /pf/lib.sh
. /scenarios/checks.sh

# lost_interrupt DOMID: prints the shared interrupts (32 and above) that Xen keeps at vCPUs of the
# domain that are down; fails if there are none. 2 of pause_flags is VPF_down.
lost_interrupt() {
    xl dmesg -c >/dev/null
    xl debug-keys q
    sleep 0.5
    xl dmesg | awk -v of="information for domain $1:" '
        /General information for domain/ { ours = index($0, of) }
        /pause_flags=/ { down = /pause_flags=[0-9a-f]*[2367abef]$/ }
        ours && down && /Inflight irq=(3[2-9]|[4-9][0-9]|[1-9][0-9][0-9])/ { print; found = 1 }
        END { exit !found }'
}

# crash: makes a guest and has it panic.
crash() {
    rm -f /disks/kexec.img
    image=$(raw_disk kexec 32)
    vcpus=2 memory=640 extra="crashkernel=256M pf.kernel_bytes=$kernel_bytes pf.initrd_bytes=$initrd_bytes" \
        start_guest kexec kexec "$(virtio_disk xvda "$image")" "$(virtio_disk xvdb "$both" ro)" || die "xl create"
    pass "xl create"
    # Without a guest that crashed, what comes after would compare nothing with nothing.
    wait_guest_line kexec 'PF \(crashing=1\|error=\)' 90 || die "the guest comes to its panic"
    [ -z "$(guest_value kexec error)" ] || die "the guest comes to its panic: $(guest_value kexec error)"
    pass "the guest panics during I/O"
    equal "a crash kernel was loaded" 1 "$(guest_value kexec loaded)"
    guest=$(domid kexec)
    stub=$(domid "$(stub_of kexec)")
    sleep 2
    equal "the domain is the same" "$guest" "$(domid kexec)"
    equal "so is its stub" "$stub" "$(domid "pilotfish-$guest")"
}

# ended: waits for the second kernel's end. Fails at once if Xen has lost its disk's interrupt.
ended() {
    local tries=18
    until wait_gone kexec 5; do
        tries=$((tries - 1))
        [ $tries -gt 0 ] || return 0
        ! lost_interrupt "$guest" || return 1
    done
}

begin
# Kernel and initramfs of the second life, each at a MiB of its own.
kernel_bytes=$(stat -c %s /guest/Image)
initrd_bytes=$(stat -c %s /guest/initrd)
both=$(raw_disk kexec-images 0)
dd if=/guest/Image of="$both" bs=1M conv=sync 2>/dev/null
dd if=/guest/initrd of="$both" bs=1M conv=sync,notrunc seek=$(((kernel_bytes + 1048575) / 1048576)) 2>/dev/null
crash
for again in 1 2; do
    ! ended || break
    echo "Xen has lost the disk's interrupt, the crash kernel cannot go on: new guest $again of 2"
    xl destroy kexec
    check "that guest ends" no_domains 20
    crash
done
check "the second kernel powers off" pf_absent kexec
equal "the first kernel saw no error" "" "$(guest_value kexec error)"
said=$(dd if="$image" bs=4096 skip=$((20 * 256)) count=1 2>/dev/null | tr -d '\0')
echo "it said: $said"
check "the second kernel verified 24 rounds" expr "$said" : 'second kernel: 24 rounds'
for n in 21 22 23 24; do
    dd if="$image" of=/run/place bs=1M skip=$((8 + n % 8)) count=1 2>/dev/null
    check "the image holds its round $n" sh -c "yes 'second round $n' | head -c 1048576 | cmp -s - /run/place"
done
check "the image holds what the first kernel wrote" workers_hold kexec "$image" first 4
nothing_left
finish
