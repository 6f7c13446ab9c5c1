# The hostile stub again, with all that it can do beside its servers and slots.
runs='grants lives deceived store memory twice backwards unknown events'
least=70
. /scenarios/hostile-stub.sh
