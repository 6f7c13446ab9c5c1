# fio-verify with the disk on an NBD server, and fio's own programs on a PV disk of the same stub.
storage=nbd
# Twice as long as fio uses: Debian's nbd-server (3.26.1) trims in the first half of an export alone.
disk_mib=224
. /scenarios/fio-verify.sh
