//! An NBD server of our own, honest until it is told otherwise.
//!
//! It has one client at a time and a disk in its memory.

mod negotiation;
mod offer;
mod replies;
mod streams;

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddrV4, TcpListener, TcpStream};
use std::thread::sleep;
use std::time::{Duration, Instant};

use ::nbd::wire::{
    CMD_DISC, CMD_FLUSH, CMD_READ, CMD_TRIM, CMD_WRITE, CMD_WRITE_ZEROES, EINVAL, ENOTSUP, REQUEST_BYTES,
    REQUEST_MAGIC, Request, SIMPLE_REPLY_MAGIC,
};
use socket2::{Domain, Socket, Type};

pub use negotiation::NEGOTIATION;
pub use replies::REPLIES;
pub use streams::STREAMS;

/// Bytes of the disk.
pub const DISK_BYTES: usize = 1 << 20;
/// What the tiny guest writes at the beginning of each sector of this disk (`tests/frontend/src/patient.rs`).
const TAG: &[u8] = b"far ";
/// How long a client may take to send the rest of what it has begun.
const REST: Duration = Duration::from_secs(5);
/// How long to wait for a request to attack.
const VICTIM: Duration = Duration::from_secs(40);

/// One attack.
#[derive(Debug)]
pub struct Attack {
    /// As the report names it.
    pub name: &'static str,
    /// What it tries.
    pub tries: &'static str,
    /// Makes it.
    pub run: fn(&mut Server) -> Result<(), Trouble>,
}

/// Why an attack is no success.
#[derive(Debug)]
pub enum Trouble {
    /// It could not be made; why.
    NotMade(String),
    /// Somebody was harmed, or took what must be refused.
    Harm(String),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Trouble {
        Trouble::NotMade(error.to_string())
    }
}

/// What becomes of a connection after another negotiation than the usual one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Then {
    /// Requests are served.
    Serve,
    /// The client has to end it, without a request.
    Refused,
    /// The server ends it.
    End,
}

/// Another negotiation.
pub type Lie = fn(&mut TcpStream) -> io::Result<Then>;

/// The server.
#[derive(Debug)]
pub struct Server {
    address: SocketAddrV4,
    listener: Option<TcpListener>,
    /// The connection, while there is one.
    pub connection: Option<TcpStream>,
    disk: Vec<u8>,
    /// How the next connections are negotiated, and how many of them.
    lie: Option<(Lie, u32)>,
    /// A request came over a connection that had to be refused.
    taken: bool,
    /// Sectors that came and are not this disk's.
    foreign: u64,
    /// Requests served as they should be.
    pub served: u64,
    /// Connections made so far.
    pub connections: u64,
}

impl Server {
    /// Listens at that address.
    ///
    /// # Errors
    /// Why not.
    pub fn new(address: SocketAddrV4) -> io::Result<Server> {
        let mut server = Server {
            address,
            listener: None,
            connection: None,
            disk: vec![0; DISK_BYTES],
            lie: None,
            taken: false,
            foreign: 0,
            served: 0,
            connections: 0,
        };
        server.listen()?;
        Ok(server)
    }

    /// Listens, from now on with what sockets have by default.
    ///
    /// # Errors
    /// Why not.
    pub fn listen(&mut self) -> io::Result<()> {
        self.listen_with(None)
    }

    /// Listens. The sockets of connections get the listener's receive buffer, of so many bytes.
    ///
    /// # Errors
    /// Why not.
    pub fn listen_with(&mut self, receive_bytes: Option<usize>) -> io::Result<()> {
        self.listener = None;
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        receive_bytes.map_or(Ok(()), |bytes| socket.set_recv_buffer_size(bytes))?;
        socket.bind(&self.address.into())?;
        socket.listen(128)?;
        socket.set_nonblocking(true)?;
        self.listener = Some(socket.into());
        Ok(())
    }

    /// Refuses connections.
    pub fn deafen(&mut self) {
        self.listener = None;
    }

    /// Ends the connection, if there is one.
    pub fn end(&mut self) {
        self.connection = None;
    }

    /// Takes a connection that waits, without a word; whether there was one.
    ///
    /// # Errors
    /// Why not.
    pub fn accept(&mut self) -> io::Result<bool> {
        let Some(listener) = &self.listener else { return Ok(false) };
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(false)?;
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(REST))?;
                stream.set_write_timeout(Some(REST))?;
                self.connections += 1;
                self.connection = Some(stream);
                Ok(true)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Takes a connection that waits, and negotiates. Clients that go amid that are nobody's fault.
    fn greet_next(&mut self) -> io::Result<()> {
        if !self.accept()? {
            sleep(Duration::from_millis(2));
            return Ok(());
        }
        let Some(mut stream) = self.connection.take() else { return Ok(()) };
        let lie = self.lie.take();
        let then = match lie {
            Some((lie, _)) => lie(&mut stream),
            None => offer::honest(&mut stream),
        };
        self.lie = lie.filter(|(_, left)| *left > 1).map(|(lie, left)| (lie, left.saturating_sub(1)));
        match then {
            Ok(Then::Serve) => self.connection = Some(stream),
            Ok(Then::Refused) => self.taken |= makes_requests(&mut stream),
            Ok(Then::End) | Err(_) => {}
        }
        Ok(())
    }

