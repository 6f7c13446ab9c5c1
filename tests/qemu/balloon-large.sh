# A guest of 4 GiB whose stub may map 64 MiB, 1 GiB or all of it: how long a vCPU waits when the
# guest's memory changes, how soon Xen has what the guest gave back, and how long its end takes.
. /pf/lib.sh
. /scenarios/checks.sh

# stub_stat NAME KEY: a counter of the guest's stub, as of now.
stub_stat() {
    local stub word=q$RANDOM
    stub=$(domid "$(stub_of "$1")")
    xenstore-write "/local/domain/$stub/data/pilotfish/ask" "$word"
    wait_for 5 pf_answered "$stub" "$word" || return 1
    xenstore-read "/local/domain/$stub/data/pilotfish/stats" | tr ' ' '\n' | sed -n "s/^$2=//p"
}
pf_answered() { xenstore-read "/local/domain/$1/data/pilotfish/stats" 2>/dev/null | grep -q "^asked=$2 "; }
pf_free_at_least() { [ "$(free_mib)" -ge "$1" ]; }

# measure WINDOW FILL-MIB MAPPED-MIB PAUSE-S: one guest whose stub may map WINDOW; it reads so much,
# and then so much has to be mapped. Xen has its memory back within the pause.
measure() {
    local window=$1 fill=$2 mapped=$3 pause=$4 free from name=large
    echo "--- window $window"
    daemon_stop
    printf 'map-window = "%s"\n' "$window" >/run/window.toml
    /usr/sbin/pilotfishd --config /run/window.toml >>/var/log/pilotfishd.log 2>&1 </dev/null &
    echo $! >/run/pilotfishd.test.pid
    memory=4096 extra="pf.fill=$fill pf.pause=$pause" check "xl create" start_guest $name balloon-large "$(virtio_disk xvda "$image")"
    check "the guest has read $fill MiB" wait_guest_line $name 'PF filled=1' 240
    fact "$window.mapped_mib" $(($(stub_stat $name map_pages) / 256))
    for figure in memory_kib heap_peak_kib; do
        fact "$window.stub_$figure" "$(xenstore-read "/local/domain/$(domid "$(stub_of $name)")/data/pilotfish/$figure")"
    done
    check "$mapped MiB are mapped" [ "$(($(stub_stat $name map_pages) / 256))" -ge "$mapped" ]
    check "the guest gives single pages back" wait_guest_line $name 'PF single=' 60
    fact "$window.single_us" "$(guest_value $name single)"
    check "the guest gives single pages back during I/O" wait_guest_line $name 'PF busy=' 120
    fact "$window.busy_us" "$(guest_value $name busy)"
    check "the guest has read again" wait_guest_line $name 'PF filled=2' 240
    check "$mapped MiB are mapped" [ "$(($(stub_stat $name map_pages) / 256))" -ge "$mapped" ]
    free=$(free_mib)
    check "the guest gives 512 MiB back" wait_guest_line $name 'PF left=' 120
    from=$(now_ms)
    fact "$window.balloon_ms" "$(guest_value $name left)"
    check "Xen has them" wait_for "$pause" pf_free_at_least $((free + 510))
    fact "$window.back_after_ms" $(($(now_ms) - from))
    check "the guest has them and has read again" wait_guest_line $name 'PF filled=3' 300
    check "$mapped MiB are mapped" [ "$(($(stub_stat $name map_pages) / 256))" -ge "$mapped" ]
    equal "the guest saw no error" "" "$(guest_value $name error)"
    from=$(now_ms)
    check "xl destroy" timeout 60 xl destroy $name
    fact "$window.destroy_ms" $(($(now_ms) - from))
    check "guest and stub are gone" no_domains 60
    fact "$window.gone_ms" $(($(now_ms) - from))
    eval "gone_${window//[!0-9a-zA-Z]/}=$(($(now_ms) - from))"
}

begin
image=$(raw_disk large 8192)
measure auto 4200 3500 90
measure 64MiB 512 50 10
measure 1GiB 2048 1000 30
check "the end takes no more than 1 s longer with all of it mapped" [ "$gone_auto" -le $((gone_64MiB + 1000)) ]
daemon_stop
daemon_start
nothing_left
finish
