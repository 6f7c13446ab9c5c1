//! From the greeting to the export.

use super::*;

fn greeting(first: u64, second: u64, flags: u16) -> Vec<u8> {
    [&first.to_be_bytes()[..], &second.to_be_bytes(), &flags.to_be_bytes()].concat()
}

fn reply(option: u32, kind: u32, data: &[u8]) -> Vec<u8> {
    let len = u32::try_from(data.len()).unwrap();
    let numbers = [option.to_be_bytes(), kind.to_be_bytes(), len.to_be_bytes()].concat();
    [&OPTION_REPLY_MAGIC.to_be_bytes()[..], &numbers, data].concat()
}

fn export(size: u64, flags: u16) -> Vec<u8> {
    let data = [&INFO_EXPORT.to_be_bytes()[..], &size.to_be_bytes(), &flags.to_be_bytes()].concat();
    reply(OPT_GO, REP_INFO, &data)
}

fn blocks(min: u32, preferred: u32, max: u32) -> Vec<u8> {
    let numbers = [min.to_be_bytes(), preferred.to_be_bytes(), max.to_be_bytes()].concat();
    reply(OPT_GO, REP_INFO, &[&INFO_BLOCK_SIZE.to_be_bytes()[..], &numbers].concat())
}

fn ack() -> Vec<u8> {
    reply(OPT_GO, REP_ACK, &[])
}

/// What a server's words, after a good greeting, lead to.
fn judge(words: &[Vec<u8>]) -> Result<Option<Export>, Fault> {
    let mut client = Client::new("disk", Security::Plain, 0).unwrap();
    let bytes = [greeting(INIT_MAGIC, OPTION_MAGIC, 3), words.concat()].concat();
    let mut rest = bytes.as_slice();
    assert_eq!(client.receive(&mut rest), Ok(Some(Event::Greeted)));
    match client.receive(&mut rest) {
        Ok(Some(Event::Ready(export))) => Ok(Some(export)),
        Ok(None) => Ok(None),
        Ok(Some(other)) => panic!("{other:?}"),
        Err(fault) => {
            assert_eq!(client.receive(&mut &b""[..]), Err(fault), "for ever");
            assert_eq!(client.submit(1, Command::Flush), Err(SubmitError::NotReady));
            assert!(client.farewell().is_empty(), "no other word");
            Err(fault)
        }
    }
}

const FLAGS: u16 = FLAG_HAS_FLAGS | FLAG_SEND_FLUSH;

#[test]
fn the_export_is_as_the_server_says() {
    for cut in [1, 2, 7, 18, 64, usize::MAX] {
        let (wire, export) = Wire::new(ServerConfig::default(), cut).unwrap();
        let expected = Export {
            size_bytes: 1 << 20,
            block_bytes: 512,
            preferred_block_bytes: 4096,
            max_payload_bytes: 32 << 20,
            read_only: false,
            flush: true,
            fua: true,
            trim: true,
            write_zeroes: true,
            multi_conn: true,
        };
        assert_eq!((export, wire.client.export()), (expected, Some(&expected)), "parts of {cut}");
        assert_eq!(wire.client.due_ns(), None);
    }
}

#[test]
fn the_opening_is_the_protocol_s() {
    let mut client = Client::new("ab", Security::Plain, 0).unwrap();
    assert!(client.opening().is_empty() && client.farewell().is_empty(), "the server speaks first");
    let bytes = greeting(INIT_MAGIC, OPTION_MAGIC, 1);
    assert_eq!(client.receive(&mut bytes.as_slice()), Ok(Some(Event::Greeted)));
    let expected = b"\0\0\0\x01IHAVEOPT\0\0\0\x07\0\0\0\x0a\0\0\0\x02ab\0\x01\0\x03";
    assert_eq!(client.opening(), expected);
    assert_eq!(client.farewell(), b"IHAVEOPT\0\0\0\x02\0\0\0\0");
}

#[test]
fn a_name_has_a_limit() {
    let longest = "n".repeat(NAME_MAX_BYTES);
    let mut client = Client::new(&longest, Security::Plain, 0).unwrap();
    let bytes = greeting(INIT_MAGIC, OPTION_MAGIC, 1);
    assert_eq!(client.receive(&mut bytes.as_slice()), Ok(Some(Event::Greeted)));
    assert_eq!(client.opening().len(), OPENING_MAX_BYTES);
    assert!(client.opening().ends_with(b"n\0\x01\0\x03"));
    assert_eq!(Client::new(&"n".repeat(NAME_MAX_BYTES + 1), Security::Plain, 0).err(), Some(NameTooLong));
}

