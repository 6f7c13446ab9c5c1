# A domain asks Xen for every operation of every hypercall, on every kind of domain: first with a stub's
# rights over a guest, then with an ordinary guest's. Each answer is as the repository's table says
# (tests/privileges.tsv; docs/privileges.md shows it). Neither harms anybody: a bystander with an honest stub
# goes on.
. /pf/lib.sh
. /scenarios/checks.sh

# walks RUN NAME: waits until the walk is over, prints what it saw, and compares it with the table.
walks() {
    local run=$1 name=$2
    check "$run: the walk comes to its end" wait_guest_line "$name" 'PF walked=' 90
    equal "$run: it met no error" "" "$(guest_value "$name" error)"
    tr -d '\r' <"$(guest_log "$name")" | sed -n 's/^.*PFW //p' | tr ';' '\n' | grep . >/run/seen
    sed "s|^|seen $run |" /run/seen
    equal "$run: no row is lost" "$(guest_value "$name" walked)" "$(wc -l </run/seen)"
    awk -F '\t' -v run="$run" '
        /^#/ { next }
        $1 == "operation" { for (i = 2; i <= NF; i++) if ($i == run) column = i; next }
        column && $column != "" { print $1, $column }' /pf/privileges.tsv >/run/expected
    check "$run: the table has this run" test -s /run/expected
    diff /run/expected /run/seen >/run/differences
    equal "$run: each answer is as the table says" "" "$(grep '^[<>]' /run/differences | head -n 20 | tr '\n' ';')"
}

begin
xen=$(cat /pf/xen-version)
versions="domctl=$(interface domctl) sysctl=$(interface sysctl)"
if [ -e /pf/xenpolicy ]; then
    deployment=A+
    # It falls over one call, as docs/privileges.md says.
    [ "$xen" != 4.17 ] || versions="$versions fragile=1"
    stub_label=$(label victim stub)
    guest_label=$(label guest guest)
else
    deployment=A
    stub_label=
    guest_label=
fi
start_bystander 1000
# What FLASK refuses Xen tells on the serial line that dom0's rows take, in the middle of them.
[ $deployment = A ] || check "Xen's log is quiet" xl set-parameters 'loglvl=none guest_loglvl=none'
other=$(domid bystander)
check "a guest for the hostile stub is made" xl create -p "$(guest_config victim mmio)"
target=$(domid victim)

label=$stub_label check "a domain with a stub's rights walks" \
    launch_stub walker walk "$target" "other=$other" "$versions"
walks "$deployment/stub/$xen" walker
check "the bystander does verified I/O meanwhile" more_rounds bystander 2 60
xl destroy walker
[ -z "$(domid victim)" ] || xl destroy victim

# An empty target: it has no guest.
label=$guest_label targeted=no check "a domain with an ordinary guest's rights walks" \
    launch_stub walker walk "" "other=$other" "$versions"
walks "$deployment/guest/$xen" walker
xl destroy walker

check "the bystander still does verified I/O" more_rounds bystander 2 60
equal "the bystander saw no error" "" "$(guest_value bystander error)"
rounds=$(rounds_of bystander)
check "xl destroys the bystander" xl destroy bystander
check "the bystander's image holds what it wrote" image_holds "$bystander_image" witness "$rounds" 12
[ $deployment = A ] || check "Xen's log tells again" xl set-parameters 'loglvl=info guest_loglvl=info'
nothing_left
finish
