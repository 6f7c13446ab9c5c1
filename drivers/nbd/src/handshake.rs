//! The negotiation: from the server's greeting to the export ("Fixed newstyle negotiation").

use crate::error::Fault;
use crate::export::{BlockSize, Export, Size};
use crate::header::Header;
use crate::wire::{
    FLAG_C_FIXED_NEWSTYLE, FLAG_FIXED_NEWSTYLE, Fields, GREETING_BYTES, INFO_BLOCK_SIZE,
    INFO_BLOCK_SIZE_BYTES, INFO_EXPORT, INFO_EXPORT_BYTES, INIT_MAGIC, OLDSTYLE_MAGIC, OPT_GO, OPT_STARTTLS,
    OPTION_MAGIC, OPTION_REPLY_BYTES, OPTION_REPLY_MAGIC, REP_ACK, REP_FLAG_ERROR, REP_INFO,
};
use core::fmt;

/// Bytes of an export's name at most. The protocol allows 4096, which no command line of a stub has room
/// for.
pub const NAME_MAX_BYTES: usize = 255;
/// Bytes of the longest [`Opening`].
pub const OPENING_MAX_BYTES: usize = 4 + 16 + 4 + NAME_MAX_BYTES + 4;
/// Bytes that a server may send before the export is agreed: some texts of 4096 bytes, which the protocol
/// allows it to add.
const NEGOTIATION_MAX_BYTES: u32 = 64 << 10;

/// What the client sends after the greeting: its flags and the option that the server has to answer next.
pub type Opening = heapless::Vec<u8, OPENING_MAX_BYTES>;

/// The export's name is longer than [`NAME_MAX_BYTES`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct NameTooLong;

impl fmt::Display for NameTooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the export's name has more than {NAME_MAX_BYTES} bytes")
    }
}

impl core::error::Error for NameTooLong {}

/// Whether the connection has to be TLS. There is no way from `Tls` to `Plain`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Security {
    /// It must not.
    Plain,
    /// It has to, before anything is said of an export.
    Tls,
}

/// The option that is under way.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Stage {
    /// `NBD_OPT_STARTTLS`.
    StartTls,
    /// `NBD_OPT_GO`, right behind the client's flags.
    Go,
    /// `NBD_OPT_GO`, over TLS: the server has the flags.
    SecureGo,
}

impl Stage {
    fn option(self) -> u32 {
        if self == Stage::StartTls { OPT_STARTTLS } else { OPT_GO }
    }
}

/// What is expected next.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Part {
    Greeting,
    /// The beginning of a reply to our option.
    Reply,
    /// The type of an information of that length, in bytes.
    InfoType(u32),
    /// The rest of an information, without its type.
    Info(u16, usize),
    /// Bytes of no use.
    Skip(u32),
}

/// What a step led to.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum Progress {
    /// More bytes are needed.
    Wait,
    /// The greeting is over.
    Greeted,
    /// The next byte either way is TLS.
    StartTls,
    Agreed(Export),
}

/// The negotiation so far.
#[derive(Debug)]
pub(crate) struct Handshake {
    name: heapless::String<NAME_MAX_BYTES>,
    stage: Stage,
    part: Part,
    header: Header,
    left_bytes: u32,
    size: Option<Size>,
    blocks: Option<BlockSize>,
}

impl Handshake {
    pub(crate) fn new(name: &str, security: Security) -> Result<Handshake, NameTooLong> {
        Ok(Handshake {
            name: heapless::String::try_from(name).map_err(|_| NameTooLong)?,
            stage: if security == Security::Tls { Stage::StartTls } else { Stage::Go },
            part: Part::Greeting,
            header: Header::default(),
            left_bytes: NEGOTIATION_MAX_BYTES,
            size: None,
            blocks: None,
        })
    }

    /// Whether the server has not greeted yet.
    pub(crate) fn is_before_greeting(&self) -> bool {
        self.part == Part::Greeting
    }

    /// What to send once the server has greeted, and again once there is TLS.
    pub(crate) fn opening(&self) -> Opening {
        let name = self.name.as_bytes();
        // A name's length, the name, the number of questions and one question.
        let (name_len, go_len) = (name.len(), name.len().saturating_add(8));
        let len = |len: usize| u32::try_from(len).unwrap_or(u32::MAX).to_be_bytes();
        let (flags_len, data_len) = match self.stage {
            Stage::StartTls => (4, 0),
            Stage::Go => (4, go_len),
            Stage::SecureGo => (0, go_len),
        };
        let flags = FLAG_C_FIXED_NEWSTYLE.to_be_bytes().into_iter().take(flags_len);
        let option = self.stage.option().to_be_bytes().into_iter().chain(len(data_len));
        let option = OPTION_MAGIC.to_be_bytes().into_iter().chain(option);
        let questions = 1u16.to_be_bytes().into_iter().chain(INFO_BLOCK_SIZE.to_be_bytes());
        let data = len(name_len).into_iter().chain(name.iter().copied()).chain(questions).take(data_len);
        // There is room: the name is not too long.
        flags.chain(option).chain(data).take(OPENING_MAX_BYTES).collect()
    }

    /// Takes of `input` what belongs to the negotiation.
    pub(crate) fn step(&mut self, input: &mut &[u8]) -> Result<Progress, Fault> {
        loop {
            let before = input.len();
            let progress = self.part(input)?;
            let taken = u32::try_from(before.saturating_sub(input.len())).unwrap_or(u32::MAX);
            // However short its parts are, a server that never comes to an end is left.
            self.left_bytes = self.left_bytes.checked_sub(taken).ok_or(Fault::LongNegotiation)?;
            match progress {
                None => {}
                Some(progress) => return Ok(progress),
            }
        }
    }

