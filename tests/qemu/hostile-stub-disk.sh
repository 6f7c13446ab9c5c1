# The hostile stub again: its grants, and blkback, on which it has a disk.
runs='grants'
least=19
. /scenarios/hostile-stub.sh
