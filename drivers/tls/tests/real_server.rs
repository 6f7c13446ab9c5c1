//! The client against a TLS library that others wrote: OpenSSL's server. GnuTLS' is behind nbdkit and qemu-nbd (see the
//! tests of `drivers/nbd`).

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};
use tls::{Fault, Secrets, Session};

const KEY: &str = "1111111111111111111111111111111111111111111111111111111111111111";
const PATIENCE: Duration = Duration::from_secs(20);

struct Server(Child, u16);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Server {
    /// `openssl s_server`, which sends what it reads; `None` if it is not installed.
    fn start(more: &[&str]) -> Option<Server> {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let accept = format!("127.0.0.1:{port}");
        let usual = [
            "s_server",
            "-accept",
            &accept,
            "-psk",
            KEY,
            "-psk_identity",
            "web",
            "-nocert",
            "-quiet",
            "-tls1_3",
        ];
        let mut command = Command::new("openssl");
        command.args(usual).args(more).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        match command.spawn() {
            Ok(child) => Some(Server(child, port)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                eprintln!("skipped: openssl is not installed");
                None
            }
            Err(error) => panic!("{error}"),
        }
    }

    fn stream(&self) -> TcpStream {
        let start = Instant::now();
        loop {
            match TcpStream::connect(("127.0.0.1", self.1)) {
                Ok(stream) => {
                    stream.set_read_timeout(Some(PATIENCE)).unwrap();
                    return stream;
                }
                Err(error) => assert!(start.elapsed() < PATIENCE, "{error}"),
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn input(&mut self) -> ChildStdin {
        self.0.stdin.take().unwrap()
    }
}

/// Until it is open, or has data.
fn go_on(
    session: &mut Session,
    stream: &mut TcpStream,
    until: impl Fn(&Session) -> bool,
) -> Result<(), Fault> {
    loop {
        stream.write_all(session.outgoing().as_ref()).unwrap();
        if until(session) {
            return Ok(());
        }
        let mut bytes = [0; 1000];
        let count = stream.read(&mut bytes).unwrap();
        assert!(count > 0, "the server left");
        let mut rest = &bytes[..count];
        while !rest.is_empty() {
            let taken = session.take(rest)?;
            assert!(taken > 0, "data came where none was expected");
            rest = &rest[taken..];
        }
    }
}

fn open(key: &str, identity: &str, stream: &mut TcpStream) -> Result<Session, Fault> {
    let mut secrets = Secrets::parse(&format!("{} {key} {identity}", "5a".repeat(32))).unwrap();
    let mut session = Session::new(&mut secrets).unwrap();
    go_on(&mut session, stream, Session::is_open)?;
    Ok(session)
}

#[test]
fn data_go_both_ways_with_openssl() {
    let Some(mut server) = Server::start(&[]) else { return };
    let (mut stream, mut input) = (server.stream(), server.input());
    let mut session = open(KEY, "web", &mut stream).unwrap();
    input.write_all(b"hello\n").unwrap();
    go_on(&mut session, &mut stream, |session| !session.data().is_empty()).unwrap();
    assert_eq!(session.data(), b"hello\n");
    stream.write_all(session.seal(b"world\n").unwrap()).unwrap();
    let mut said = [0; 6];
    server.0.stdout.take().unwrap().read_exact(&mut said).unwrap();
    assert_eq!(&said, b"world\n");
}

#[test]
fn openssl_refuses_another_key_and_another_identity() {
    let Some(server) = Server::start(&[]) else { return };
    let refused = open(&"22".repeat(32), "web", &mut server.stream()).err();
    assert!(matches!(refused, Some(Fault::Alert(_))), "{refused:?}");
    let refused = open(KEY, "other", &mut server.stream()).err();
    assert!(matches!(refused, Some(Fault::Alert(_))), "{refused:?}");
}
