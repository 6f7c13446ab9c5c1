//! What an image without a network says of the words that need one.
#![cfg(not(feature = "nbd"))]

use config::Config;

#[test]
fn the_other_image_is_named() {
    let disk = "target=5 disk=id=1,mmio=0x2000000,irq=33,mode=rw,store=nbd:10.0.0.5:10809/x";
    let said = Config::parse(disk).unwrap_err().to_string();
    assert_eq!(said, "disk[0].store=nbd:10.0.0.5:10809/x: needs the image pilotfish-net.img");
    let said = Config::parse(&format!("net=ip=10.0.0.6/24 {disk}")).unwrap_err().to_string();
    assert_eq!(said, "net=ip=10.0.0.6/24: needs the image pilotfish-net.img");
}
