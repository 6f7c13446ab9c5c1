//! A client of the running xenstored.

use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use xen_pv_sys::io::xs_wire::{
    XS_DIRECTORY, XS_ERROR, XS_READ, XS_RM, XS_TRANSACTION_END, XS_TRANSACTION_START, XS_UNWATCH, XS_WATCH,
    XS_WATCH_EVENT, XS_WRITE,
};

use zeroize::Zeroize;

use super::store::Store;
use super::wire::{Message, XS_DIRECTORY_PART, XS_SET_PERMS, strings};

/// xenstored answers from memory; one that takes longer than this is stuck.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Tries of a transaction that others keep disturbing.
const TRANSACTION_TRIES: u32 = 50;
/// A listing longer than this many bytes is not believed.
const LIST_MAX: usize = 1 << 20;

/// What arrives without being asked for.
#[derive(Debug)]
pub enum Event {
    /// Something changed at or below a watched path.
    Changed {
        /// The path that changed.
        path: String,
        /// The token the watch was set with.
        token: String,
    },
    /// The connection broke; nothing more will come.
    Lost(String),
}

/// A connection; shared by all threads, one request at a time.
pub struct Client {
    line: Mutex<Line>,
}

struct Line {
    stream: Box<dyn Write + Send>,
    answers: Receiver<Message>,
    last_id: u32,
}

/// Why a request failed: xenstored's error name (such as `ENOENT`), or no answer at all.
enum Failure {
    Refused(String),
    Broken(anyhow::Error),
}

impl From<Failure> for anyhow::Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Refused(name) => anyhow!("xenstored says {name}"),
            Failure::Broken(error) => error,
        }
    }
}

impl Client {
    /// Connects by socket, or else through the kernel. `on_event` runs on a thread of its own.
    ///
    /// # Errors
    /// xenstored cannot be reached in either way.
    pub fn connect(on_event: impl FnMut(Event) + Send + 'static) -> Result<Client> {
        let mut tried = Vec::new();
        for socket in ["/run/xenstored/socket", "/var/run/xenstored/socket"] {
            match UnixStream::connect(socket).and_then(|s| Ok((s.try_clone()?, s))) {
                Ok((reader, writer)) => return Ok(Client::over(reader, writer, on_event)),
                Err(e) => tried.push(format!("{socket}: {e}")),
            }
        }
        let device = "/dev/xen/xenbus";
        match OpenOptions::new().read(true).write(true).open(device).and_then(|f| Ok((f.try_clone()?, f))) {
            Ok((reader, writer)) => Ok(Client::over(reader, writer, on_event)),
            Err(e) => {
                tried.push(format!("{device}: {e}"));
                bail!("cannot reach xenstored ({}); is it running, and is this dom0?", tried.join("; "))
            }
        }
    }

    /// A client over any stream to a xenstored.
    fn over(
        reader: impl Read + Send + 'static,
        writer: impl Write + Send + 'static,
        on_event: impl FnMut(Event) + Send + 'static,
    ) -> Client {
        let (sender, answers) = channel();
        std::thread::spawn(move || listen(reader, &sender, on_event));
        Client { line: Mutex::new(Line { stream: Box::new(writer), answers, last_id: 0 }) }
    }

    /// Reports changes at and below `path`; the first report comes at once.
    ///
    /// # Errors
    /// xenstored refuses, or does not answer.
    pub fn watch(&self, path: &str, token: &str) -> Result<()> {
        self.request(XS_WATCH, 0, &[path, token], None).map_err(anyhow::Error::from)?;
        Ok(())
    }

    /// Makes a node readable and writable by dom0 alone.
    ///
    /// # Errors
    /// xenstored refuses, or does not answer.
    pub fn make_private(&self, path: &str) -> Result<()> {
        self.request(XS_SET_PERMS, 0, &[path, "n0"], None)
            .map_err(anyhow::Error::from)
            .with_context(|| format!("set permissions of {path}"))?;
        Ok(())
    }

