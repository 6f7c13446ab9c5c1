//! Each attack of the hostile NBD server on our own client, over this machine's TCP: it can be made, and the client
//! comes back. What a whole stub makes of it, the scenarios show.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nbd::{Client, Command, Event, Security};
use pilotfish_hostile_net::nbd::{Attack, NEGOTIATION, REPLIES, STREAMS, Server};

/// Bytes of a request, as the scenarios' guest makes them.
const LEN_BYTES: u32 = 4096;
/// Without an answer for so long the connection is given up.
const PATIENCE: Duration = Duration::from_millis(1500);

/// A connection of a client that writes and reads in turn, until it breaks.
fn connection(server: SocketAddrV4, over: &AtomicBool) -> Option<()> {
    let mut stream = TcpStream::connect(server).ok()?;
    stream.set_read_timeout(Some(Duration::from_millis(50))).ok()?;
    stream.set_write_timeout(Some(PATIENCE)).ok()?;
    let mut client = Client::new("far", Security::Plain, 0).ok()?;
    let mut bytes = vec![0; 1 << 16];
    let mut heard = Instant::now();
    let mut asked = 0_u64;
    while !over.load(Ordering::Relaxed) && heard.elapsed() < PATIENCE {
        let Ok(count) = stream.read(&mut bytes) else { continue };
        if count == 0 {
            return None;
        }
        heard = Instant::now();
        let mut rest = bytes.get(..count)?;
        while let Some(event) = client.receive(&mut rest).ok()? {
            match event {
                Event::Greeted => stream.write_all(&client.opening()).ok()?,
                Event::Ready(_) | Event::Done { .. } => {
                    asked += 1;
                    ask(&mut stream, &mut client, asked)?;
                }
                Event::Data { .. } | Event::StartTls => {}
            }
        }
    }
    None
}

fn ask(stream: &mut TcpStream, client: &mut Client, number: u64) -> Option<()> {
    let (offset, len_bytes) = (0, LEN_BYTES);
    if number.is_multiple_of(2) {
        let header = client.submit(number, Command::Read { offset, len_bytes }).ok()?;
        return stream.write_all(&header).ok();
    }
    let header = client.submit(number, Command::Write { offset, len_bytes, durable: false }).ok()?;
    let sector: Vec<u8> = b"far ".iter().copied().cycle().take(512).collect();
    stream.write_all(&[header.to_vec(), sector.repeat(8)].concat()).ok()
}

/// A port that nobody has.
fn free_address() -> SocketAddrV4 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    SocketAddrV4::new(Ipv4Addr::LOCALHOST, listener.local_addr().unwrap().port())
}

fn make(attack: &'static Attack) -> Result<(), String> {
    let address = free_address();
    let mut server = Server::new(address).map_err(|error| error.to_string())?;
    let over = Arc::new(AtomicBool::new(false));
    let stop = over.clone();
    let client = thread::spawn(move || {
        while !stop.load(Ordering::Relaxed) {
            let _ = connection(address, &stop);
            thread::sleep(Duration::from_millis(100));
        }
    });
    let wait = Duration::from_secs(20);
    let made = server.honest(6, wait).and_then(|()| (attack.run)(&mut server));
    let after = made.and_then(|()| server.honest(6, wait));
    over.store(true, Ordering::Relaxed);
    drop(client.join());
    after.map_err(|why| format!("{}: {why:?}", attack.name))
}

#[test]
fn each_attack_can_be_made_and_our_client_comes_back() {
    let all = NEGOTIATION.iter().chain(REPLIES).chain(STREAMS);
    let runs: Vec<_> = all.map(|attack| thread::spawn(move || make(attack))).collect();
    let count = runs.len();
    let bad: Vec<String> = runs.into_iter().filter_map(|run| run.join().unwrap().err()).collect();
    assert!(count > 60 && bad.is_empty(), "of {count}: {bad:#?}");
}
