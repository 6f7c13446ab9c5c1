# The benchmark's other guest, dom0's side: a disk of each kind that most of its memory could hold.
# Source it after /scenarios/common.sh.
# shellcheck shell=bash disable=SC2154

# buffered_guest: measures the workloads of $buffered.
buffered_guest() {
    linux buffered buffered "$buffered_guest_mib" "$vcpus" \
        "pf.tools=xvdd pf.latency_seconds=$latency_seconds pf.workloads=$buffered pf.mib=$buffered_disk_mib" \
        "$(virtio_disk xvda "$(filled pilotfish "$buffered_disk_mib")")" \
        "$(pv_disk xvdc "$(filled native "$buffered_disk_mib")")" "$(pv_disk xvdd "$tools" ro)" ||
        die "xl create of the guest with churned memory"
    fact dom0_available_kib "$(sed -n 's/^MemAvailable: *\([0-9]*\).*/\1/p' /proc/meminfo)"
    # shellcheck disable=SC2046
    check "the guest with churned memory measures to its end" "$meter" $(watched buffered)
    gone buffered
}
