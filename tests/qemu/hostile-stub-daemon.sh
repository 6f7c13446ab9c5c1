# The hostile stub again: what the daemon reads of a stub that it has made.
runs='deceived'
least=5
. /scenarios/hostile-stub.sh
