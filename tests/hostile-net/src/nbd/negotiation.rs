//! Attacks by the negotiation. Each begins with a connection that ends; the client comes again and meets this.

use std::io::{self, Write};
use std::net::{Shutdown, TcpStream};
use std::thread::sleep;
use std::time::{Duration, Instant};

use ::nbd::wire::{
    FLAG_HAS_FLAGS, FLAG_READ_ONLY, INIT_MAGIC, OLDSTYLE_MAGIC, OPT_GO, OPTION_MAGIC, OPTION_REPLY_MAGIC,
    REP_ACK, REP_ERR_POLICY, REP_ERR_SHUTDOWN, REP_ERR_TLS_REQD, REP_FLAG_ERROR, REP_INFO,
};

use super::offer::{
    FLAGS, PAYLOAD, SIZE, ack, answer, blocks, export, good_answer, good_greeting, greeting, head, opened,
    take_option, with,
};
use super::{Attack, Lie, Server, Then, Trouble};

/// The attacks.
pub const NEGOTIATION: &[Attack] = &[
    Attack {
        name: "greeting-magic",
        tries: "a greeting that is not NBD's",
        run: |server| server.lie(|client| greet(client, 0x4e42_444d_4147_4944, OPTION_MAGIC, 1), 1),
    },
    Attack {
        name: "greeting-second-magic",
        tries: "a greeting with another second number",
        run: |server| server.lie(|client| greet(client, INIT_MAGIC, !OPTION_MAGIC, 1), 1),
    },
    Attack {
        name: "greeting-oldstyle",
        tries: "the greeting of an oldstyle server",
        run: |server| server.lie(|client| greet(client, INIT_MAGIC, OLDSTYLE_MAGIC, 1), 1),
    },
    Attack {
        name: "greeting-no-flags",
        tries: "a server that knows no fixed newstyle",
        run: |server| server.lie(|client| greet(client, INIT_MAGIC, OPTION_MAGIC, 0), 1),
    },
    Attack { name: "greeting-all-flags", tries: "every flag in the greeting", run: all_flags },
    Attack {
        name: "greeting-cut",
        tries: "a greeting that ends one byte early",
        run: |server| server.lie(greeting_cut, 1),
    },
    Attack {
        name: "greeting-by-bytes",
        tries: "the greeting and all replies one byte at a time",
        run: |server| server.lie(by_bytes, 1),
    },
    Attack { name: "another-protocol", tries: "a web server's answer", run: |server| server.lie(web, 1) },
    Attack {
        name: "junk-before-greeting",
        tries: "a megabyte of junk before the greeting, twice",
        run: |server| server.lie(junk, 2),
    },
    Attack {
        name: "greeting-then-silence",
        tries: "a server that greets, takes the option and says nothing more",
        run: |server| server.lie(silent, 1),
    },
    Attack {
        name: "answers-before-asked",
        tries: "all of the negotiation before the client has said a word",
        run: |server| server.lie(before_asked, 1),
    },
    Attack {
        name: "half-closed",
        tries: "the server's half is closed after the greeting",
        run: |server| server.lie(half_closed, 1),
    },
    Attack {
        name: "reset-amid-negotiation",
        tries: "a connection that is reset with the option unread",
        run: |server| server.lie(reset_amid, 3),
    },
    Attack {
        name: "reply-magic",
        tries: "a reply to the option with another magic number",
        run: |server| server.lie(|client| refused(client, &[head(1, OPT_GO, REP_ACK, 0)]), 1),
    },
    Attack {
        name: "reply-to-another-option",
        tries: "a reply to an option that nobody asked for",
        run: |server| server.lie(|client| refused(client, &[head(OPTION_REPLY_MAGIC, 8, REP_ACK, 0)]), 1),
    },
    Attack {
        name: "reply-type",
        tries: "a reply of a type that is none",
        run: |server| server.lie(|client| refused(client, &[answer(0x1234, &[])]), 1),
    },
    Attack {
        name: "error-of-4-gib",
        tries: "an unknown error with a text of 4 GiB",
        run: |server| server.lie(error_text, 1),
    },
    Attack {
        name: "refuses-all",
        tries: "refusals by policy, for want of TLS, and by a shutdown",
        run: |server| {
            server.lie(|client| refused(client, &[answer(REP_ERR_POLICY, b"no")]), 1).and_then(|()| {
                server.lie(|client| refused(client, &[answer(REP_ERR_TLS_REQD, b"no")]), 1)?;
                server.lie(|client| refused(client, &[answer(REP_ERR_SHUTDOWN, b"no")]), 1)
            })
        },
    },
    Attack {
        name: "ack-without-export",
        tries: "the end of the negotiation without an export",
        run: |server| server.lie(|client| refused(client, &[blocks(512, 4096, PAYLOAD), ack()]), 1),
    },
    Attack {
        name: "ack-with-data",
        tries: "an end of the negotiation that has data",
        run: |server| {
            server.lie(|client| refused(client, &[export(SIZE, FLAGS), answer(REP_ACK, b"data")]), 1)
        },
    },
    Attack {
        name: "info-of-no-bytes",
        tries: "an information without its type",
        run: |server| server.lie(|client| refused(client, &[answer(REP_INFO, &[]), good_answer()]), 1),
    },
    Attack {
        name: "info-of-4-gib",
        tries: "an unknown information of 4 GiB",
        run: |server| server.lie(info_without_end, 1),
    },
    Attack {
        name: "infos-without-end",
        tries: "short unknown informations without end",
        run: |server| server.lie(infos_without_end, 1),
    },
    Attack {
        name: "info-lengths",
        tries: "known informations that are too short or too long",
        run: info_lengths,
    },
    Attack {
        name: "infos-twice",
        tries: "two exports that differ, and two sets of blocks",
        run: infos_twice,
    },
    Attack {
        name: "block-0",
        tries: "blocks of no bytes",
        run: |server| {
            bad_blocks(server, |client| {
                refused(client, &[export(SIZE, FLAGS), blocks(0, 4096, PAYLOAD), ack()])
            })
        },
    },
    Attack {
        name: "block-odd",
        tries: "blocks of 513 bytes",
        run: |server| {
            bad_blocks(server, |client| {
                refused(client, &[export(SIZE, FLAGS), blocks(513, 4096, PAYLOAD), ack()])
            })
        },
    },
    Attack {
        name: "block-2-gib",
        tries: "blocks of 2 GiB",
        run: |server| {
            bad_blocks(server, |client| {
                refused(client, &[export(SIZE, FLAGS), blocks(1 << 31, 1 << 31, u32::MAX), ack()])
            })
        },
    },
    Attack {
        name: "block-preferred",
        tries: "preferred blocks below the least",
        run: |server| {
            bad_blocks(server, |client| {
                refused(client, &[export(SIZE, FLAGS), blocks(4096, 512, PAYLOAD), ack()])
            })
        },
    },
    Attack {
        name: "payload-0",
        tries: "no payload at all",
        run: |server| {
            bad_blocks(server, |client| refused(client, &[export(SIZE, FLAGS), blocks(512, 4096, 0), ack()]))
        },
    },
    Attack {
        name: "size-0",
        tries: "an export of no bytes",
        run: |server| {
            server.lie(|client| refused(client, &[export(0, FLAGS), blocks(512, 4096, PAYLOAD), ack()]), 1)
        },
    },
    Attack {
        name: "size-below-a-block",
        tries: "an export of 511 bytes",
        run: |server| {
            server.lie(|client| refused(client, &[export(511, FLAGS), blocks(512, 4096, PAYLOAD), ack()]), 1)
        },
    },
    Attack {
        name: "size-odd",
        tries: "an export that is no whole number of blocks",
        run: |server| sized(server, |client| other_size(client, SIZE + 13)),
    },
    Attack {
        name: "size-2-63",
        tries: "an export of 2^63 bytes",
        run: |server| sized(server, |client| other_size(client, 1 << 63)),
    },
    Attack {
        name: "size-2-64",
        tries: "an export of 2^64 - 1 bytes",
        run: |server| sized(server, |client| other_size(client, u64::MAX)),
    },
    Attack {
        name: "size-shrinks",
        tries: "an export that is half as long after a reconnection",
        run: |server| sized(server, |client| other_size(client, SIZE / 2)),
    },
    Attack {
        name: "no-flags",
        tries: "an export without the flag of flags",
        run: |server| {
            server.lie(|client| refused(client, &[export(SIZE, 0), blocks(512, 4096, PAYLOAD), ack()]), 1)
        },
    },
    Attack {
        name: "read-only-now",
        tries: "an export that is read-only after a reconnection",
        run: |server| {
            server.lie(
                |client| refused(client, &[export(SIZE, FLAGS | FLAG_READ_ONLY | FLAG_HAS_FLAGS), ack()]),
                1,
            )
        },
    },
];

