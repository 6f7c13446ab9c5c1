# power-cut with both disks on Debian's nbd-server, which is killed (SIGKILL) and started again amid writes: four times in
# each life of the guest, and at the end of some. Its host lives on, so what it wrote is there: this is about the requests
# under way, and about writes that are done again in vain.
storage=nbd
kills=${kills:-6}
server_kills=${server_kills:-4}
ways=(server stub server-back guest server both)
. /scenarios/power-cut.sh
