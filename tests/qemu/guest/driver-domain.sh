# Rounds of verified I/O on a disk whose storage backend's domain, or what is behind it, may die: what that held in its
# memory is lost then, so the next flush may fail, and the round is done again, pf.tries= times in all.
. /guest/lib.sh
. /guest/disk.sh

rounds=$(option rounds 4)
tag=$(option tag guest)
wait_device /dev/vda 30 || stop "no /dev/vda"
n=0
failures=0
while [ "$n" -lt "$rounds" ]; do
    n=$((n + 1))
    tries=$(option tries 2)
    # The failure of a try is no error yet.
    until (value() { echo "PF failed: $*"; } && round vda "$tag" "$n"); do
        failures=$((failures + 1))
        tries=$((tries - 1))
        [ "$tries" -gt 0 ] || stop "gave up in round $n"
        sleep 1
    done
    value round "$n"
done
value failures "$failures"
value done "$n"