    /// The next request and the data of a write, honest in everything else, until then. `None`: none came.
    ///
    /// # Errors
    /// Why not.
    pub fn next_request(&mut self, until: Instant) -> Result<Option<(Request, Vec<u8>)>, Trouble> {
        while Instant::now() < until {
            let Some(stream) = &mut self.connection else {
                self.greet_next()?;
                continue;
            };
            match read_request(stream) {
                // A client has one connection, and a domain that was destroyed does not end its own.
                Ok(None) => self.greet_next()?,
                Ok(Some((request, data))) => {
                    self.foreign += foreign_sectors(&request, &data);
                    return Ok(Some((request, data)));
                }
                // It has gone.
                Err(_) => self.end(),
            }
        }
        Ok(None)
    }

    /// A request of the client's, whichever.
    ///
    /// # Errors
    /// None came.
    pub fn victim(&mut self) -> Result<(Request, Vec<u8>), Trouble> {
        let until = Instant::now() + VICTIM;
        self.next_request(until)?.ok_or_else(|| Trouble::NotMade("no request came".to_owned()))
    }

    /// A request of that kind. Others are served.
    ///
    /// # Errors
    /// None came.
    pub fn victim_of(&mut self, kind: u16) -> Result<(Request, Vec<u8>), Trouble> {
        for _ in 0..256 {
            let (request, data) = self.victim()?;
            if request.kind == kind {
                return Ok((request, data));
            }
            self.serve(&request, &data);
        }
        Err(Trouble::NotMade(format!("no request of kind {kind}")))
    }

    /// The cookie of a write whose data is left unread.
    ///
    /// # Errors
    /// None came.
    pub fn unread_write(&mut self, time: Duration) -> Result<u64, Trouble> {
        let until = Instant::now() + time;
        while Instant::now() < until {
            let Some(stream) = &mut self.connection else {
                self.greet_next()?;
                continue;
            };
            let mut header = [0; REQUEST_BYTES];
            let seen = stream.peek(&mut header).ok().filter(|count| *count == REQUEST_BYTES);
            match seen.and_then(|_| decode(&header)) {
                Some(request) if request.kind == CMD_WRITE => return Ok(request.cookie),
                _ => self.serve_next(until)?,
            }
        }
        Err(Trouble::NotMade("no write came".to_owned()))
    }

    fn serve_next(&mut self, until: Instant) -> Result<(), Trouble> {
        if let Some((request, data)) = self.next_request(until)? {
            self.serve(&request, &data);
        }
        Ok(())
    }

    /// Serves until `count` requests are done.
    ///
    /// # Errors
    /// They are not within that time.
    pub fn honest(&mut self, count: u64, time: Duration) -> Result<(), Trouble> {
        let until = Instant::now() + time;
        let goal = self.served + count;
        while self.served < goal {
            let Some((request, data)) = self.next_request(until)? else {
                let came = count - (goal - self.served);
                return Err(Trouble::NotMade(format!("{came} of {count} requests came")));
            };
            self.serve(&request, &data);
        }
        Ok(())
    }

    /// Serves whatever comes for that long.
    ///
    /// # Errors
    /// The listener failed.
    pub fn honest_for(&mut self, time: Duration) -> Result<(), Trouble> {
        let until = Instant::now() + time;
        while let Some((request, data)) = self.next_request(until)? {
            self.serve(&request, &data);
        }
        Ok(())
    }

    /// Negotiates the next `times` connections in that way, ending the one that there is.
    ///
    /// # Errors
    /// So many did not come, or a client went on where it must not.
    pub fn lie(&mut self, lie: Lie, times: u32) -> Result<(), Trouble> {
        self.lie = Some((lie, times));
        self.taken = false;
        self.end();
        let until = Instant::now() + VICTIM;
        while self.lie.is_some() && Instant::now() < until {
            self.greet_next()?;
        }
        if self.lie.take().is_some() {
            return Err(Trouble::NotMade("nobody connected".to_owned()));
        }
        if self.taken { Err(Trouble::Harm("it was taken, and used".to_owned())) } else { Ok(()) }
    }

    /// Negotiates each connection in that way, without end.
    ///
    /// # Errors
    /// The listener failed.
    pub fn always(&mut self, run: fn(&mut Server) -> Result<(), Trouble>) -> Result<(), Trouble> {
        loop {
            match run(self) {
                Ok(()) | Err(Trouble::NotMade(_)) => {}
                Err(harm) => return Err(harm),
            }
        }
    }

