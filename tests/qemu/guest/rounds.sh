# A guest that does rounds of verified I/O: pf.rounds= of them on pf.disk=, marked with
# pf.tag=; then waits pf.linger= seconds and powers off.
. /guest/lib.sh
. /guest/disk.sh

disk=$(option disk vda)
rounds=$(option rounds 4)
tag=$(option tag guest)
wait_device "/dev/$disk" 30 || stop "no /dev/$disk"
n=0
while [ "$n" -lt "$rounds" ]; do
    n=$((n + 1))
    from=$(uptime_ms)
    round "$disk" "$tag" "$n" || stop "gave up in round $n"
    value round_ms $(($(uptime_ms) - from))
    value round "$n"
done
value done "$n"
sleep "$(option linger 0)"
