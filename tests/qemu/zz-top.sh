. /pf/lib.sh
xl list; sleep 10; xl list; top -b -n1 | head -12; cat /proc/interrupts | head -30
start_guest idle nothing "$(pv_disk xvda $(raw_disk i 8))"; sleep 10; xl list; sleep 10; xl list; top -b -n1 | head -12; cat $(guest_log idle)
pass x
finish
