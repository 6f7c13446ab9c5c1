//! Requests and replies.

use super::*;

#[test]
fn data_goes_and_comes() {
    for cut in [1, 5, 16, 17, 4096, usize::MAX] {
        let (mut wire, _) = Wire::new(ServerConfig::default(), cut).unwrap();
        let data: Vec<u8> = (0..8192u32).map(|at| u8::try_from(at % 251).unwrap()).collect();
        wire.submit(1, write(512, 8192), &data).unwrap();
        assert_eq!(wire.completions(), Ok(vec![(1, Ok(()))]));
        wire.submit(2, read(512, 8192), &[]).unwrap();
        wire.submit(3, read(0, 512), &[]).unwrap();
        assert_eq!(wire.completions(), Ok(vec![(2, Ok(())), (3, Ok(()))]));
        assert_eq!(wire.data[&2], data, "parts of {cut}");
        assert_eq!(wire.data[&3], [0; 512]);
        assert_eq!(wire.client.in_flight_ids().count(), 0);
    }
}

#[test]
fn a_read_is_over_with_its_last_byte() {
    let mut wire = Wire::connected();
    wire.submit(9, read(0, 512), &[]).unwrap();
    let bytes = wire.server.send(usize::MAX);
    let (begin, end) = bytes.split_at(16 + 511);
    let mut rest = begin;
    let data = Event::Data { id: 9, skip_bytes: 0, bytes: &[0; 511] };
    assert_eq!(wire.client.receive(&mut rest), Ok(Some(data)));
    assert_eq!(wire.client.receive(&mut rest), Ok(None));
    assert_eq!(wire.client.in_flight_ids().collect::<Vec<_>>(), [9], "not yet");
    let mut rest = end;
    let data = Event::Data { id: 9, skip_bytes: 511, bytes: &[0] };
    assert_eq!(wire.client.receive(&mut rest), Ok(Some(data)));
    assert_eq!(wire.client.receive(&mut rest), Ok(Some(Event::Done { id: 9, outcome: Ok(()) })));
    assert_eq!(wire.client.receive(&mut rest), Ok(None));
}

#[test]
fn flush_and_durable_requests_reach_the_disk() {
    let mut wire = Wire::connected();
    wire.submit(1, write(0, 512), &[1; 512]).unwrap();
    assert_eq!(wire.server.durable[0], 0);
    wire.submit(2, Command::Flush, &[]).unwrap();
    assert_eq!(wire.server.durable[..512], [1; 512]);
    wire.submit(3, Command::Write { offset: 0, len_bytes: 512, durable: true }, &[2; 512]).unwrap();
    assert_eq!(wire.server.durable[..512], [2; 512]);
    wire.submit(4, Command::WriteZeroes { offset: 0, len_bytes: 512, durable: true }, &[]).unwrap();
    assert_eq!(wire.server.durable[..512], [0; 512]);
    wire.submit(5, Command::Trim { offset: 512, len_bytes: 4096 }, &[]).unwrap();
    assert_eq!(wire.completions().unwrap().len(), 5);
    assert_eq!(wire.server.log, [CMD_WRITE, CMD_FLUSH, CMD_WRITE, CMD_WRITE_ZEROES, CMD_TRIM]);
    assert_eq!(wire.server.cached[512], 0xd5);
}

#[test]
fn zeros_stay_allocated() {
    let mut wire = Wire::connected();
    let header = wire.client.submit(1, Command::WriteZeroes { offset: 0, len_bytes: 512, durable: false });
    assert_eq!(header.unwrap()[4..8], [0, 2, 0, 6], "NBD_CMD_FLAG_NO_HOLE");
}