/// A greeting that has to be refused.
fn greet(client: &mut TcpStream, init: u64, option: u64, flags: u16) -> io::Result<Then> {
    client.write_all(&greeting(init, option, flags))?;
    Ok(Then::Refused)
}

/// Replies that have to be refused.
fn refused(client: &mut TcpStream, parts: &[Vec<u8>]) -> io::Result<Then> {
    with(client, parts)?;
    Ok(Then::Refused)
}

fn all_flags(server: &mut Server) -> Result<(), Trouble> {
    sized(server, |client| {
        client.write_all(&greeting(INIT_MAGIC, OPTION_MAGIC, u16::MAX))?;
        take_option(client)?;
        client.write_all(&[export(SIZE, !FLAG_READ_ONLY), ack()].concat())?;
        Ok(Then::Serve)
    })
}

fn greeting_cut(client: &mut TcpStream) -> io::Result<Then> {
    let greeting = good_greeting();
    client.write_all(greeting.get(..greeting.len() - 1).unwrap_or_default())?;
    Ok(Then::End)
}

fn by_bytes(client: &mut TcpStream) -> io::Result<Then> {
    let mut slowly = |bytes: &[u8]| -> io::Result<()> {
        for byte in bytes {
            client.write_all(&[*byte])?;
            sleep(Duration::from_millis(10));
        }
        Ok(())
    };
    slowly(&good_greeting())?;
    slowly(&good_answer())?;
    take_option(client)?;
    Ok(Then::Serve)
}