    /// One part; `None` if another can follow at once.
    fn part(&mut self, input: &mut &[u8]) -> Result<Option<Progress>, Fault> {
        let len = match self.part {
            Part::Greeting => GREETING_BYTES,
            Part::Reply => OPTION_REPLY_BYTES,
            Part::InfoType(_) => size_of::<u16>(),
            Part::Info(_, len) => len,
            Part::Skip(left) => return Ok(self.skip(input, left)),
        };
        let Some(header) = self.header.fill(input, len) else { return Ok(Some(Progress::Wait)) };
        let fields = Fields(&header);
        match self.part {
            Part::Greeting => self.greeting(fields).map(Some),
            Part::Reply => self.reply(fields),
            Part::InfoType(len_bytes) => self.info_type(fields, len_bytes).map(|()| None),
            Part::Info(kind, _) => self.info(fields, kind).map(|()| None),
            Part::Skip(_) => Ok(None),
        }
    }

    fn skip(&mut self, input: &mut &[u8], left: u32) -> Option<Progress> {
        let now = usize::try_from(left).unwrap_or(usize::MAX).min(input.len());
        *input = input.get(now..).unwrap_or_default();
        let left = left.saturating_sub(u32::try_from(now).unwrap_or(u32::MAX));
        self.part = if left == 0 { Part::Reply } else { Part::Skip(left) };
        (left > 0).then_some(Progress::Wait)
    }

    fn greeting(&mut self, mut fields: Fields<'_>) -> Result<Progress, Fault> {
        if fields.u64() != INIT_MAGIC {
            return Err(Fault::NotNbd);
        }
        match fields.u64() {
            OPTION_MAGIC => {}
            OLDSTYLE_MAGIC => return Err(Fault::OldStyle),
            _ => return Err(Fault::NotNbd),
        }
        if fields.u16() & FLAG_FIXED_NEWSTYLE == 0 {
            return Err(Fault::OldStyle);
        }
        self.part = Part::Reply;
        Ok(Progress::Greeted)
    }

    fn reply(&mut self, mut fields: Fields<'_>) -> Result<Option<Progress>, Fault> {
        if fields.u64() != OPTION_REPLY_MAGIC {
            return Err(Fault::BadNegotiation("magic number"));
        }
        if fields.u32() != self.stage.option() {
            return Err(Fault::BadNegotiation("option"));
        }
        let (kind, len_bytes) = (fields.u32(), fields.u32());
        if self.stage == Stage::StartTls {
            return self.start_tls(kind, len_bytes).map(Some);
        }
        match kind {
            REP_ACK if len_bytes == 0 => {
                let size = self.size.ok_or(Fault::BadNegotiation("end: no export"))?;
                Export::new(size, self.blocks).map(|export| Some(Progress::Agreed(export)))
            }
            // It has a type of two bytes at least.
            REP_INFO if len_bytes >= 2 => {
                self.part = Part::InfoType(len_bytes);
                Ok(None)
            }
            REP_ACK | REP_INFO => Err(Fault::BadNegotiation("length")),
            // Its text, if it has one, is not read: the connection is over.
            kind if kind & REP_FLAG_ERROR != 0 => Err(Fault::Refused(kind)),
            _ => Err(Fault::BadNegotiation("reply type")),
        }
    }

    /// Whatever is not a yes ends the connection: it is never used without TLS.
    fn start_tls(&mut self, kind: u32, len_bytes: u32) -> Result<Progress, Fault> {
        match kind {
            REP_ACK if len_bytes == 0 => {
                self.stage = Stage::SecureGo;
                Ok(Progress::StartTls)
            }
            REP_ACK => Err(Fault::BadNegotiation("length")),
            kind if kind & REP_FLAG_ERROR != 0 => Err(Fault::NoTls(kind)),
            _ => Err(Fault::BadNegotiation("reply type")),
        }
    }

    fn info_type(&mut self, mut fields: Fields<'_>, len_bytes: u32) -> Result<(), Fault> {
        let kind = fields.u16();
        let expected = match kind {
            INFO_EXPORT => INFO_EXPORT_BYTES,
            INFO_BLOCK_SIZE => INFO_BLOCK_SIZE_BYTES,
            // A client has to ignore what it does not know.
            _ => {
                let left = len_bytes.saturating_sub(2);
                self.part = if left == 0 { Part::Reply } else { Part::Skip(left) };
                return Ok(());
            }
        };
        if usize::try_from(len_bytes) != Ok(expected) {
            return Err(Fault::BadNegotiation("length"));
        }
        self.part = Part::Info(kind, expected.saturating_sub(2));
        Ok(())
    }

    fn info(&mut self, mut fields: Fields<'_>, kind: u16) -> Result<(), Fault> {
        // Twice the same is not forbidden, but which of them would hold?
        let twice = if kind == INFO_EXPORT {
            self.size.replace(Size { bytes: fields.u64(), flags: fields.u16() }).is_some()
        } else {
            let (min, preferred, max_payload) = (fields.u32(), fields.u32(), fields.u32());
            self.blocks.replace(BlockSize { min, preferred, max_payload }).is_some()
        };
        if twice {
            return Err(Fault::BadNegotiation("information, given twice"));
        }
        self.part = Part::Reply;
        Ok(())
    }
}
