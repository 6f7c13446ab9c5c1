//! Whatever the server does: no data is lost, and nothing but the protocol is believed.

use super::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    /// However the bytes are cut, in whatever order replies come and whichever requests fail: reads
    /// return what was written, and failed requests change nothing.
    #[test]
    fn data_survives_reordering_and_errors(
        cut in 1usize..6000,
        keep in 0usize..9,
        fail_every in prop::option::of(2u64..9),
        requests in prop::collection::vec((0u64..2000, 1u32..40, any::<u8>(), any::<bool>()), 1..60),
    ) {
        let (mut wire, _) = Wire::new(ServerConfig::default(), cut).unwrap();
        wire.server.set_faults(Faults { keep, fail_every, ..Faults::default() });
        let mut disk = vec![0u8; 1 << 20];
        for (id, (sector, sectors, seed, is_write)) in (0u64..).zip(requests) {
            let (offset, len) = (sector * 512, sectors * 512);
            let range = usize::try_from(offset).unwrap()..usize::try_from(offset + u64::from(len)).unwrap();
            if is_write {
                wire.submit(id, write(offset, len), &vec![seed; len as usize]).unwrap();
            } else {
                wire.submit(id, read(offset, len), &[]).unwrap();
            }
            // One at a time, so that what a read has to return is known; the server keeps others back.
            let other = id + 1_000_000;
            for extra in 1..keep as u64 {
                wire.submit(other * extra, Command::Flush, &[]).unwrap();
            }
            wire.server.release();
            let done = wire.completions().unwrap();
            let (_, outcome) = *done.iter().find(|(done, _)| *done == id).expect("answered");
            prop_assert!(outcome.is_ok() || fail_every.is_some());
            if outcome.is_ok() && is_write {
                disk[range.clone()].fill(seed);
            }
            if outcome.is_ok() && !is_write {
                prop_assert!(wire.data.remove(&id).unwrap() == disk[range]);
            }
            prop_assert_eq!(wire.client.in_flight_ids().count(), 0);
        }
        prop_assert!(wire.server.cached == disk);
    }
}

proptest! {
    /// Whatever comes: no panic, no event for a request that is not under way, no data beyond its end.
    #[test]
    fn no_bytes_are_believed_too_much(
        negotiated in any::<bool>(),
        replies in prop::collection::vec((0usize..8, any::<u8>(), 0usize..700), 0..20),
        noise in prop::collection::vec(any::<u8>(), 0..100),
    ) {
        let mut client = Client::new("disk", Security::Plain, 0).unwrap();
        let mut cookies = Vec::new();
        if negotiated {
            let mut wire = Wire::connected();
            for id in 0..6u64 {
                let command = if id % 2 == 0 { read(0, 512) } else { Command::Flush };
                cookies.push(wire.client.submit(id, command).unwrap()[8..16].to_vec());
            }
            client = wire.client;
        }
        let mut bytes = Vec::new();
        for (which, error, len) in replies {
            let cookie = cookies.get(which).cloned().unwrap_or(vec![error; 8]);
            let error = [0, 0, 0, if error < 128 { 0 } else { error }];
            bytes.extend([&SIMPLE_REPLY_MAGIC.to_be_bytes()[..], &error, &cookie, &vec![7; len]].concat());
        }
        bytes.extend(noise);
        let mut rest = bytes.as_slice();
        let mut left: BTreeMap<u64, usize> = (0..6).map(|id| (id, if id % 2 == 0 { 512 } else { 0 })).collect();
        while let Ok(Some(event)) = client.receive(&mut rest) {
            match event {
                Event::Data { id, skip_bytes, bytes } => {
                    let left = left.get_mut(&id).expect("under way");
                    prop_assert_eq!(skip_bytes as usize + *left, 512);
                    *left = left.checked_sub(bytes.len()).expect("no more than was asked for");
                }
                Event::Done { id, outcome } => {
                    let left = left.remove(&id).expect("under way, and once");
                    prop_assert!(outcome.is_err() || left == 0);
                }
                Event::Greeted | Event::Ready(_) => prop_assert!(!negotiated),
                Event::StartTls => prop_assert!(false, "nobody asked for it"),
            }
        }
    }
}
