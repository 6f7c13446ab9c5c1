# The hostile stub again: mappings of its guest's pages, page tables, the guest's memory.
runs='memory'
least=13
. /scenarios/hostile-stub.sh
