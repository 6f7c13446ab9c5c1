# A domain asks Xen for every operation of every hypercall, on every kind of domain: first with a stub's
# rights over a guest, then with an ordinary guest's. Each answer is as the repository's table says
# (tests/privileges.tsv; docs/privileges.md shows it). Neither harms anybody: a bystander with an honest stub
# goes on.
#
# attack stub_A: every hypercall by a stub with a target, on its guest and on everybody else
# attack guest_A: every hypercall by an ordinary guest
# attack stub_A+: by a stub under a policy that lets it map its guest
# attack stub_B-start: by a stub that is set up for a guest that grants its memory
# attack stub_B: by that stub once it serves
# attack guest_A+: by a guest under that policy
. /pf/lib.sh
. /scenarios/checks.sh

# differences: the rows that are expected and were not seen (-), and the other way round (+).
differences() {
    awk 'NR == FNR { rows[$0]; next }
        $0 in rows { delete rows[$0]; next }
        { print "+" $0 }
        END { for (row in rows) print "-" row }' /run/expected /run/seen
}

# walks RUN: waits until the walk is over, prints what it saw, and compares it with the table.
walks() {
    local run=$1
    check "$run: the walk comes to its end" wait_guest_line walker 'PF walked=' 90
    equal "$run: it met no error" "" "$(guest_value walker error)"
    tr -d '\r' <"$(guest_log walker)" | sed -n 's/^.*PFW //p' | tr ';' '\n' | grep . >/run/seen
    sed "s|^|seen $run |" /run/seen
    equal "$run: no row is lost" "$(guest_value walker walked)" "$(wc -l </run/seen)"
    awk -F '\t' -v run="$run" '
        /^#/ { next }
        $1 == "operation" { for (i = 2; i <= NF; i++) if ($i == run) column = i; next }
        column && $column != "" { print $1, $column }' /pf/privileges.tsv >/run/expected
    check "$run: the table has this run" test -s /run/expected
    equal "$run: each answer is as the table says" "" "$(differences | head -n 20 | tr '\n' ';')"
}

# stub_walks DEPLOYMENT GUEST: a domain walks that has a stub's rights over the guest, which is made for it.
stub_walks() {
    local run=$1/stub/$xen guest=$2 stub_label= first=
    attack "stub_$1"
    [ $flask = no ] || stub_label=$(label "$guest" stub)
    # It is set up with its first label (B-start), and serves with the other.
    case $1 in
        B-start) stub_label=${stub_label}_building ;;
        B) first=${stub_label}_building ;;
    esac
    check "$run: its guest is made" xl create -p "$(guest_config "$guest" mmio)"
    label=$stub_label first_label=$first check "$run: a domain with a stub's rights walks" \
        launch_stub walker walk "$(domid "$guest")" "other=$other" "$versions"
    walks "$run"
    check "$run: the bystander does verified I/O meanwhile" more_rounds bystander 2 60
    attacked
    xl destroy walker
    [ -z "$(domid "$guest")" ] || xl destroy "$guest"
}

# guest_walks DEPLOYMENT: an ordinary guest does. Its target is empty: it has no guest.
guest_walks() {
    local run=$1/guest/$xen guest_label=
    attack "guest_$1"
    [ $flask = no ] || guest_label=$(label guest guest)
    label=$guest_label targeted=no check "$run: a domain with an ordinary guest's rights walks" \
        launch_stub walker walk "" "other=$other" "$versions"
    walks "$run"
    xl destroy walker
    check "$run: the bystander still does verified I/O" more_rounds bystander 2 60
    attacked
}

begin
xen=$(cat /pf/xen-version)
versions="domctl=$(interface domctl) sysctl=$(interface sysctl)"
flask=no
if [ -e /pf/xenpolicy ]; then
    flask=yes
    # It falls over one call, as docs/privileges.md says.
    [ "$xen" != 4.17 ] || versions="$versions fragile=1"
fi
start_bystander 1000
watch_stalls
other=$(domid bystander)
if [ $flask = no ]; then
    stub_walks A victim
    guest_walks A
    for name in stub_A+ stub_B-start stub_B guest_A+; do no_attack $name "this machine has no FLASK policy"; done
else
    for name in stub_A guest_A; do no_attack $name "this machine has a FLASK policy"; done
    # What FLASK refuses Xen tells on the serial line that dom0's rows take, in the middle of them.
    check "Xen's log is quiet" xl set-parameters 'loglvl=none guest_loglvl=none'
    stub_walks A+ victim
    stub_walks B-start granting
    stub_walks B granting
    guest_walks A+
    check "Xen's log tells again" xl set-parameters 'loglvl=info guest_loglvl=info'
fi
tell_stalls
equal "the bystander saw no error" "" "$(guest_value bystander error)"
rounds=$(rounds_of bystander)
check "xl destroys the bystander" xl destroy bystander
check "the bystander's image holds what it wrote" image_holds "$bystander_image" witness "$rounds" 12
nothing_left
finish
