//! A stateful fake server for host tests. It keeps the protocol's rules unless a test asks it to break
//! one, and it panics when the client breaks one.
#![expect(clippy::expect_used, clippy::panic, reason = "a fake that cannot go on ends its test")]
#![expect(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    reason = "test support: a panic is a verdict"
)]

use crate::wire::{
    CMD_DISC, CMD_FLAG_FUA, CMD_FLAG_NO_HOLE, CMD_FLUSH, CMD_READ, CMD_TRIM, CMD_WRITE, CMD_WRITE_ZEROES,
    EINVAL, EIO, ENOTSUP, EPERM, ESHUTDOWN, FLAG_C_FIXED_NEWSTYLE, FLAG_CAN_MULTI_CONN, FLAG_FIXED_NEWSTYLE,
    FLAG_HAS_FLAGS, FLAG_READ_ONLY, FLAG_SEND_FLUSH, FLAG_SEND_FUA, FLAG_SEND_TRIM, FLAG_SEND_WRITE_ZEROES,
    Fields, INFO_BLOCK_SIZE, INFO_EXPORT, INIT_MAGIC, OPT_ABORT, OPT_GO, OPT_STARTTLS, OPTION_MAGIC,
    OPTION_REPLY_MAGIC, REP_ACK, REP_ERR_POLICY, REP_ERR_TLS_REQD, REP_ERR_UNKNOWN, REP_INFO, REQUEST_BYTES,
    REQUEST_MAGIC, Request, SIMPLE_REPLY_MAGIC,
};
use alloc::collections::VecDeque;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

/// What the server has and says.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// The only export.
    pub name: String,
    /// Its length.
    pub size_bytes: u64,
    /// Transmission flags.
    pub flags: u16,
    /// Minimum and preferred block and largest payload, if it tells them.
    pub block_size: Option<(u32, u32, u32)>,
    /// It says nothing of the export but over TLS, which somebody else has to do ([`Server::is_secure`]).
    pub tls: bool,
}

impl Default for ServerConfig {
    /// A disk of 1 MiB called `disk`, with all that the protocol has for it.
    fn default() -> Self {
        ServerConfig {
            name: "disk".to_string(),
            size_bytes: 1 << 20,
            flags: FLAG_HAS_FLAGS
                | FLAG_SEND_FLUSH
                | FLAG_SEND_FUA
                | FLAG_SEND_TRIM
                | FLAG_SEND_WRITE_ZEROES
                | FLAG_CAN_MULTI_CONN,
            block_size: Some((512, 4096, 32 << 20)),
            tls: false,
        }
    }
}

/// A broken rule.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Misdeed {
    /// The reply carries a cookie that no request had.
    BogusCookie,
    /// The reply is given twice.
    Duplicate,
    /// The reply has another magic number.
    BadMagic,
    /// The server says that it shuts down.
    Shutdown,
    /// It stops answering, without a word.
    Silence,
}

/// How the server serves. The default serves every request at once, in order.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// Requests are kept, and answered last come, first served, once there are so many; 0: at once.
    pub keep: usize,
    /// Every n-th request fails with an error, and does nothing.
    pub fail_every: Option<u64>,
    /// Requests of this kind fail with an error, and do nothing.
    pub fail_kind: Option<u16>,
    /// The reply (counted from 0) at which a rule is broken.
    pub misdeed_at: Option<(u64, Misdeed)>,
}

enum Phase {
    Flags,
    Option,
    Serving,
    Over,
}

/// The server's side of one connection, and its disk.
pub struct Server {
    config: ServerConfig,
    faults: Faults,
    phase: Phase,
    input: Vec<u8>,
    output: VecDeque<u8>,
    kept: Vec<(Request, Vec<u8>)>,
    requests: u64,
    replies: u64,
    silent: bool,
    is_secure: bool,
    /// It takes connections and says nothing at all.
    mute: bool,
    /// What reads see.
    pub cached: Vec<u8>,
    /// What a power cut leaves.
    pub durable: Vec<u8>,
    /// The kinds of requests, as they came.
    pub log: Vec<u16>,
}

