//! The client against servers that others wrote: nbdkit, and QEMU's two where they are installed.

use nbd::{Client, Command, Event, Export, Fault, IoError, Security, SubmitError, wire};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};
use tls::{Secrets, Session};

/// How long a server may take to start, and for an answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// A server's process, ended when dropped.
struct Server {
    child: Child,
    dir: tempfile::TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    /// Starts `program` with `arguments`, in which `SOCKET` stands for its socket and `FILE` for an empty
    /// file of 8 MiB. `None` if it is not installed.
    fn start(program: &str, arguments: &[&str]) -> Option<Server> {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).display().to_string();
        std::fs::File::create(path("file")).unwrap().set_len(8 << 20).unwrap();
        let arguments = arguments
            .iter()
            .map(|argument| argument.replace("SOCKET", &path("socket")).replace("FILE", &path("file")));
        let mut command = std::process::Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null());
        match command.spawn() {
            Ok(child) => Some(Server { child, dir }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => panic!("{program}: {error}"),
        }
    }

    fn nbdkit(arguments: &[&str]) -> Server {
        let common = ["--foreground", "--exit-with-parent", "--unix", "SOCKET"];
        let server = Server::start("nbdkit", &[&common[..], arguments].concat());
        server.expect("nbdkit is not installed; remedy: cargo xtask setup")
    }

    fn socket(&self) -> UnixStream {
        let path: &Path = &self.dir.path().join("socket");
        let start = Instant::now();
        loop {
            match UnixStream::connect(path) {
                Ok(stream) => return stream,
                Err(error) => assert!(start.elapsed() < PATIENCE, "{}: {error}", path.display()),
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// A client on a socket.
struct Connection {
    stream: UnixStream,
    client: Client,
    session: Option<Session>,
    input: Vec<u8>,
    data: BTreeMap<u64, Vec<u8>>,
}

/// Why there is no export.
#[derive(Debug, Eq, PartialEq)]
enum Refused {
    Nbd(Fault),
    Tls(tls::Fault),
    /// The server closed the connection in the middle of the handshake.
    Left,
}

impl Connection {
    fn open(server: &Server, name: &str) -> Result<(Connection, Export), Fault> {
        Connection::open_as(server, name, None).map_err(|refused| match refused {
            Refused::Nbd(fault) => fault,
            other => panic!("{other:?}"),
        })
    }

    /// With TLS if there are secrets.
    fn open_as(
        server: &Server,
        name: &str,
        mut secrets: Option<Secrets>,
    ) -> Result<(Connection, Export), Refused> {
        let stream = server.socket();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let security = if secrets.is_some() { Security::Tls } else { Security::Plain };
        let client = Client::new(name, security, 0).unwrap();
        let mut connection =
            Connection { stream, client, session: None, input: Vec::new(), data: BTreeMap::new() };
        loop {
            connection.fill()?;
            let input = std::mem::take(&mut connection.input);
            let mut rest = input.as_slice();
            while let Some(event) = connection.client.receive(&mut rest).map_err(Refused::Nbd)? {
                match event {
                    Event::Greeted => connection.send(&connection.client.opening()),
                    Event::StartTls => {
                        assert!(rest.is_empty(), "the client speaks first");
                        connection.start_tls(secrets.as_mut().unwrap())?;
                        connection.send(&connection.client.opening());
                    }
                    Event::Ready(export) => {
                        assert!(rest.is_empty(), "nothing was asked for yet");
                        return Ok((connection, export));
                    }
                    other => panic!("{other:?}"),
                }
            }
        }
    }

    fn start_tls(&mut self, secrets: &mut Secrets) -> Result<(), Refused> {
        self.session = Some(Session::new(secrets).unwrap());
        while !self.session.as_ref().unwrap().is_open() {
            self.flush();
            self.fill()?;
        }
        self.flush();
        Ok(())
    }

    /// What TLS itself has to say.
    fn flush(&mut self) {
        let outgoing = self.session.as_mut().unwrap().outgoing();
        self.stream.write_all(outgoing.as_ref()).unwrap();
    }

    fn send(&mut self, bytes: &[u8]) {
        match &mut self.session {
            None => self.stream.write_all(bytes).unwrap(),
            Some(session) => {
                for data in bytes.chunks(tls::DATA_MAX_BYTES) {
                    self.stream.write_all(session.seal(data).unwrap()).unwrap();
                }
            }
        }
    }

    fn fill(&mut self) -> Result<(), Refused> {
        let mut bytes = [0; 10_000];
        let count = self.stream.read(&mut bytes).map_err(|_| Refused::Left)?;
        if count == 0 {
            return Err(Refused::Left);
        }
        let Some(session) = &mut self.session else {
            self.input.extend_from_slice(&bytes[..count]);
            return Ok(());
        };
        let mut rest = &bytes[..count];
        while !rest.is_empty() {
            rest = &rest[session.take(rest).map_err(Refused::Tls)?..];
            let data = session.data();
            self.input.extend_from_slice(data);
            session.consume(data.len());
        }
        Ok(())
    }

    fn submit(&mut self, id: u64, command: Command, data: &[u8]) {
        let header = self.client.submit(id, command).unwrap();
        self.send(&[&header, data].concat());
    }

    /// Waits for that many answers.
    fn completions(&mut self, count: usize) -> BTreeMap<u64, Result<(), IoError>> {
        let mut done = BTreeMap::new();
        while done.len() < count {
            self.fill().expect("the server serves");
            let input = std::mem::take(&mut self.input);
            let mut rest = input.as_slice();
            while let Some(event) = self.client.receive(&mut rest).unwrap() {
                match event {
                    Event::Data { id, bytes, .. } => self.data.entry(id).or_default().extend(bytes),
                    Event::Done { id, outcome } => assert_eq!(done.insert(id, outcome), None),
                    other => panic!("{other:?}"),
                }
            }
        }
        done
    }

    fn run(&mut self, command: Command, data: &[u8]) -> Result<(), IoError> {
        self.submit(1, command, data);
        self.completions(1)[&1]
    }

    fn read(&mut self, offset: u64, len_bytes: u32) -> Vec<u8> {
        self.data.remove(&1);
        assert_eq!(self.run(Command::Read { offset, len_bytes }, &[]), Ok(()));
        self.data.remove(&1).unwrap()
    }

    /// Says farewell; the server closes the connection then.
    fn end(mut self) {
        self.send(&self.client.farewell());
        let ended = self.fill();
        let in_order = self.session.is_some() && ended == Err(Refused::Tls(tls::Fault::Closed));
        assert!(in_order || ended == Err(Refused::Left), "the server ends the connection: {ended:?}");
    }
}

fn write(offset: u64, len_bytes: u32, durable: bool) -> Command {
    Command::Write { offset, len_bytes, durable }
}

/// Writes, reads, flushes, zeroes and trims, then many requests at once.
fn round(connection: &mut Connection, export: &Export) {
    let data: Vec<u8> = (0..300_032u32).map(|at| u8::try_from(at % 251).unwrap()).collect();
    assert_eq!(connection.run(write(512, 300_032, false), &data), Ok(()));
    assert_eq!(connection.read(512, 300_032), data);
    assert_eq!(connection.run(Command::Flush, &[]), Ok(()));
    assert_eq!(connection.run(write(0, 512, export.fua), &[9; 512]), Ok(()));
    let zeroes = Command::WriteZeroes { offset: 4096, len_bytes: 8192, durable: export.fua };
    assert_eq!(connection.run(zeroes, &[]), Ok(()));
    assert_eq!(connection.read(4096, 8192), [0; 8192]);
    assert_eq!(connection.read(0, 512), [9; 512]);
    assert_eq!(connection.run(Command::Trim { offset: 1 << 20, len_bytes: 1 << 20 }, &[]), Ok(()));
    for id in 0..100u64 {
        let seed = u8::try_from(id).unwrap();
        connection.submit(id, write(id * 4096, 4096, false), &[seed; 4096]);
    }
    assert!(connection.completions(100).values().all(Result::is_ok));
    connection.data.clear();
    for id in 0..100u64 {
        connection.submit(id, Command::Read { offset: id * 4096, len_bytes: 4096 }, &[]);
    }
    assert!(connection.completions(100).values().all(Result::is_ok));
    for (id, data) in &connection.data {
        assert_eq!(*data, [u8::try_from(*id).unwrap(); 4096]);
    }
}

#[test]
fn nbdkit_serves_every_command() {
    let server = Server::nbdkit(&["memory", "8M"]);
    let (mut connection, export) = Connection::open(&server, "any").unwrap();
    assert_eq!(export.size_bytes, 8 << 20);
    assert!(export.flush && export.fua && export.trim && export.write_zeroes && !export.read_only);
    round(&mut connection, &export);
    connection.end();
}

#[test]
fn nbdkit_s_block_sizes_are_kept() {
    let policy = ["--filter=blocksize-policy", "memory", "8M"];
    let sizes = ["blocksize-minimum=4096", "blocksize-preferred=8192", "blocksize-maximum=65536"];
    let errors = ["blocksize-error-policy=error"];
    let server = Server::nbdkit(&[&policy[..], &sizes, &errors].concat());
    let (mut connection, export) = Connection::open(&server, "").unwrap();
    let expected = (4096, 8192, 65536);
    assert_eq!((export.block_bytes, export.preferred_block_bytes, export.max_payload_bytes), expected);
    assert_eq!(connection.client.submit(1, write(0, 512, false)), Err(SubmitError::BadRange));
    assert_eq!(connection.run(write(4096, 65536, false), &[3; 65536]), Ok(()));
    assert_eq!(connection.read(4096, 65536), [3; 65536]);
}

#[test]
fn a_read_only_export_of_nbdkit_is_read_only() {
    let server = Server::nbdkit(&["--readonly", "memory", "8M"]);
    let (mut connection, export) = Connection::open(&server, "").unwrap();
    assert!(export.read_only);
    assert_eq!(connection.client.submit(1, write(0, 512, false)), Err(SubmitError::Unsupported));
    assert_eq!(connection.read(0, 4096), [0; 4096]);
}

#[test]
fn errors_of_nbdkit_fail_their_requests_only() {
    let server =
        Server::nbdkit(&["--filter=error", "memory", "8M", "error-pwrite=ENOSPC", "error-pwrite-rate=1"]);
    let (mut connection, _) = Connection::open(&server, "").unwrap();
    assert_eq!(connection.run(write(0, 512, false), &[1; 512]), Err(IoError::Failed(wire::ENOSPC)));
    assert_eq!(connection.read(0, 512), [0; 512]);
}

#[test]
fn answers_of_nbdkit_come_in_its_order() {
    let server = Server::nbdkit(&["--filter=delay", "memory", "8M", "delay-write=300ms"]);
    let (mut connection, _) = Connection::open(&server, "").unwrap();
    connection.submit(1, write(0, 512, false), &[1; 512]);
    connection.submit(2, Command::Read { offset: 4096, len_bytes: 512 }, &[]);
    let first = connection.completions(1);
    assert!(first.contains_key(&2), "the read overtakes the write");
    assert!(connection.completions(1).contains_key(&1));
}

/// What every program with QEMU's NBD server has to do, if it is installed; `FILE` is its export `disk`.
fn qemu_serves_every_command(program: &str, arguments: &[&str]) {
    let Some(server) = Server::start(program, arguments) else {
        eprintln!("skipped: {program} is not installed");
        return;
    };
    let refused = Connection::open(&server, "other").err();
    assert_eq!(refused, Some(Fault::Refused(wire::REP_ERR_UNKNOWN)));
    let (mut connection, export) = Connection::open(&server, "disk").unwrap();
    assert_eq!(export.size_bytes, 8 << 20);
    round(&mut connection, &export);
    connection.end();
    let file = std::fs::read(server.dir.path().join("file")).unwrap();
    assert_eq!(file[99 * 4096..100 * 4096], [99; 4096]);
}

#[test]
fn qemu_s_server_serves_every_command() {
    let socket = ["--socket=SOCKET", "--persistent"];
    let export = ["--format=raw", "--export-name=disk", "--discard=unmap", "FILE"];
    qemu_serves_every_command("qemu-nbd", &[&socket[..], &export].concat());
}

#[test]
fn qemu_s_storage_daemon_serves_every_command() {
    let socket = ["--nbd-server", "addr.type=unix,addr.path=SOCKET"];
    let image = ["--blockdev", "driver=file,node-name=image,filename=FILE,discard=unmap"];
    let export = ["--export", "type=nbd,id=disk,node-name=image,name=disk,writable=on"];
    qemu_serves_every_command("qemu-storage-daemon", &[socket, image, export].concat());
}

const KEY: &str = "1111111111111111111111111111111111111111111111111111111111111111";

fn secrets(identity: &str, key: &str) -> Option<Secrets> {
    Secrets::parse(&format!("{} {key} {identity}", "5a".repeat(32)))
}

/// nbdkit with TLS: `how` is `require` or `on`.
fn nbdkit_with_tls(how: &str, keys: &tempfile::TempDir) -> Server {
    let file = keys.path().join("keys");
    std::fs::write(&file, format!("web:{KEY}\n")).unwrap();
    let psk = format!("--tls-psk={}", file.display());
    Server::nbdkit(&[&format!("--tls={how}"), &psk, "memory", "8M"])
}

#[test]
fn nbdkit_serves_every_command_over_tls() {
    let keys = tempfile::tempdir().unwrap();
    let server = nbdkit_with_tls("require", &keys);
    let (mut connection, export) = Connection::open_as(&server, "any", secrets("web", KEY)).unwrap();
    assert_eq!(export.size_bytes, 8 << 20);
    round(&mut connection, &export);
    connection.end();
}

#[test]
fn nbdkit_refuses_who_has_not_its_key() {
    let keys = tempfile::tempdir().unwrap();
    let server = nbdkit_with_tls("require", &keys);
    let refused = |secrets| Connection::open_as(&server, "any", secrets).err().unwrap();
    assert_eq!(refused(None), Refused::Nbd(Fault::Refused(wire::REP_ERR_TLS_REQD)));
    // GnuTLS gives no alert here, and nbdkit closes the connection.
    assert_eq!(refused(secrets("web", &"22".repeat(32))), Refused::Left);
    assert_eq!(refused(secrets("other", KEY)), Refused::Left);
}

#[test]
fn nbdkit_without_tls_is_not_used() {
    let server = Server::nbdkit(&["--tls=off", "memory", "8M"]);
    let refused = Connection::open_as(&server, "any", secrets("web", KEY)).err();
    assert!(matches!(refused, Some(Refused::Nbd(Fault::NoTls(_)))), "{refused:?}");
}

#[test]
fn qemu_s_server_serves_every_command_over_tls() {
    let keys = tempfile::tempdir().unwrap();
    std::fs::write(keys.path().join("keys.psk"), format!("web:{KEY}\n")).unwrap();
    let object = format!("--object=tls-creds-psk,id=tls0,endpoint=server,dir={}", keys.path().display());
    let usual = ["--socket=SOCKET", "--format=raw", "--export-name=disk", "--discard=unmap", "--persistent"];
    let tls = [object.as_str(), "--tls-creds=tls0", "FILE"];
    let Some(server) = Server::start("qemu-nbd", &[&usual[..], &tls].concat()) else {
        eprintln!("skipped: qemu-nbd is not installed");
        return;
    };
    let refused = Connection::open_as(&server, "disk", None).err();
    assert_eq!(refused, Some(Refused::Nbd(Fault::Refused(wire::REP_ERR_TLS_REQD))));
    let (mut connection, export) = Connection::open_as(&server, "disk", secrets("web", KEY)).unwrap();
    round(&mut connection, &export);
    connection.end();
}
