# Rounds of verified I/O on a disk whose storage backend's domain may be killed: what that domain
# held in its memory is lost then, so the next flush may fail, once, and the round is done again.
. /guest/lib.sh
. /guest/disk.sh

rounds=$(option rounds 4)
tag=$(option tag guest)
wait_device /dev/vda 30 || stop "no /dev/vda"
n=0
failures=0
while [ "$n" -lt "$rounds" ]; do
    n=$((n + 1))
    # The first failure of a round is no error yet.
    if ! (value() { echo "PF failed: $*"; } && round vda "$tag" "$n"); then
        failures=$((failures + 1))
        round vda "$tag" "$n" || stop "gave up in round $n"
    fi
    value round "$n"
done
value failures "$failures"
value done "$n"