#[test]
fn greetings_of_others_are_refused() {
    let cases = [
        (greeting(INIT_MAGIC, OPTION_MAGIC, 0), Fault::OldStyle),
        (greeting(INIT_MAGIC, OPTION_MAGIC, 2), Fault::OldStyle),
        (greeting(INIT_MAGIC, OLDSTYLE_MAGIC, 1), Fault::OldStyle),
        (greeting(INIT_MAGIC, INIT_MAGIC, 1), Fault::NotNbd),
        (b"SSH-2.0-OpenSSH_9.2p1 Debian".to_vec(), Fault::NotNbd),
    ];
    for (bytes, fault) in cases {
        let mut client = Client::new("disk", Security::Plain, 0).unwrap();
        assert_eq!(client.receive(&mut bytes.as_slice()), Err(fault));
        assert!(client.opening().is_empty());
    }
}

#[test]
fn what_a_negotiation_must_not_have_ends_it() {
    let bad = Fault::BadNegotiation;
    let mut no_magic = ack();
    no_magic[7] ^= 1;
    let long_export = reply(OPT_GO, REP_INFO, &[0; 13]);
    let short_export = reply(OPT_GO, REP_INFO, &[0; 11]);
    let long_blocks = reply(OPT_GO, REP_INFO, &[&[0, 3][..], &[0; 13]].concat());
    let cases = [
        (vec![no_magic], bad("magic number")),
        (vec![reply(OPT_ABORT, REP_ACK, &[])], bad("option")),
        (vec![ack()], bad("end: no export")),
        (vec![blocks(1, 4096, 1 << 20), ack()], bad("end: no export")),
        (vec![reply(OPT_GO, REP_ACK, &[0; 4])], bad("length")),
        (vec![reply(OPT_GO, REP_INFO, &[0])], bad("length")),
        (vec![long_export], bad("length")),
        (vec![short_export], bad("length")),
        (vec![long_blocks], bad("length")),
        (vec![reply(OPT_GO, 2, &[])], bad("reply type")),
        (vec![export(4096, FLAGS), export(8192, FLAGS), ack()], bad("information, given twice")),
        (vec![blocks(1, 512, 512), blocks(1, 512, 512)], bad("information, given twice")),
        (vec![reply(OPT_GO, REP_ERR_UNKNOWN, b"none")], Fault::Refused(REP_ERR_UNKNOWN)),
        (vec![reply(OPT_GO, u32::MAX, &[])], Fault::Refused(u32::MAX)),
    ];
    for (words, fault) in cases {
        assert_eq!(judge(&words), Err(fault), "{words:?}");
    }
}

#[test]
fn exports_that_cannot_be_used_are_refused() {
    let bad = Fault::BadExport;
    let cases = [
        (vec![export(4096, FLAG_SEND_FLUSH)], bad("flags")),
        (vec![export(0, FLAGS)], bad("size")),
        (vec![export(511, FLAGS)], bad("size")),
        (vec![export(4095, FLAGS), blocks(4096, 4096, 1 << 20)], bad("size")),
        (vec![export(4096, FLAGS), blocks(0, 4096, 1 << 20)], bad("block size")),
        (vec![export(4096, FLAGS), blocks(3, 4096, 1 << 20)], bad("block size")),
        (vec![export(1 << 20, FLAGS), blocks(1 << 17, 1 << 17, 1 << 20)], bad("block size")),
        (vec![export(4096, FLAGS), blocks(1024, 512, 1 << 20)], bad("block size")),
        (vec![export(4096, FLAGS), blocks(1, 256, 1 << 20)], bad("block size")),
        (vec![export(4096, FLAGS), blocks(1, 4097, 1 << 20)], bad("block size")),
        (vec![export(4096, FLAGS), blocks(1, 4096, 4095)], bad("block size")),
        (vec![export(4096, FLAGS), blocks(1, 4096, 0)], bad("block size")),
    ];
    for (mut words, fault) in cases {
        words.push(ack());
        assert_eq!(judge(&words), Err(fault), "{words:?}");
    }
}

#[test]
fn sizes_are_taken_as_far_as_they_can_be_used() {
    // Size, block sizes; length, block and payload that follow.
    type Case = (u64, Option<(u32, u32, u32)>, (u64, u32, u32));
    let cases: [Case; 7] = [
        (4096, None, (4096, 512, 32 << 20)),
        (5000, None, (4608, 512, 32 << 20)),
        (5000, Some((1, 512, 512)), (4608, 512, 512)),
        (9000, Some((4096, 4096, 10_000)), (8192, 4096, 8192)),
        (u64::MAX, Some((512, 4096, u32::MAX)), (u64::MAX - 511, 512, 32 << 20)),
        (1 << 20, Some((1 << 16, 1 << 16, 1 << 16)), (1 << 20, 1 << 16, 1 << 16)),
        (1 << 20, Some((1, 1 << 31, u32::MAX)), (1 << 20, 512, 32 << 20)),
    ];
    for (size, sizes, expected) in cases {
        let mut words = vec![export(size, FLAGS)];
        words.extend(sizes.map(|(min, preferred, max)| blocks(min, preferred, max)));
        words.push(ack());
        let export = judge(&words).unwrap().expect("all of it");
        assert_eq!((export.size_bytes, export.block_bytes, export.max_payload_bytes), expected, "{size}");
    }
}

