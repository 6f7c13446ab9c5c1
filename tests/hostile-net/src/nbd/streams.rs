//! Attacks by the connection itself: how its bytes come, and how it ends.

use std::net::Shutdown;
use std::thread::sleep;
use std::time::{Duration, Instant};

use ::nbd::wire::CMD_READ;

use super::{Attack, Server, Trouble, VICTIM, reply};

/// Connections that a client may make of a server that ends each of them at once, in [`FLAP`]. The pause grows.
const FLAP_MAX: u64 = 60;
/// For how long.
const FLAP: Duration = Duration::from_secs(6);
/// A receive buffer that a write of 4 KiB fills. Linux takes twice that.
const SMALL_BYTES: usize = 1152;

/// The attacks.
pub const STREAMS: &[Attack] = &[
    Attack { name: "replies-by-bytes", tries: "replies and their data one byte at a time", run: by_bytes },
    Attack {
        name: "replies-without-end",
        tries: "replies as fast as they go, whatever was asked",
        run: flood,
    },
    Attack { name: "reset-amid-reply", tries: "a connection that is reset amid a reply", run: reset_amid },
    Attack {
        name: "closed-amid-header",
        tries: "a connection that ends amid a reply's head",
        run: cut_header,
    },
    Attack {
        name: "half-closed-and-silent",
        tries: "the server's half is closed with requests under way, and the other stays open",
        run: half_closed,
    },
    Attack { name: "not-read", tries: "a window of no bytes for longer than the timeout", run: not_read },
    Attack { name: "accepted-and-closed", tries: "each connection is taken and closed at once", run: flap },
    Attack { name: "refused", tries: "connections are refused for some time", run: refused },
    Attack {
        name: "accepted-and-silent",
        tries: "connections are taken by the kernel alone, and nobody says a word",
        run: nobody_home,
    },
];

fn by_bytes(server: &mut Server) -> Result<(), Trouble> {
    for _ in 0..4 {
        let (request, data) = server.victim()?;
        let answer =
            server.work(&request, &data).map_err(|error| Trouble::NotMade(format!("error {error}")))?;
        for byte in [reply(0, request.cookie), answer].concat() {
            server.send(&[byte]);
        }
    }
    Ok(())
}

fn flood(server: &mut Server) -> Result<(), Trouble> {
    let (request, _) = server.victim()?;
    let replies = reply(0, request.cookie).repeat(4096);
    let until = Instant::now() + Duration::from_secs(2);
    while Instant::now() < until && server.connection.is_some() {
        server.send(&replies);
    }
    Ok(())
}

/// Sends the beginning of a reply.
fn begin_reply(server: &mut Server, bytes: usize) -> Result<(), Trouble> {
    let (request, data) = server.victim_of(CMD_READ)?;
    let answer = server.work(&request, &data).map_err(|error| Trouble::NotMade(format!("error {error}")))?;
    let whole = [reply(0, request.cookie), answer].concat();
    server.send(whole.get(..bytes).unwrap_or_default());
    Ok(())
}

fn reset_amid(server: &mut Server) -> Result<(), Trouble> {
    // Linux resets a connection that is closed with bytes unread: the data of the write.
    let cookie = server.unread_write(VICTIM)?;
    server.send(reply(0, cookie).get(..9).unwrap_or_default());
    server.end();
    Ok(())
}

fn cut_header(server: &mut Server) -> Result<(), Trouble> {
    begin_reply(server, 7)?;
    server.end();
    Ok(())
}

fn half_closed(server: &mut Server) -> Result<(), Trouble> {
    server.victim()?;
    if let Some(stream) = &server.connection {
        stream.shutdown(Shutdown::Write)?;
    }
    sleep(Duration::from_secs(1));
    Ok(())
}

fn not_read(server: &mut Server) -> Result<(), Trouble> {
    server.listen_with(Some(SMALL_BYTES))?;
    server.end();
    server.unread_write(VICTIM)?;
    sleep(Duration::from_secs(5));
    server.listen()?;
    server.end();
    Ok(())
}

fn flap(server: &mut Server) -> Result<(), Trouble> {
    server.end();
    let (until, before) = (Instant::now() + FLAP, server.connections);
    while Instant::now() < until {
        if !server.accept()? {
            sleep(Duration::from_millis(1));
        }
        server.end();
    }
    let made = server.connections - before;
    println!("PF flap_connections={made}");
    if made > FLAP_MAX { Err(Trouble::Harm(format!("{made} connections in {FLAP:?}"))) } else { Ok(()) }
}

fn refused(server: &mut Server) -> Result<(), Trouble> {
    server.deafen();
    server.end();
    sleep(Duration::from_secs(4));
    server.listen()?;
    Ok(())
}

fn nobody_home(server: &mut Server) -> Result<(), Trouble> {
    server.end();
    sleep(Duration::from_secs(4));
    Ok(())
}
