# Spans like the benchmark's for hours: one guest, a PV and a RAM disk in turns at several depths, and a
# CPU hog in dom0 every other minute. When nothing of the guest's disks moves for a while, all that may
# tell why is printed, and the soak has failed. pf.minutes= on dom0's command line says how long (120).
. /pf/lib.sh
. /scenarios/checks.sh

silence_s=20
minutes=$(tr ' ' '\n' </proc/cmdline | sed -n 's/^pf\.minutes=\([0-9]*\)$/\1/p')
minutes=${minutes:-120}

# xen_says KEY: what Xen prints for a debug key.
xen_says() {
    echo "--- xl debug-keys $1"
    xl dmesg -c >/dev/null
    xl debug-keys "$1"
    sleep 1
    xl dmesg -c
}

# rings_of STUB: the indices of its rings and its disks' interrupts, as the stub sees them.
rings_of() {
    local dir=/local/domain/$1/data/pilotfish word
    word=rings$(now_ms)
    xenstore-write "$dir/ask" "$word"
    pf_answered() { xenstore-read "$dir/stats" 2>/dev/null | grep -q "asked=$word "; }
    if wait_for 5 pf_answered; then xenstore-read "$dir/stats"; else echo "the stub does not answer"; fi
}

# dump: what there is to find the cause of a silence. What the stub says comes before anything wakes it.
dump() {
    local stub key
    stub=$(domid "$(stub_of soak)")
    echo "--- nothing moved for $silence_s s, $((($(now_ms) - began_ms) / 1000)) s after the start"
    for key in q e r a; do xen_says $key; done
    xl vcpu-list
    for _ in 1 2; do
        echo "--- the stub's rings"
        rings_of "$stub"
    done
    echo "--- guest: blocked tasks and timers"
    for key in 8 w q; do xl sysrq soak $key; done
    sleep 5
    tail -n 200 "$(guest_log soak)"
    echo "--- the stub's console"
    tail -n 50 "$pf_consoles/guest-$(stub_of soak).log"
    echo "--- dom0"
    xenstore-ls "/local/domain/0/backend/vbd/$stub"
    xenstore-ls "/local/domain/$stub/device"
    cat /proc/interrupts
    tail -n 50 /var/log/pilotfishd.log
    echo "--- did looking wake it?"
    sleep 5
    guest_value soak beat
    for _ in 1 2; do rings_of "$stub"; done
}

# hog on|off: a process that takes all of a CPU of dom0, or its end.
hog_pid=
hog() {
    case $1$hog_pid in
        on)
            while :; do :; done &
            hog_pid=$!
            ;;
        off?*)
            kill "$hog_pid"
            wait "$hog_pid" 2>/dev/null
            hog_pid=
            ;;
    esac
}

begin
image=$(raw_disk soak 64)
memory_disk=$(ram_disk soak 64)
memory=256 extra="pf.minutes=$minutes pf.tools=vdc" check "xl create" start_guest soak soak \
    "$(virtio_disk xvda "$image")" "$(virtio_disk xvdb "$memory_disk")" "$(tools_disk xvdc)"
check "the guest begins" wait_guest_line soak 'PF \(spans\|error\)=' 120

began_ms=$(now_ms)
last=
moved_ms=$began_ms
longest_ms=0
until pf_logged soak 'PF \(done\|error\)=' || pf_absent soak; do
    beat=$(guest_value soak beat)
    now=$(now_ms)
    if [ "$beat" != "$last" ]; then
        last=$beat
        moved_ms=$now
    fi
    [ $((now - moved_ms)) -le $longest_ms ] || longest_ms=$((now - moved_ms))
    if [ $((now - moved_ms)) -gt $((silence_s * 1000)) ]; then
        hog off
        dump
        die "the disks stand still after $((($now - began_ms) / 1000)) s"
    fi
    if [ $(((now - began_ms) / 60000 % 2)) = 1 ]; then hog on; else hog off; fi
    sleep 1
done
hog off
fact spans "$(guest_value soak spans)"
fact reads_writes "$(guest_value soak beat)"
fact longest_silence_ms $longest_ms
equal "the guest saw no error" "" "$(guest_value soak error)"
check "it came to its end" pf_logged soak 'PF done='
check "with spans on both disks" test "$(guest_value soak spans)" -gt 2
check "the guest powers off" wait_gone soak 30
nothing_left
finish
