//! The parts of a negotiation, and an honest one.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;

use ::nbd::wire::{
    FLAG_FIXED_NEWSTYLE, FLAG_HAS_FLAGS, FLAG_SEND_FLUSH, INFO_BLOCK_SIZE, INFO_EXPORT, INIT_MAGIC, OPT_GO,
    OPTION_MAGIC, OPTION_REPLY_MAGIC, REP_ACK, REP_INFO,
};

use super::{DISK_BYTES, Then};

/// The honest length of the export.
pub const SIZE: u64 = DISK_BYTES as u64;
/// The honest transmission flags.
pub const FLAGS: u16 = FLAG_HAS_FLAGS | FLAG_SEND_FLUSH;
/// The honest largest payload.
pub const PAYLOAD: u32 = 32 << 20;

/// A greeting.
pub fn greeting(init: u64, option: u64, flags: u16) -> Vec<u8> {
    [&init.to_be_bytes()[..], &option.to_be_bytes(), &flags.to_be_bytes()].concat()
}

/// The honest one. No zeros follow in any case (`NBD_FLAG_NO_ZEROES`).
pub fn good_greeting() -> Vec<u8> {
    greeting(INIT_MAGIC, OPTION_MAGIC, FLAG_FIXED_NEWSTYLE | 2)
}

/// The head of a reply to an option.
pub fn head(magic: u64, option: u32, kind: u32, len: u32) -> Vec<u8> {
    [&magic.to_be_bytes()[..], &option.to_be_bytes(), &kind.to_be_bytes(), &len.to_be_bytes()].concat()
}

/// A reply to the client's option.
pub fn answer(kind: u32, data: &[u8]) -> Vec<u8> {
    let len = u32::try_from(data.len()).unwrap_or(u32::MAX);
    [head(OPTION_REPLY_MAGIC, OPT_GO, kind, len), data.to_vec()].concat()
}

/// What the export is.
pub fn export(size: u64, flags: u16) -> Vec<u8> {
    answer(REP_INFO, &[&INFO_EXPORT.to_be_bytes()[..], &size.to_be_bytes(), &flags.to_be_bytes()].concat())
}

/// Its blocks.
pub fn blocks(min: u32, preferred: u32, payload: u32) -> Vec<u8> {
    let numbers = [min.to_be_bytes(), preferred.to_be_bytes(), payload.to_be_bytes()].concat();
    answer(REP_INFO, &[&INFO_BLOCK_SIZE.to_be_bytes()[..], &numbers].concat())
}

/// The end of the negotiation.
pub fn ack() -> Vec<u8> {
    answer(REP_ACK, &[])
}

/// The honest reply to the client's option.
pub fn good_answer() -> Vec<u8> {
    [export(SIZE, FLAGS), blocks(512, 4096, PAYLOAD), ack()].concat()
}

/// Greets, takes the client's flags and its option.
pub fn opened(stream: &mut TcpStream) -> io::Result<()> {
    stream.write_all(&good_greeting())?;
    take_option(stream)
}

/// Takes the client's flags and its option.
pub fn take_option(stream: &mut TcpStream) -> io::Result<()> {
    let mut opening = [0; 20];
    stream.read_exact(&mut opening)?;
    let len = opening.last_chunk().map_or(0, |len| u32::from_be_bytes(*len));
    if len > 4096 {
        return Err(ErrorKind::InvalidData.into());
    }
    let mut data = vec![0; usize::try_from(len).unwrap_or(0)];
    stream.read_exact(&mut data)
}

/// Greets and answers with these parts.
pub fn with(stream: &mut TcpStream, parts: &[Vec<u8>]) -> io::Result<()> {
    opened(stream)?;
    stream.write_all(&parts.concat())
}

/// The honest negotiation.
pub fn honest(stream: &mut TcpStream) -> io::Result<Then> {
    with(stream, &[good_answer()])?;
    Ok(Then::Serve)
}
