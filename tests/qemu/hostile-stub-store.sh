# The hostile stub again: xenstore, which all domains share.
runs='store too-long'
least=14
. /scenarios/hostile-stub.sh
