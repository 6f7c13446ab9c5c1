# hostile-nbd, with the attacks on requests that are under way.
group=replies
. /scenarios/hostile-nbd.sh
