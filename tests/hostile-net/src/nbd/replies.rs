//! Attacks by replies to requests. Each begins on a connection that works.

use std::time::Duration;

use ::nbd::wire::{
    CMD_READ, CMD_WRITE, EINVAL, EIO, ENOSPC, ENOTSUP, EOVERFLOW, EPERM, ESHUTDOWN, SIMPLE_REPLY_MAGIC,
};

use super::{Attack, Server, Trouble, reply, reply_like};

/// The magic number of a structured reply's chunk.
const STRUCTURED_MAGIC: u32 = 0x668e_33ef;
/// That of an extended one.
const EXTENDED_MAGIC: u32 = 0x6e8a_278c;
/// Longer than the disk file's timeout in the scenario.
const BEYOND_TIMEOUT: Duration = Duration::from_secs(5);

/// The attacks.
pub const REPLIES: &[Attack] = &[
    Attack { name: "wrong-cookie", tries: "a reply to a request that never was", run: wrong_cookie },
    Attack { name: "cookie-of-all-ones", tries: "a cookie of all ones", run: all_ones },
    Attack { name: "cookie-of-before", tries: "the cookie of a request that is over", run: old_cookie },
    Attack { name: "answered-twice", tries: "two replies to one request", run: answered_twice },
    Attack { name: "answers-nobody-asked", tries: "a reply before any request", run: nobody_asked },
    Attack {
        name: "answered-over-the-next",
        tries: "the reply to a request comes over the next connection",
        run: over_the_next,
    },
    Attack {
        name: "wrong-magic",
        tries: "a reply with another magic number",
        run: |server| with_magic(server, !SIMPLE_REPLY_MAGIC),
    },
    Attack {
        name: "structured-reply",
        tries: "a structured reply, which was not agreed",
        run: |server| with_magic(server, STRUCTURED_MAGIC),
    },
    Attack {
        name: "extended-reply",
        tries: "an extended reply, which was not agreed",
        run: |server| with_magic(server, EXTENDED_MAGIC),
    },
    Attack {
        name: "data-too-long",
        tries: "512 bytes more than a read asks for",
        run: |server| read_answered_with(server, |data| data.resize(data.len() + 512, 0x5a)),
    },
    Attack {
        name: "data-far-too-long",
        tries: "4 MiB more than a read asks for",
        run: |server| read_answered_with(server, |data| data.resize(4 << 20, 0x5a)),
    },
    Attack { name: "data-cut", tries: "half of a read's data, and the end", run: data_cut },
    Attack {
        name: "data-late",
        tries: "half of a read's data, and the rest when the request has failed",
        run: data_late,
    },
    Attack {
        name: "reply-in-data",
        tries: "half of a read's data, and another reply in the place of the rest",
        run: |server| read_answered_with(server, reply_within),
    },
    Attack { name: "data-after-write", tries: "data behind the reply to a write", run: data_after_write },
    Attack { name: "data-after-error", tries: "data behind the error of a read", run: data_after_error },
    Attack { name: "data-of-lies", tries: "reads that return something else", run: lying_data },
    Attack { name: "writes-forgotten", tries: "writes that are answered and not done", run: forgotten },
    Attack {
        name: "errors",
        tries: "each error of the protocol",
        run: |server| fails(server, &[EPERM, EIO, 12, EINVAL, ENOSPC]),
    },
    Attack {
        name: "errors-that-are-none",
        tries: "error numbers that are none",
        run: |server| fails(server, &[u32::MAX, 1 << 31, 12_345, 0xff00]),
    },
    Attack {
        name: "unsupported",
        tries: "reads and writes are said to be unknown or too long",
        run: |server| fails(server, &[ENOTSUP, EOVERFLOW, ENOTSUP, EOVERFLOW]),
    },
    Attack {
        name: "shutting-down",
        tries: "a shutdown is said and does not come",
        run: |server| fails(server, &[ESHUTDOWN, ESHUTDOWN]),
    },
    Attack {
        name: "never-answered",
        tries: "one request is never answered, the others are",
        run: |server| server.victim().map(drop),
    },
    Attack { name: "silence", tries: "nothing is answered for longer than the timeout", run: silence },
];

fn wrong_cookie(server: &mut Server) -> Result<(), Trouble> {
    let (request, _) = server.victim()?;
    server.send(&reply(0, request.cookie ^ 0x5a));
    Ok(())
}