#[test]
fn an_export_s_limits_hold() {
    let narrow = ServerConfig { block_size: Some((4096, 4096, 8192)), ..ServerConfig::default() };
    let read_only = ServerConfig { flags: FLAG_HAS_FLAGS | FLAG_READ_ONLY, ..ServerConfig::default() };
    let plain = ServerConfig { flags: FLAG_HAS_FLAGS, ..ServerConfig::default() };
    let (range, cannot) = (Err(SubmitError::BadRange), Err(SubmitError::Unsupported));
    let durable = |offset| Command::Write { offset, len_bytes: 4096, durable: true };
    let zeroes = |durable| Command::WriteZeroes { offset: 0, len_bytes: 16384, durable };
    let trim = Command::Trim { offset: 0, len_bytes: 16384 };
    let cases = [
        (&narrow, read(0, 8192), Ok(())),
        (&narrow, read(0, 12288), range),
        (&narrow, write(0, 12288), range),
        (&narrow, read(512, 4096), range),
        (&narrow, write(4096, 512), range),
        (&narrow, read(0, 0), range),
        (&narrow, read(1 << 20, 4096), range),
        (&narrow, read((1 << 20) - 4096, 8192), range),
        (&narrow, read((1 << 20) - 4096, 4096), Ok(())),
        (&narrow, read(u64::MAX - 4095, 4096), range),
        // Without data they may be longer than a payload.
        (&narrow, zeroes(true), Ok(())),
        (&narrow, trim, Ok(())),
        (&read_only, read(0, 4096), Ok(())),
        (&read_only, write(0, 4096), cannot),
        (&plain, write(0, 4096), Ok(())),
        (&plain, durable(0), cannot),
        (&plain, Command::Flush, cannot),
        (&plain, trim, cannot),
        (&plain, zeroes(false), cannot),
    ];
    for (config, command, expected) in cases {
        let (mut wire, _) = Wire::new(config.clone(), usize::MAX).unwrap();
        assert_eq!(wire.client.submit(1, command).map(drop), expected, "{command:?}");
        let under_way = usize::from(expected.is_ok());
        assert_eq!(wire.client.in_flight_ids().count(), under_way, "{command:?}");
    }
    let no_fua = FLAG_HAS_FLAGS | FLAG_SEND_WRITE_ZEROES;
    let (mut wire, _) = Wire::new(ServerConfig { flags: no_fua, ..plain }, usize::MAX).unwrap();
    assert_eq!(wire.client.submit(1, zeroes(true)).map(drop), cannot);
    assert_eq!(wire.client.submit(1, zeroes(false)).map(drop), Ok(()));
    let no_zeroes = ServerConfig {
        flags: FLAG_HAS_FLAGS | FLAG_READ_ONLY | FLAG_SEND_TRIM | FLAG_SEND_WRITE_ZEROES,
        ..ServerConfig::default()
    };
    let (mut wire, _) = Wire::new(no_zeroes, usize::MAX).unwrap();
    assert_eq!(wire.client.submit(1, trim).map(drop), cannot, "it is read-only");
    assert_eq!(wire.client.submit(1, zeroes(false)).map(drop), cannot, "it is read-only");
}

#[test]
fn there_is_a_limit_to_requests_under_way() {
    let mut wire = Wire::connected();
    for id in 0..REQUESTS_MAX {
        wire.submit(id.into(), read(0, 512), &[]).unwrap();
    }
    assert_eq!(wire.submit(999, read(0, 512), &[]), Err(SubmitError::Full));
    assert_eq!(wire.completions().unwrap().len(), usize::from(REQUESTS_MAX));
    wire.submit(999, read(0, 512), &[]).unwrap();
}

#[test]
fn answers_come_in_any_order() {
    let mut wire = Wire::connected();
    wire.server.set_faults(Faults { keep: 4, ..Faults::default() });
    for id in 0..4u64 {
        let seed = u8::try_from(id).unwrap();
        wire.submit(id, write(id * 512, 512), &[seed; 512]).unwrap();
    }
    let order: Vec<u64> = wire.completions().unwrap().into_iter().map(|(id, _)| id).collect();
    assert_eq!(order, [3, 2, 1, 0]);
    for id in 0..4u64 {
        wire.submit(id, read(id * 512, 512), &[]).unwrap();
    }
    wire.completions().unwrap();
    for id in 0..4u64 {
        assert_eq!(wire.data[&id], [u8::try_from(id).unwrap(); 512]);
    }
}