    /// Sends `strings` (each NUL-terminated) and `tail`; returns the answer's payload.
    fn request(
        &self,
        kind: u32,
        transaction: u32,
        strings: &[&str],
        tail: Option<&str>,
    ) -> Result<Vec<u8>, Failure> {
        let mut payload = Vec::new();
        for s in strings {
            payload.extend_from_slice(s.as_bytes());
            payload.push(0);
        }
        payload.extend_from_slice(tail.unwrap_or_default().as_bytes());

        let mut line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        line.last_id = line.last_id.wrapping_add(1);
        let id = line.last_id;
        let mut message = Message { kind, id, transaction, payload };
        let written = message.write_to(&mut *line.stream);
        // It may be a key.
        message.payload.zeroize();
        written.map_err(|e| Failure::Broken(anyhow!("xenstore: {e}")))?;
        loop {
            let answer = line.answers.recv_timeout(ANSWER_TIMEOUT).map_err(|e| {
                Failure::Broken(match e {
                    RecvTimeoutError::Timeout => anyhow!("xenstored does not answer"),
                    RecvTimeoutError::Disconnected => anyhow!("xenstored closed the connection"),
                })
            })?;
            if answer.id != id {
                continue; // The late answer of a request that was given up.
            }
            if answer.kind == XS_ERROR {
                let name = super::wire::strings(&answer.payload).join(" ");
                return Err(Failure::Refused(name));
            }
            return Ok(answer.payload);
        }
    }

    /// Reads inside or outside a transaction.
    fn read_in(&self, transaction: u32, path: &str) -> Result<Option<String>> {
        match self.request(XS_READ, transaction, &[path], None) {
            Ok(value) => Ok(Some(String::from_utf8_lossy(&value).into_owned())),
            Err(Failure::Refused(name)) if name == "ENOENT" => Ok(None),
            Err(e) => Err(anyhow::Error::from(e).context(format!("read {path}"))),
        }
    }

    /// Does `work` in a transaction, again whenever somebody else came in between. `work` says
    /// whether it has changed anything, which is returned.
    fn transaction(&self, path: &str, work: &dyn Fn(u32) -> Result<bool>) -> Result<bool> {
        for _ in 0..TRANSACTION_TRIES {
            let started = self.request(XS_TRANSACTION_START, 0, &[""], None).map_err(anyhow::Error::from)?;
            let id: u32 = strings(&started)
                .first()
                .and_then(|s| s.parse().ok())
                .context("xenstored's transaction id")?;
            let changed = match work(id) {
                Ok(changed) => changed,
                Err(e) => {
                    // Nothing to keep; the error that led here matters more than one from the end.
                    drop(self.request(XS_TRANSACTION_END, id, &["F"], None));
                    return Err(e);
                }
            };
            // Nothing to commit means nothing that others could have disturbed.
            match self.request(XS_TRANSACTION_END, id, &[if changed { "T" } else { "F" }], None) {
                Ok(_) => return Ok(changed),
                Err(Failure::Refused(name)) if name == "EAGAIN" => {}
                Err(e) => return Err(e.into()),
            }
        }
        bail!("change {path}: others keep changing xenstore")
    }

    /// A listing that is too long for one message.
    fn list_in_parts(&self, path: &str) -> Result<Vec<String>, Failure> {
        let mut generation = String::new();
        let (mut names, mut offset) = (Vec::new(), 0_usize);
        while offset < LIST_MAX {
            let part = self.request(XS_DIRECTORY_PART, 0, &[path, &offset.to_string()], None)?;
            let mut parts = part.splitn(2, |b| *b == 0);
            let seen = String::from_utf8_lossy(parts.next().unwrap_or_default()).into_owned();
            let children = parts.next().unwrap_or_default();
            if offset > 0 && seen != generation {
                (names, offset) = (Vec::new(), 0); // It changed meanwhile: from the start.
                continue;
            }
            generation = seen;
            let whole = strings(children);
            let last = children.is_empty() || whole.last().is_some_and(String::is_empty);
            offset += children.len();
            names.extend(whole.into_iter().filter(|s| !s.is_empty()));
            if last {
                return Ok(names);
            }
        }
        Err(Failure::Broken(anyhow!("listing of {path} does not end")))
    }
}

impl Store for Client {
    fn watch(&self, path: &str) -> Result<()> {
        Client::watch(self, path, "")
    }

    fn unwatch(&self, path: &str) -> Result<()> {
        self.request(XS_UNWATCH, 0, &[path, ""], None)
            .map_err(anyhow::Error::from)
            .with_context(|| format!("unwatch {path}"))?;
        Ok(())
    }