impl Server {
    /// A server whose client has just connected.
    #[must_use]
    pub fn new(config: ServerConfig) -> Server {
        let len = usize::try_from(config.size_bytes).expect("memory");
        let mut server = Server {
            config,
            faults: Faults::default(),
            phase: Phase::Flags,
            input: Vec::new(),
            output: VecDeque::new(),
            kept: Vec::new(),
            requests: 0,
            replies: 0,
            silent: false,
            is_secure: false,
            mute: false,
            cached: vec![0; len],
            durable: vec![0; len],
            log: Vec::new(),
        };
        server.reconnect();
        server
    }

    /// The connection is over and the client connects again; the disk stays.
    pub fn reconnect(&mut self) {
        self.phase = Phase::Flags;
        self.silent = self.mute;
        self.is_secure = false;
        self.input.clear();
        self.output.clear();
        self.kept.clear();
        self.put(&INIT_MAGIC.to_be_bytes());
        self.put(&OPTION_MAGIC.to_be_bytes());
        // It could leave zeros out; nobody asks for an export by `NBD_OPT_EXPORT_NAME`.
        self.put(&(FLAG_FIXED_NEWSTYLE | 2).to_be_bytes());
    }

    /// Sets how it serves from now on.
    pub fn set_faults(&mut self, faults: Faults) {
        self.faults = faults;
    }

    /// Replies so far.
    #[must_use]
    pub fn replies(&self) -> u64 {
        self.replies
    }

    /// What it says of the export from the next connection on. Its length stays.
    pub fn set_config(&mut self, config: ServerConfig) {
        self.config = ServerConfig { size_bytes: self.config.size_bytes, ..config };
    }

    /// Its host crashes: what was not flushed is gone.
    pub fn lose_cache(&mut self) {
        self.cached.clone_from(&self.durable);
    }

    /// The export has another length, which the next connection is told.
    pub fn resize(&mut self, size_bytes: u64) {
        let len = usize::try_from(size_bytes).expect("memory");
        self.config.size_bytes = size_bytes;
        self.cached.resize(len, 0);
        self.durable.resize(len, 0);
    }

    /// Whether connections made from now on get no word.
    pub fn set_mute(&mut self, is_mute: bool) {
        self.mute = is_mute;
    }