#[test]
fn what_is_not_known_is_skipped_but_not_for_ever() {
    let text = |len: usize| reply(OPT_GO, REP_INFO, &[&[0, 2][..], &vec![b'x'; len - 2]].concat());
    let known = [export(4096, FLAGS), ack()].concat();
    for len in [2, 3, 4096, 60_000] {
        assert!(judge(&[text(len), known.clone()]).unwrap().is_some(), "{len}");
    }
    assert_eq!(judge(&[text(70_000), known.clone()]), Err(Fault::LongNegotiation));
    let many = vec![text(2); 3000];
    assert_eq!(judge(&many), Err(Fault::LongNegotiation));
    // It says that there is more than it ever sends.
    let mut endless = text(2);
    endless[16..20].copy_from_slice(&u32::MAX.to_be_bytes());
    assert_eq!(judge(&[endless.clone(), vec![0; 1000]]), Ok(None));
    assert_eq!(judge(&[endless, vec![0; 70_000]]), Err(Fault::LongNegotiation));
}

#[test]
fn a_server_that_does_not_come_to_the_end_is_left() {
    let mut client = Client::new("disk", Security::Plain, 1000).unwrap();
    let due_ns = client.due_ns().unwrap();
    assert_eq!(due_ns, 1000 + HANDSHAKE_TIMEOUT_NS);
    let bytes = greeting(INIT_MAGIC, OPTION_MAGIC, 1);
    assert_eq!(client.receive(&mut bytes.as_slice()), Ok(Some(Event::Greeted)));
    // A word now and then makes it no longer.
    assert_eq!((client.check(due_ns - 1), client.due_ns()), (Ok(()), Some(due_ns)));
    assert_eq!(client.check(due_ns), Err(Fault::TimedOut));
    assert_eq!(client.receive(&mut ack().as_slice()), Err(Fault::TimedOut));
}

#[test]
fn with_tls_the_export_is_asked_for_over_it_only() {
    let mut client = Client::new("ab", Security::Tls, 0).unwrap();
    let bytes = greeting(INIT_MAGIC, OPTION_MAGIC, 1);
    assert_eq!(client.receive(&mut bytes.as_slice()), Ok(Some(Event::Greeted)));
    assert_eq!(client.opening(), b"\0\0\0\x01IHAVEOPT\0\0\0\x05\0\0\0\0");
    // What follows is not read as a part of the negotiation.
    let yes = [reply(OPT_STARTTLS, REP_ACK, &[]), export(4096, FLAGS), ack()].concat();
    let mut rest = yes.as_slice();
    assert_eq!(client.receive(&mut rest), Ok(Some(Event::StartTls)));
    assert_eq!(rest.len(), yes.len() - OPTION_REPLY_BYTES);
    assert_eq!(client.opening(), b"IHAVEOPT\0\0\0\x07\0\0\0\x0a\0\0\0\x02ab\0\x01\0\x03");
    for cut in [1, 7, usize::MAX] {
        let config = ServerConfig { tls: true, ..ServerConfig::default() };
        let (wire, export) = Wire::with(Security::Tls, config, cut).unwrap();
        assert!(wire.server.is_secure() && export.size_bytes == 1 << 20);
    }
}

#[test]
fn a_server_without_tls_is_never_used_without_it() {
    for (words, fault) in [
        (reply(OPT_STARTTLS, REP_ERR_POLICY, b"no"), Fault::NoTls(REP_ERR_POLICY)),
        (reply(OPT_STARTTLS, REP_ERR_UNSUP, &[]), Fault::NoTls(REP_ERR_UNSUP)),
        (reply(OPT_STARTTLS, REP_ACK, &[0]), Fault::BadNegotiation("length")),
        (reply(OPT_STARTTLS, REP_INFO, &[]), Fault::BadNegotiation("reply type")),
        (reply(OPT_GO, REP_ACK, &[]), Fault::BadNegotiation("option")),
        // The export, without having been asked for it.
        ([export(4096, FLAGS), ack()].concat(), Fault::BadNegotiation("option")),
    ] {
        let mut client = Client::new("disk", Security::Tls, 0).unwrap();
        let bytes = [greeting(INIT_MAGIC, OPTION_MAGIC, 3), words].concat();
        let mut rest = bytes.as_slice();
        assert_eq!(client.receive(&mut rest), Ok(Some(Event::Greeted)));
        assert_eq!(client.receive(&mut rest), Err(fault));
        assert!(client.opening().is_empty() && client.farewell().is_empty(), "no other word");
    }
    let with_key = Wire::with(Security::Tls, ServerConfig::default(), 7).err();
    assert_eq!(with_key, Some(Fault::NoTls(REP_ERR_POLICY)));
}

#[test]
fn a_server_that_requires_tls_says_so_to_a_disk_without_a_key() {
    let config = ServerConfig { tls: true, ..ServerConfig::default() };
    let fault = Wire::new(config, usize::MAX).err().unwrap();
    assert_eq!(fault, Fault::Refused(REP_ERR_TLS_REQD));
    assert_eq!(std::format!("{fault}"), "the server requires TLS; set tls-psk-file");
}