    /// Sectors of another disk that came since this was asked last.
    pub fn take_foreign(&mut self) -> u64 {
        std::mem::take(&mut self.foreign)
    }

    /// Does what the request asks for, and answers.
    pub fn serve(&mut self, request: &Request, data: &[u8]) {
        let (error, answer) = match self.work(request, data) {
            Ok(answer) => (0, answer),
            Err(error) => (error, Vec::new()),
        };
        self.served += u64::from(error == 0);
        self.send(&[reply(error, request.cookie), answer].concat());
    }

    /// Sends bytes. A client that has gone will come again.
    pub fn send(&mut self, bytes: &[u8]) {
        if let Some(stream) = &mut self.connection
            && stream.write_all(bytes).is_err()
        {
            self.end();
        }
    }

    /// The data of a read, or the error.
    ///
    /// # Errors
    /// Why it cannot be done (`NBD_E*`).
    pub fn work(&mut self, request: &Request, data: &[u8]) -> Result<Vec<u8>, u32> {
        if request.kind == CMD_FLUSH {
            return Ok(Vec::new());
        }
        let from = usize::try_from(request.offset).map_err(|_| EINVAL)?;
        let len = usize::try_from(request.len_bytes).map_err(|_| EINVAL)?;
        let place = self.disk.get_mut(from..from.saturating_add(len)).ok_or(EINVAL)?;
        match request.kind {
            CMD_READ => return Ok(place.to_vec()),
            CMD_WRITE if data.len() == len => place.copy_from_slice(data),
            CMD_TRIM | CMD_WRITE_ZEROES => place.fill(0),
            _ => return Err(ENOTSUP),
        }
        Ok(Vec::new())
    }
}

/// A simple reply, without data.
#[must_use]
pub fn reply(error: u32, cookie: u64) -> Vec<u8> {
    reply_like(SIMPLE_REPLY_MAGIC, error, cookie)
}

/// The same with another magic number.
#[must_use]
pub fn reply_like(magic: u32, error: u32, cookie: u64) -> Vec<u8> {
    [&magic.to_be_bytes()[..], &error.to_be_bytes(), &cookie.to_be_bytes()].concat()
}

/// A request that has begun to come, and the data of a write; `None` if none has for a moment.
fn read_request(stream: &mut TcpStream) -> io::Result<Option<(Request, Vec<u8>)>> {
    stream.set_read_timeout(Some(Duration::from_millis(20)))?;
    match stream.peek(&mut [0]) {
        Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
        Ok(_) => {}
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => return Ok(None),
        Err(error) => return Err(error),
    }
    stream.set_read_timeout(Some(REST))?;
    let mut header = [0; REQUEST_BYTES];
    stream.read_exact(&mut header)?;
    let request = decode(&header).ok_or(ErrorKind::InvalidData)?;
    if request.kind == CMD_DISC {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    let len = if request.kind == CMD_WRITE { request.len_bytes } else { 0 };
    let mut data = vec![0; usize::try_from(len).unwrap_or(0)];
    stream.read_exact(&mut data)?;
    Ok(Some((request, data)))
}

fn decode(header: &[u8; REQUEST_BYTES]) -> Option<Request> {
    let (magic, rest) = header.split_first_chunk()?;
    let (flags, rest) = rest.split_first_chunk()?;
    let (kind, rest) = rest.split_first_chunk()?;
    let (cookie, rest) = rest.split_first_chunk()?;
    let (offset, rest) = rest.split_first_chunk()?;
    (u32::from_be_bytes(*magic) == REQUEST_MAGIC).then_some(Request {
        flags: u16::from_be_bytes(*flags),
        kind: u16::from_be_bytes(*kind),
        cookie: u64::from_be_bytes(*cookie),
        offset: u64::from_be_bytes(*offset),
        len_bytes: u32::from_be_bytes(*rest.first_chunk()?),
    })
}

/// Sectors of a write that the guest has not marked for this disk.
fn foreign_sectors(request: &Request, data: &[u8]) -> u64 {
    let strange = |sector: &&[u8]| !sector.starts_with(TAG);
    let count = if request.kind == CMD_WRITE { data.chunks(512).filter(strange).count() } else { 0 };
    u64::try_from(count).unwrap_or(u64::MAX)
}

/// Whether a client that has to end the connection sends a request in place of that.
fn makes_requests(stream: &mut TcpStream) -> bool {
    let mut seen = Vec::new();
    let until = Instant::now() + REST * 3;
    let mut bytes = [0; 4096];
    while Instant::now() < until {
        match stream.read(&mut bytes) {
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Ok(0) | Err(_) => break,
            Ok(count) => seen.extend_from_slice(bytes.get(..count).unwrap_or_default()),
        }
    }
    seen.windows(4).any(|word| word == REQUEST_MAGIC.to_be_bytes())
}