    /// Whether the client has ended the connection in order.
    #[must_use]
    pub fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Over)
    }

    /// Whether it has agreed to TLS on this connection: what comes after that has to be TLS.
    #[must_use]
    pub fn is_secure(&self) -> bool {
        self.is_secure
    }

    /// Up to `max` bytes that the server sends.
    pub fn send(&mut self, max: usize) -> Vec<u8> {
        let count = max.min(self.output.len());
        self.output.drain(..count).collect()
    }

    /// Takes bytes of the client.
    ///
    /// # Panics
    /// If the client breaks a rule of the protocol.
    pub fn receive(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
        while self.step() {}
    }

    fn put(&mut self, bytes: &[u8]) {
        if !self.silent {
            self.output.extend(bytes);
        }
    }

    fn step(&mut self) -> bool {
        match self.phase {
            Phase::Flags if self.input.len() >= 4 => {
                let flags: Vec<u8> = self.input.drain(..4).collect();
                assert_eq!(flags, FLAG_C_FIXED_NEWSTYLE.to_be_bytes(), "flags");
                self.phase = Phase::Option;
            }
            Phase::Option => return self.option(),
            Phase::Serving => return self.request(),
            Phase::Flags => return false,
            Phase::Over => {
                assert!(self.input.is_empty(), "nothing comes after the end");
                return false;
            }
        }
        true
    }

    fn option(&mut self) -> bool {
        let mut fields = Fields(&self.input);
        if fields.0.len() < 16 {
            return false;
        }
        assert_eq!(fields.u64(), OPTION_MAGIC);
        let (option, len) = (fields.u32(), fields.u32() as usize);
        if fields.0.len() < len {
            return false;
        }
        if option == OPT_ABORT {
            self.phase = Phase::Over;
        } else if option == OPT_STARTTLS {
            assert!(len == 0 && !self.is_secure, "once, and without data");
            self.reply(option, if self.config.tls { REP_ACK } else { REP_ERR_POLICY }, &[]);
            self.is_secure = self.config.tls;
        } else if self.config.tls && !self.is_secure {
            self.reply(option, REP_ERR_TLS_REQD, &[]);
        } else {
            assert_eq!(option, OPT_GO, "an option");
            let name_len = fields.u32() as usize;
            let name = fields.0[..name_len].to_vec();
            let mut questions = Fields(&fields.0[name_len..len - 4]);
            assert_eq!((questions.u16(), questions.u16()), (1, INFO_BLOCK_SIZE));
            assert!(questions.0.is_empty());
            self.go(&name);
        }
        self.input.drain(..16 + len);
        true
    }

    fn go(&mut self, name: &[u8]) {
        if name != self.config.name.as_bytes() {
            return self.reply_to_go(REP_ERR_UNKNOWN, b"no such export");
        }
        // One that a client does not know.
        self.reply_to_go(REP_INFO, &[&2u16.to_be_bytes()[..], b"a disk"].concat());
        if let Some((min, preferred, max)) = self.config.block_size {
            let numbers = [min.to_be_bytes(), preferred.to_be_bytes(), max.to_be_bytes()].concat();
            self.reply_to_go(REP_INFO, &[&INFO_BLOCK_SIZE.to_be_bytes()[..], &numbers].concat());
        }
        let size = self.config.size_bytes.to_be_bytes();
        let flags = self.config.flags.to_be_bytes();
        self.reply_to_go(REP_INFO, &[&INFO_EXPORT.to_be_bytes()[..], &size, &flags].concat());
        self.reply_to_go(REP_ACK, &[]);
        self.phase = Phase::Serving;
    }

    fn reply_to_go(&mut self, kind: u32, data: &[u8]) {
        self.reply(OPT_GO, kind, data);
    }

    fn reply(&mut self, option: u32, kind: u32, data: &[u8]) {
        let len = u32::try_from(data.len()).expect("short");
        self.put(&OPTION_REPLY_MAGIC.to_be_bytes());
        for field in [option, kind, len] {
            self.put(&field.to_be_bytes());
        }
        self.put(data);
    }

    fn request(&mut self) -> bool {
        let mut fields = Fields(&self.input);
        if fields.0.len() < REQUEST_BYTES {
            return false;
        }
        assert_eq!(fields.u32(), REQUEST_MAGIC, "a request");
        let (flags, kind, cookie) = (fields.u16(), fields.u16(), fields.u64());
        let (offset, len_bytes) = (fields.u64(), fields.u32());
        let data_len = if kind == CMD_WRITE { len_bytes as usize } else { 0 };
        if fields.0.len() < data_len {
            return false;
        }
        let data = fields.0[..data_len].to_vec();
        self.input.drain(..REQUEST_BYTES + data_len);
        self.log.push(kind);
        if kind == CMD_DISC {
            assert_eq!((flags, offset, len_bytes), (0, 0, 0));
            self.phase = Phase::Over;
            return true;
        }
        self.kept.push((Request { flags, kind, cookie, offset, len_bytes }, data));
        if self.kept.len() >= self.faults.keep {
            self.release();
        }
        true
    }

    /// Answers the first that is kept.
    pub fn release_one(&mut self) {
        if !self.kept.is_empty() {
            let (request, data) = self.kept.remove(0);
            self.serve(request, &data);
        }
    }

    /// Answers the last that is kept.
    pub fn release_last(&mut self) {
        if let Some((request, data)) = self.kept.pop() {
            self.serve(request, &data);
        }
    }

    /// Answers what is kept.
    pub fn release(&mut self) {
        while let Some((request, data)) = self.kept.pop() {
            self.serve(request, &data);
        }
    }

    fn serve(&mut self, request: Request, data: &[u8]) {
        self.requests += 1;
        let fails = self.faults.fail_every.is_some_and(|every| self.requests.is_multiple_of(every))
            || self.faults.fail_kind == Some(request.kind);
        let result = if fails { Err(EIO) } else { self.execute(request, data) };
        let misdeed =
            self.faults.misdeed_at.filter(|(at, _)| *at == self.replies).map(|(_, misdeed)| misdeed);
        self.replies += 1;
        let (mut magic, mut cookie) = (SIMPLE_REPLY_MAGIC, request.cookie);
        let (mut error, mut data) = match result {
            Ok(data) => (0, data),
            Err(error) => (error, Vec::new()),
        };
        match misdeed {
            Some(Misdeed::BogusCookie) => cookie ^= 1 << 40,
            Some(Misdeed::BadMagic) => magic ^= 1,
            Some(Misdeed::Shutdown) => (error, data) = (ESHUTDOWN, Vec::new()),
            Some(Misdeed::Silence) => self.silent = true,
            Some(Misdeed::Duplicate) | None => {}
        }
        let reply = [&magic.to_be_bytes()[..], &error.to_be_bytes(), &cookie.to_be_bytes(), &data].concat();
        self.put(&reply);
        if misdeed == Some(Misdeed::Duplicate) {
            self.put(&reply);
        }
    }

    /// What the request asks for; the data of a read.
    fn execute(&mut self, request: Request, data: &[u8]) -> Result<Vec<u8>, u32> {
        let Request { flags, kind, offset, len_bytes, .. } = request;
        let can = |flag: u16| self.config.flags & flag != 0;
        let allowed = if kind == CMD_WRITE_ZEROES { CMD_FLAG_FUA | CMD_FLAG_NO_HOLE } else { CMD_FLAG_FUA };
        assert!(flags & !allowed == 0 && (flags & CMD_FLAG_FUA == 0 || can(FLAG_SEND_FUA)), "flags");
        if kind == CMD_FLUSH {
            assert_eq!((flags, offset, len_bytes), (0, 0, 0));
            assert!(can(FLAG_SEND_FLUSH), "a flush");
            self.durable.clone_from(&self.cached);
            return Ok(Vec::new());
        }
        let (min, _, max) = self.config.block_size.unwrap_or((512, 4096, 32 << 20));
        let whole = offset.is_multiple_of(min.into()) && len_bytes.is_multiple_of(min) && len_bytes > 0;
        let range = usize::try_from(offset).expect("memory");
        let range = range..range + len_bytes as usize;
        if !whole || range.end > self.cached.len() {
            return Err(EINVAL);
        }
        if kind != CMD_READ && can(FLAG_READ_ONLY) {
            return Err(EPERM);
        }
        match kind {
            CMD_READ if len_bytes <= max => return Ok(self.cached[range].to_vec()),
            CMD_WRITE if len_bytes <= max => self.cached[range.clone()].copy_from_slice(data),
            // What is trimmed reads as anything.
            CMD_TRIM if can(FLAG_SEND_TRIM) => self.cached[range.clone()].fill(0xd5),
            CMD_WRITE_ZEROES if can(FLAG_SEND_WRITE_ZEROES) => self.cached[range.clone()].fill(0),
            CMD_READ | CMD_WRITE => panic!("a payload of {len_bytes} bytes"),
            _ => return Err(ENOTSUP),
        }
        if flags & CMD_FLAG_FUA != 0 {
            self.durable[range.clone()].copy_from_slice(&self.cached[range]);
        }
        Ok(Vec::new())
    }
}
