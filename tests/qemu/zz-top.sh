. /pf/lib.sh
t() { local a=$(now_ms); "$@" >/dev/null 2>&1; echo "$(( $(now_ms) - a )) ms: $*"; }
t true; t bash -c true; t sh -c true; t xl list; t xl list; t xenstore-list /; t losetup -a; t cat /guest/Image;  t cp /guest/Image /run/x; t sha256sum /guest/Image
cfg=$(guest_config idle nothing)
t xl create $cfg; xl list; t xl destroy idle; sleep 1
cfg=$(guest_config idle nothing "$(pv_disk xvda $(raw_disk i 8))")
t xl create $cfg; xl list; t xl destroy idle; sleep 1
cfg=$(guest_config idle nothing "$(pv_disk xvda $(raw_disk i 8))")
t xl create -p $cfg; xl list; t xl destroy idle
gzip -c /guest/Image > /run/Image.gz; ls -la /run/Image.gz
sed -i 's#/guest/Image#/run/Image.gz#' $cfg
t xl create -p $cfg
pass x
finish
