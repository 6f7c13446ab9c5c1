//! A hostile NBD server, in dom0 of the tests.
//!
//! - `hostile-nbd ADDRESS:PORT negotiation GO` or `replies`: each attack of that group of [`pilotfish_hostile_net::nbd`], one
//!   after the other, once there is a file GO. After each its client has to come back and use the disk.
//! - `hostile-nbd ADDRESS:PORT ATTACK`: that attack over and over.
#![forbid(unsafe_code)]

use std::path::Path;
use std::time::{Duration, Instant};

use pilotfish_hostile_net::nbd::{Attack, NEGOTIATION, REPLIES, STREAMS, Server, Trouble};
use pilotfish_hostile_net::report;

/// Requests that are served before an attack, and after it.
const HONEST: u64 = 12;
/// How long a client may take to come back: twice the pause after a disk that is not the one it knew.
const PATIENCE: Duration = Duration::from_secs(60);
/// Connections between two that last: the client's pause grows from one failure to the next.
const FEW: u64 = 4;
/// After that a connection was a good one: the client then comes back at once when the next one fails.
const LASTING: Duration = Duration::from_millis(5200);

fn main() -> Result<(), String> {
    let mut arguments = std::env::args().skip(1);
    let address =
        arguments.next().ok_or("usage: hostile-nbd ADDRESS:PORT negotiation|replies|ATTACK [GO]")?;
    let address = address.parse().map_err(|error| format!("{address}: {error}"))?;
    let mut server = Server::new(address).map_err(|error| format!("{address}: {error}"))?;
    report("listening", address);
    let (name, go) = (arguments.next().unwrap_or_default(), arguments.next().unwrap_or_default());
    let done = match name.as_str() {
        "negotiation" => wait(&mut server, &go).and_then(|()| attacks(&mut server, NEGOTIATION.iter())),
        "replies" => {
            wait(&mut server, &go).and_then(|()| attacks(&mut server, REPLIES.iter().chain(STREAMS)))
        }
        name => match NEGOTIATION.iter().find(|attack| attack.name == name) {
            Some(attack) => server.always(attack.run),
            None => Err(Trouble::NotMade(format!("no attack {name}"))),
        },
    };
    done.map_err(|why| {
        report("error", format_args!("{why:?}"));
        String::from("an attack could not be made")
    })
}

/// Serves until there is that file.
fn wait(server: &mut Server, go: &str) -> Result<(), Trouble> {
    while !Path::new(go).exists() {
        server.honest_for(Duration::from_millis(200))?;
    }
    Ok(())
}

fn attacks(server: &mut Server, all: impl Iterator<Item = &'static Attack>) -> Result<(), Trouble> {
    let (mut made, mut lasted_at) = (0, server.connections);
    for attack in all {
        let began = Instant::now();
        let (verdict, why) = verdict(server, attack, lasted_at);
        let ms = began.elapsed().as_millis();
        report("attack", format_args!("{} {verdict} {ms} {why} [{}]", attack.name, attack.tries));
        made += 1;
        if server.connections - lasted_at >= FEW {
            lasted_at = server.connections;
        }
    }
    // For as long as the guest wants.
    report("attacks", made);
    server.honest_for(Duration::from_secs(3600))
}

/// What came of an attack, in the words of the Xen Test Framework, and why.
fn verdict(server: &mut Server, attack: &Attack, lasted_at: u64) -> (&'static str, String) {
    server.take_foreign();
    match server.honest(HONEST, PATIENCE).and_then(|()| (attack.run)(server)) {
        Ok(()) => {}
        Err(Trouble::NotMade(why)) => return ("error", why),
        Err(Trouble::Harm(why)) => return ("failure", why),
    }
    let after = server.honest(HONEST, PATIENCE);
    let is_over = server.connections - lasted_at >= FEW;
    let lasting = after.and_then(|()| if is_over { server.honest_for(LASTING) } else { Ok(()) });
    let foreign = server.take_foreign();
    match lasting {
        Err(why) => ("failure", format!("{why:?}")),
        Ok(()) if foreign > 0 => ("failure", format!("{foreign} sectors of another disk")),
        Ok(()) => ("success", String::new()),
    }
}
