//! The client against servers that others wrote: nbdkit, and QEMU's where it is installed.

use nbd::{Client, Command, Event, Export, Fault, IoError, SubmitError, wire};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

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
    input: Vec<u8>,
    data: BTreeMap<u64, Vec<u8>>,
}

impl Connection {
    fn open(server: &Server, name: &str) -> Result<(Connection, Export), Fault> {
        let stream = server.socket();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let client = Client::new(name, 0).unwrap();
        let mut connection = Connection { stream, client, input: Vec::new(), data: BTreeMap::new() };
        loop {
            connection.fill();
            let mut rest = connection.input.as_slice();
            while let Some(event) = connection.client.receive(&mut rest)? {
                match event {
                    Event::Greeted => connection.stream.write_all(&connection.client.opening()).unwrap(),
                    Event::Ready(export) => {
                        assert!(rest.is_empty(), "nothing was asked for yet");
                        connection.input.clear();
                        return Ok((connection, export));
                    }
                    other => panic!("{other:?}"),
                }
            }
            connection.input.clear();
        }
    }

    fn fill(&mut self) {
        let mut bytes = [0; 10_000];
        let count = self.stream.read(&mut bytes).unwrap();
        assert!(count > 0, "the server left");
        self.input.extend_from_slice(&bytes[..count]);
    }

    fn submit(&mut self, id: u64, command: Command, data: &[u8]) {
        let header = self.client.submit(id, command).unwrap();
        self.stream.write_all(&[&header, data].concat()).unwrap();
    }

    /// Waits for that many answers.
    fn completions(&mut self, count: usize) -> BTreeMap<u64, Result<(), IoError>> {
        let mut done = BTreeMap::new();
        while done.len() < count {
            self.fill();
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
        self.stream.write_all(&self.client.farewell()).unwrap();
        assert_eq!(self.stream.read(&mut [0; 1]).unwrap(), 0, "the server ends the connection");
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

#[test]
fn qemu_s_server_serves_every_command() {
    let arguments = ["--socket=SOCKET", "--format=raw", "--export-name=disk", "--discard=unmap", "FILE"];
    let Some(server) = Server::start("qemu-nbd", &[&arguments[..], &["--persistent"]].concat()) else {
        eprintln!("skipped: qemu-nbd is not installed");
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
