# The hostile stub again: stubs that end at each step of the way to serving.
runs='lives'
least=10
. /scenarios/hostile-stub.sh
