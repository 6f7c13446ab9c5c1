# The hostile stub again: answers after which Xen, or the guest itself, ends the guest.
runs='twice backwards unknown'
least=3
. /scenarios/hostile-stub.sh
