//! A hostile neighbour on the bridge of the stubs, in dom0 of the tests. INTERFACE is the bridge; the stub is at
//! STUB-MAC and STUB, its server at SERVER-MAC and SERVER:PORT.
//!
//! - `hostile-frames INTERFACE STUB-MAC STUB SERVER-MAC SERVER:PORT GO`: each attack of
//!   [`pilotfish_hostile_net::frames`], one after the other; the next one once the file GO has the number of those made.
//! - the same with `impostor:NAME` in the place of GO: is the server itself, which is nobody else then.
#![forbid(unsafe_code)]

use std::fs;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::thread::sleep;
use std::time::{Duration, Instant};

use pilotfish_hostile_net::frames::build::Mac;
use pilotfish_hostile_net::frames::{Host, Site, all, impostor};
use pilotfish_hostile_net::report;

/// How long the script may take to look at those who may not be harmed.
const PATIENCE: Duration = Duration::from_secs(180);
/// How long an impostor stays.
const STAYS: Duration = Duration::from_secs(60);

fn main() -> Result<(), String> {
    // smoltcp's socket panics at a frame that the kernel does not take; those are counted.
    std::panic::set_hook(Box::new(|_| {}));
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [interface, stub_mac, stub, server_mac, server, what] = arguments.as_slice() else {
        return Err("usage: hostile-frames INTERFACE STUB-MAC STUB SERVER-MAC SERVER:PORT GO|impostor:NAME"
            .to_owned());
    };
    let stub =
        Host { mac: mac(stub_mac)?, address: stub.parse::<Ipv4Addr>().map_err(|error| error.to_string())? };
    let server: SocketAddrV4 = server.parse().map_err(|error| format!("{server}: {error}"))?;
    let (port, server) = (server.port(), Host { mac: mac(server_mac)?, address: *server.ip() });
    let mut site =
        Site::new(interface, stub, server, port).map_err(|error| format!("{interface}: {error}"))?;
    report("ready", interface);
    match what.strip_prefix("impostor:") {
        Some(name) => impostor(&mut site, name, STAYS),
        None => attacks(&mut site, what),
    }
}

fn attacks(site: &mut Site, go: &str) -> Result<(), String> {
    let mut made = 0;
    for attack in all() {
        let (began, refused) = (Instant::now(), site.refused);
        let (verdict, why) = match (attack.run)(site) {
            Ok(()) => ("success", String::new()),
            Err(why) => ("failure", why),
        };
        let ms = began.elapsed().as_millis();
        made += 1;
        report(format_args!("refused_{}", attack.name), site.refused - refused);
        report("attack", format_args!("{} {verdict} {ms} {why} [{}]", attack.name, attack.tries));
        let until = Instant::now() + PATIENCE;
        while !may_go_on(go, made) {
            if Instant::now() > until {
                report("error", "nobody said to go on");
                return Err("nobody said to go on".to_owned());
            }
            sleep(Duration::from_millis(50));
        }
    }
    report("attacks", made);
    Ok(())
}

fn may_go_on(go: &str, made: u32) -> bool {
    fs::read_to_string(go).is_ok_and(|text| text.trim().parse().is_ok_and(|number: u32| number >= made))
}

fn mac(text: &str) -> Result<Mac, String> {
    let bytes: Result<Vec<u8>, _> = text.trim().split(':').map(|byte| u8::from_str_radix(byte, 16)).collect();
    bytes.ok().and_then(|bytes| bytes.try_into().ok()).ok_or_else(|| format!("{text}: no MAC address"))
}
