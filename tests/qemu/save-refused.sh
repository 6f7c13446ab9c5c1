# A guest cannot be saved on Arm: xl has no such command there (libxl defines
# LIBXL_HAVE_NO_SUSPEND_RESUME). Asking for it leaves guest, stub and I/O as they were. A guest that
# somebody asks by hand to suspend does so: nothing can resume it, but it can be destroyed.
. /pf/lib.sh
. /scenarios/checks.sh

begin
image=$(raw_disk save 8)
vcpus=2 extra="pf.tag=save" check "xl create" start_guest saving workers "$(virtio_disk xvda "$image")"
check "the guest does I/O" more_rounds saving 2 40
guest=$(domid saving)
stub=$(domid "$(stub_of saving)")
for command in "save saving /run/saved" "migrate saving localhost"; do
    # shellcheck disable=SC2086
    if timeout 60 xl $command >/run/save.out 2>&1; then
        fail "xl ${command%% *} is refused: it succeeded"
    else
        pass "xl ${command%% *} is refused"
    fi
    sed 's/^/xl said: /' /run/save.out
    check "it says why" test -s /run/save.out
    check "I/O goes on after xl ${command%% *}" more_rounds saving 2 40
done
check "no file is left of it" test ! -e /run/saved
equal "it is the same domain" "$guest" "$(domid saving)"
equal "with the same stub" "$stub" "$(domid "$(stub_of saving)")"
equal "the guest saw no error" "" "$(guest_value saving error)"

suspended() { xl list saving | awk 'NR == 2 { print $5 }' | grep -q s; }
xenstore-write "/local/domain/$guest/control/shutdown" suspend
check "asked through xenstore, the guest suspends itself" wait_for 30 suspended
tail -n 5 "$(guest_log saving)"
check "xl destroys the guest" timeout 40 xl destroy saving
check "the image holds what the guest wrote" workers_hold saving "$image" save 4
nothing_left
finish