fn web(client: &mut TcpStream) -> io::Result<Then> {
    client.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")?;
    Ok(Then::Refused)
}

/// Bytes that look like none of the protocol's.
fn noise(bytes: usize) -> Vec<u8> {
    let next = |word: &u32| Some(word.wrapping_mul(1_664_525).wrapping_add(1_013_904_223));
    std::iter::successors(Some(7), next).flat_map(u32::to_be_bytes).take(bytes).collect()
}

fn junk(client: &mut TcpStream) -> io::Result<Then> {
    // It may go before all is sent.
    let _ = client.write_all(&noise(1 << 20));
    let _ = client.write_all(&good_greeting());
    Ok(Then::Refused)
}

fn silent(client: &mut TcpStream) -> io::Result<Then> {
    opened(client)?;
    Ok(Then::Refused)
}

fn before_asked(client: &mut TcpStream) -> io::Result<Then> {
    client.write_all(&[good_greeting(), good_answer()].concat())?;
    take_option(client)?;
    Ok(Then::Serve)
}

fn half_closed(client: &mut TcpStream) -> io::Result<Then> {
    client.write_all(&good_greeting())?;
    client.shutdown(Shutdown::Write)?;
    Ok(Then::Refused)
}

fn reset_amid(client: &mut TcpStream) -> io::Result<Then> {
    client.write_all(&good_greeting())?;
    // Linux resets a connection that is closed with bytes unread.
    client.peek(&mut [0])?;
    Ok(Then::End)
}

/// Sends without end, until the client goes or for some seconds.
fn without_end(client: &mut TcpStream, bytes: &[u8]) -> Then {
    let until = Instant::now() + Duration::from_secs(8);
    while Instant::now() < until && client.write_all(bytes).is_ok() {}
    Then::Refused
}

fn error_text(client: &mut TcpStream) -> io::Result<Then> {
    with(client, &[head(OPTION_REPLY_MAGIC, OPT_GO, REP_FLAG_ERROR | 0x99, u32::MAX)])?;
    Ok(without_end(client, &[b'e'; 4096]))
}

fn info_without_end(client: &mut TcpStream) -> io::Result<Then> {
    with(client, &[head(OPTION_REPLY_MAGIC, OPT_GO, REP_INFO, u32::MAX), vec![0x77; 2]])?;
    Ok(without_end(client, &[b'i'; 4096]))
}

fn infos_without_end(client: &mut TcpStream) -> io::Result<Then> {
    opened(client)?;
    Ok(without_end(client, &answer(REP_INFO, &[0x77; 2]).repeat(200)))
}

fn info_lengths(server: &mut Server) -> Result<(), Trouble> {
    server.lie(|client| refused(client, &[answer(REP_INFO, &[0; 11]), ack()]), 1)?;
    server.lie(|client| refused(client, &[answer(REP_INFO, &[0; 13]), ack()]), 1)?;
    server.lie(|client| refused(client, &[export(SIZE, FLAGS), answer(REP_INFO, &[0, 3, 0, 0])]), 1)
}

fn infos_twice(server: &mut Server) -> Result<(), Trouble> {
    server.lie(|client| refused(client, &[export(SIZE, FLAGS), export(SIZE * 2, FLAGS), ack()]), 1)?;
    let blocks_twice: Lie = |client| {
        let parts = [blocks(512, 4096, PAYLOAD), blocks(4096, 4096, PAYLOAD), export(SIZE, FLAGS), ack()];
        refused(client, &parts)
    };
    server.lie(blocks_twice, 1)
}

fn bad_blocks(server: &mut Server, lie: Lie) -> Result<(), Trouble> {
    server.lie(lie, 1)
}

/// Another length, of which the client may make use for a moment.
fn sized(server: &mut Server, lie: Lie) -> Result<(), Trouble> {
    server.lie(lie, 1)?;
    server.honest_for(Duration::from_millis(500))?;
    server.end();
    Ok(())
}

fn other_size(client: &mut TcpStream, size: u64) -> io::Result<Then> {
    with(client, &[export(size, FLAGS), blocks(512, 4096, PAYLOAD), ack()])?;
    Ok(Then::Serve)
}