fn all_ones(server: &mut Server) -> Result<(), Trouble> {
    server.victim()?;
    server.send(&reply(0, u64::MAX));
    Ok(())
}

fn old_cookie(server: &mut Server) -> Result<(), Trouble> {
    let (first, data) = server.victim()?;
    server.serve(&first, &data);
    let (request, data) = server.victim()?;
    server.serve(&request, &data);
    server.victim()?;
    server.send(&reply(0, first.cookie));
    Ok(())
}

fn answered_twice(server: &mut Server) -> Result<(), Trouble> {
    let (request, data) = server.victim_of(CMD_WRITE)?;
    server.serve(&request, &data);
    server.send(&reply(0, request.cookie));
    Ok(())
}

fn nobody_asked(server: &mut Server) -> Result<(), Trouble> {
    server.lie(
        |client| {
            let then = super::offer::honest(client)?;
            std::io::Write::write_all(client, &reply(0, 0))?;
            Ok(then)
        },
        1,
    )
}

fn over_the_next(server: &mut Server) -> Result<(), Trouble> {
    let (request, _) = server.victim_of(CMD_READ)?;
    server.end();
    server.victim()?;
    // What was read over the first connection would be this.
    let data = vec![0x5a; usize::try_from(request.len_bytes).unwrap_or(0)];
    server.send(&[reply(0, request.cookie | 1 << 32), data].concat());
    Ok(())
}

fn with_magic(server: &mut Server, magic: u32) -> Result<(), Trouble> {
    let (request, _) = server.victim()?;
    // As long as a whole chunk of no data would be.
    server.send(&[reply_like(magic, 0, request.cookie), vec![0; 16]].concat());
    Ok(())
}

/// Answers a read with data that were changed.
fn read_answered_with(server: &mut Server, change: fn(&mut Vec<u8>)) -> Result<(), Trouble> {
    let (request, data) = server.victim_of(CMD_READ)?;
    let mut answer =
        server.work(&request, &data).map_err(|error| Trouble::NotMade(format!("error {error}")))?;
    change(&mut answer);
    server.send(&[reply(0, request.cookie), answer].concat());
    Ok(())
}

/// Half of the data that a read asks for, behind its reply; the other half.
fn half_answered(server: &mut Server) -> Result<Vec<u8>, Trouble> {
    let (request, data) = server.victim_of(CMD_READ)?;
    let mut answer =
        server.work(&request, &data).map_err(|error| Trouble::NotMade(format!("error {error}")))?;
    let rest = answer.split_off(answer.len() / 2);
    server.send(&[reply(0, request.cookie), answer].concat());
    Ok(rest)
}

fn data_cut(server: &mut Server) -> Result<(), Trouble> {
    half_answered(server)?;
    server.end();
    Ok(())
}

fn data_late(server: &mut Server) -> Result<(), Trouble> {
    let rest = half_answered(server)?;
    std::thread::sleep(BEYOND_TIMEOUT);
    server.send(&rest);
    Ok(())
}

fn reply_within(data: &mut Vec<u8>) {
    data.truncate(data.len() / 2);
    data.extend(reply(0, 0));
}

fn data_after_write(server: &mut Server) -> Result<(), Trouble> {
    let (request, data) = server.victim_of(CMD_WRITE)?;
    server.serve(&request, &data);
    server.send(&[0x5a; 512]);
    Ok(())
}

fn data_after_error(server: &mut Server) -> Result<(), Trouble> {
    let (request, _) = server.victim_of(CMD_READ)?;
    server.send(&[reply(EIO, request.cookie), vec![0x5a; 512]].concat());
    Ok(())
}

fn lying_data(server: &mut Server) -> Result<(), Trouble> {
    for _ in 0..4 {
        read_answered_with(server, |data| data.fill(0x5a))?;
    }
    Ok(())
}

fn forgotten(server: &mut Server) -> Result<(), Trouble> {
    for _ in 0..8 {
        let (request, _) = server.victim_of(CMD_WRITE)?;
        server.send(&reply(0, request.cookie));
    }
    Ok(())
}

/// Answers a request with each of these errors.
fn fails(server: &mut Server, errors: &[u32]) -> Result<(), Trouble> {
    for &error in errors {
        let (request, _) = server.victim()?;
        server.send(&reply(error, request.cookie));
    }
    Ok(())
}

fn silence(server: &mut Server) -> Result<(), Trouble> {
    server.victim()?;
    std::thread::sleep(BEYOND_TIMEOUT);
    Ok(())
}
