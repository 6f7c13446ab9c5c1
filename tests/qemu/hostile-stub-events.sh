# The hostile stub again: event channels, the console, the CPU.
runs='events watchdog'
least=20
. /scenarios/hostile-stub.sh
