# The power failure scenario with as many ends as a claim needs.
kills=${kills:-50}
. /scenarios/power-cut.sh