    fn read(&self, path: &str) -> Result<Option<String>> {
        self.read_in(0, path)
    }

    fn list(&self, path: &str) -> Result<Vec<String>> {
        let listed = match self.request(XS_DIRECTORY, 0, &[path], None) {
            Err(Failure::Refused(name)) if name == "E2BIG" => self.list_in_parts(path),
            other => other.map(|payload| strings(&payload)),
        };
        match listed {
            Ok(names) => Ok(names),
            Err(Failure::Refused(name)) if name == "ENOENT" => Ok(Vec::new()),
            Err(e) => Err(anyhow::Error::from(e).context(format!("list {path}"))),
        }
    }

    fn write(&self, path: &str, value: &str) -> Result<()> {
        self.request(XS_WRITE, 0, &[path], Some(value))
            .map_err(anyhow::Error::from)
            .with_context(|| format!("write {path}"))?;
        Ok(())
    }

    fn write_for(&self, reader: u16, path: &str, value: &str) -> Result<()> {
        let reader = format!("r{reader}");
        // At once, so that there is no moment at which others can read it. dom0 owns it, others get nothing.
        self.transaction(path, &|id| {
            let request = |kind, strings: &[&str], tail| {
                self.request(kind, id, strings, tail)
                    .map_err(|e| anyhow::Error::from(e).context(format!("write {path}")))
            };
            request(XS_WRITE, &[path], Some(value))?;
            request(XS_SET_PERMS, &[path, "n0", &reader], None)?;
            Ok(true)
        })?;
        Ok(())
    }

    fn remove(&self, path: &str) -> Result<()> {
        match self.request(XS_RM, 0, &[path], None) {
            Ok(_) => Ok(()),
            Err(Failure::Refused(name)) if name == "ENOENT" => Ok(()),
            Err(e) => Err(anyhow::Error::from(e).context(format!("remove {path}"))),
        }
    }

    fn remove_if_empty(&self, path: &str) -> Result<bool> {
        self.transaction(path, &|id| {
            let empty = match self.request(XS_DIRECTORY, id, &[path], None) {
                Ok(children) => children.is_empty(),
                // Absent, or with more children than one answer holds.
                Err(Failure::Refused(name)) if name == "ENOENT" || name == "E2BIG" => false,
                Err(e) => return Err(anyhow::Error::from(e).context(format!("list {path}"))),
            };
            if empty {
                self.request(XS_RM, id, &[path], None)
                    .map_err(|e| anyhow::Error::from(e).context(format!("remove {path}")))?;
            }
            Ok(empty)
        })
    }

    fn write_if(&self, (guard, expected): (&str, &str), nodes: &[(&str, &str)]) -> Result<bool> {
        self.transaction(guard, &|id| {
            if self.read_in(id, guard)?.as_deref() != Some(expected) {
                return Ok(false);
            }
            for (path, value) in nodes {
                self.request(XS_WRITE, id, &[path], Some(value))
                    .map_err(|e| anyhow::Error::from(e).context(format!("write {path}")))?;
            }
            Ok(true)
        })
    }

    fn update(&self, path: &str, new: &dyn Fn(&str) -> Option<&'static str>) -> Result<bool> {
        self.transaction(path, &|id| {
            let Some(value) = self.read_in(id, path)?.and_then(|old| new(&old)) else { return Ok(false) };
            self.request(XS_WRITE, id, &[path], Some(value))
                .map_err(|e| anyhow::Error::from(e).context(format!("write {path}")))?;
            Ok(true)
        })
    }
}

/// Sorts what xenstored sends into answers and events, until the stream ends.
fn listen(mut reader: impl Read, answers: &Sender<Message>, mut on_event: impl FnMut(Event)) {
    loop {
        match Message::read_from(&mut reader) {
            Ok(message) if message.kind == XS_WATCH_EVENT => {
                let mut words = strings(&message.payload).into_iter();
                let (path, token) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
                on_event(Event::Changed { path, token });
            }
            Ok(message) => {
                if answers.send(message).is_err() {
                    return; // The client was dropped.
                }
            }
            Err(e) => return on_event(Event::Lost(e.to_string())),
        }
    }
}

#[cfg(test)]
mod tests;
