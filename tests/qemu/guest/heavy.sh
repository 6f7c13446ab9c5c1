# A guest that never stops writing: four writers at once, each with its own MiBs.
. /guest/lib.sh
. /guest/disk.sh

wait_device /dev/vda 30 || stop "no /dev/vda"
for writer in 0 1 2 3; do
    (
        n=0
        while :; do
            n=$((n + 1))
            pattern "writer $writer" "$n" |
                dd of=/dev/vda bs=16k seek=$(((writer * 4 + n % 4) * 64)) iflag=fullblock oflag=direct conv=notrunc 2>/dev/null ||
                value error "writer $writer round $n failed"
            [ "$writer" != 0 ] || value round "$n"
        done
    ) &
done
wait
