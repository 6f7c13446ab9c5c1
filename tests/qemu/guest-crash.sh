# The guest's kernel panics during I/O, or the guest is ended as crashed: its own on_reboot and
# on_crash decide. (Linux on Arm has no Xen panic notifier: a panic ends in a reboot.) A restarted
# guest has a fresh stub, its file system recovers, and what was synced is there.
. /pf/lib.sh
. /scenarios/checks.sh

begin
image=$(raw_disk crash 64)
mkfs.ext4 -q -F "$image" || die "mkfs"
disk=$(virtio_disk xvda "$image")
boots() { grep -c 'PF found=' "$(guest_log panic)"; }
pf_boots_at_least() { [ "$(boots)" -ge "$1" ]; }
# The rule of every boot: it finds whole what the boots before told to be synced.
nothing_synced_is_lost() {
    sed -n 's/^.*PF \(found\|synced\)=\([0-9]*\).*/\1 \2/p' "$(guest_log panic)" |
        awk '$1 == "synced" { last = $2 }
             $1 == "found" { print "found " $2 ", synced before " last + 0; if ($2 < last) lost = 1 }
             END { exit lost }'
}

vcpus=2 on_reboot=restart on_crash=restart check "xl create" start_guest panic journal "$disk"
more_rounds panic 10 60 || die "the guest syncs no files: $(guest_value panic error)"
first=$(domid panic)
check "the guest's kernel panics" xl sysrq panic c
check "the guest comes back" wait_for 60 pf_boots_at_least 2
second=$(domid panic)
check "as a new domain" test -n "$second" -a "$second" != "$first"
check "with a new stub" xl domid "pilotfish-$second"
check "the old stub is gone" pf_absent "pilotfish-$first"
check "it syncs files" more_rounds panic 10 60

log_mark
check "its stub is destroyed" timeout 30 xl destroy "pilotfish-$second"
check "the daemon ends the guest as crashed, and it comes back" wait_for 60 pf_boots_at_least 3
check_daemon_said "the daemon's log says so" 'its stub .domain [0-9]+. .*policy: CrashGuest'
third=$(domid panic)
check "as a new domain again" test -n "$third" -a "$third" != "$second"
check "it syncs files" more_rounds panic 10 60
check "what was synced is found at each boot" nothing_synced_is_lost
equal "the guest saw no error" "" "$(guest_value panic error)"
check "xl destroys the guest" timeout 40 xl destroy panic
nothing_left

synced=$(guest_value panic synced)
vcpus=2 on_reboot=destroy on_crash=destroy check "xl create, with on_reboot=destroy" start_guest panic journal "$disk"
check "the guest syncs files" more_rounds panic 10 60
check "it finds what was synced ($synced)" test "$(guest_value panic found | cut -d' ' -f1)" -ge "$synced"
check "its kernel panics" xl sysrq panic c
check "it is gone" wait_gone panic 40
nothing_left
check "the journal is replayed in dom0" mount -o loop "$image" /mnt
umount /mnt
check "the file system is clean" e2fsck -f -n "$image"
finish