#[test]
fn an_error_is_its_request_s_alone() {
    let mut wire = Wire::connected();
    wire.server.set_faults(Faults { fail_every: Some(2), ..Faults::default() });
    wire.submit(1, read(0, 512), &[]).unwrap();
    wire.submit(2, read(0, 512), &[]).unwrap();
    wire.submit(3, Command::Flush, &[]).unwrap();
    let failed = Err(IoError::Failed(EIO));
    assert_eq!(wire.completions(), Ok(vec![(1, Ok(())), (2, failed), (3, Ok(()))]));
    assert!(!wire.data.contains_key(&2), "no data comes with an error");
}

#[test]
fn errors_have_their_meanings() {
    let meanings = [
        (EPERM, IoError::Failed(EPERM)),
        (EIO, IoError::Failed(EIO)),
        (ENOSPC, IoError::Failed(ENOSPC)),
        (EINVAL, IoError::Failed(EINVAL)),
        (ENOTSUP, IoError::Unsupported),
        (EOVERFLOW, IoError::Unsupported),
        (u32::MAX, IoError::Failed(u32::MAX)),
    ];
    for (error, expected) in meanings {
        let mut wire = Wire::connected();
        let header = wire.client.submit(5, Command::Flush).unwrap();
        let reply = [&SIMPLE_REPLY_MAGIC.to_be_bytes()[..], &error.to_be_bytes(), &header[8..16]].concat();
        let done = Event::Done { id: 5, outcome: Err(expected) };
        assert_eq!(wire.client.receive(&mut reply.as_slice()), Ok(Some(done)));
    }
}

#[test]
fn a_broken_rule_ends_the_connection() {
    let misdeeds = [Misdeed::BogusCookie, Misdeed::Duplicate, Misdeed::BadMagic, Misdeed::Shutdown];
    for misdeed in misdeeds {
        let mut wire = Wire::connected();
        wire.server.set_faults(Faults { misdeed_at: Some((1, misdeed)), ..Faults::default() });
        for id in 0..3 {
            wire.submit(id, write(0, 512), &[1; 512]).unwrap();
        }
        let fault = wire.completions().unwrap_err();
        let expected = match misdeed {
            Misdeed::BogusCookie | Misdeed::Duplicate => matches!(fault, Fault::UnknownCookie(_)),
            Misdeed::BadMagic => fault == Fault::BadReply(SIMPLE_REPLY_MAGIC ^ 1),
            _ => fault == Fault::ShuttingDown,
        };
        assert!(expected, "{misdeed:?} gave {fault:?}");
        // Of the duplicate's victim the first answer was good.
        let left = if misdeed == Misdeed::Duplicate { 1 } else { 2 };
        assert_eq!(wire.client.in_flight_ids().count(), left, "{misdeed:?}");
        assert_eq!(wire.client.submit(7, Command::Flush), Err(SubmitError::NotReady));
        assert_eq!(wire.client.receive(&mut &b""[..]), Err(fault), "for ever");
        let in_order = misdeed == Misdeed::Shutdown;
        assert_eq!(!wire.client.farewell().is_empty(), in_order, "{misdeed:?}");
    }
}

#[test]
fn a_reply_that_nobody_waits_for_ends_the_connection() {
    let mut wire = Wire::connected();
    let reply = [&SIMPLE_REPLY_MAGIC.to_be_bytes()[..], &[0; 12]].concat();
    assert_eq!(wire.client.receive(&mut reply.as_slice()), Err(Fault::UnknownCookie(0)));
}

#[test]
fn a_slot_s_next_use_has_another_cookie() {
    let mut wire = Wire::connected();
    let header = wire.client.submit(1, Command::Flush).unwrap();
    let reply = [&SIMPLE_REPLY_MAGIC.to_be_bytes()[..], &[0; 4], &header[8..16]].concat();
    assert!(wire.client.receive(&mut reply.as_slice()).is_ok());
    let again = wire.client.submit(2, Command::Flush).unwrap();
    assert_ne!(header[8..16], again[8..16]);
    assert!(wire.client.receive(&mut reply.as_slice()).is_err(), "the first answer, a second time");
}

#[test]
fn the_farewell_ends_the_connection_in_order() {
    let mut wire = Wire::connected();
    let bytes = wire.client.farewell();
    wire.server.receive(&bytes);
    assert!(wire.server.is_over());
}
