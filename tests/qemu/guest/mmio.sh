# A guest that reads a device register without end; the witness of what its stub does. With
# pf.quiet=1 it only waits. One process per access: tens to hundreds of accesses a second.
. /guest/lib.sh
. /guest/disk.sh

value alive 1
if [ "$(option quiet 0)" = 1 ]; then
    sleep 3600
fi
n=0
while :; do
    n=$((n + 1))
    devmem 0x02000000 32 >/tmp/register 2>/dev/null || echo failed >/tmp/register
    [ $((n % 20)) != 1 ] || value access "$n $(cat /tmp/register)"
done
