# The hostile driver again, with four vCPUs: three of them change what the stub reads, and use the registers, while the
# first one makes requests.
mode=attacks-by-vcpus
hostile_vcpus=4
least=10
. /scenarios/hostile-guest.sh
