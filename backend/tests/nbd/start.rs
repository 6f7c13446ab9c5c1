//! The first connection, and the one line that says why there is none.

use crate::machine::{Lan, SECOND_NS, options};
use backend::storage::NbdOptions;
use kernel::Hypervisor;
use nbd::fake::ServerConfig;
use nbd::wire::{FLAG_HAS_FLAGS, FLAG_READ_ONLY};
use net::fake::Faults;
use net::{Ipv4Addr, SocketAddr};

/// What is said, and how long that takes.
fn said(lan: &Lan, options: NbdOptions) -> (String, u64) {
    let before_ns = lan.xen.now_ns();
    let Err(reason) = lan.connect(options) else { panic!("it connects") };
    (reason.to_string(), lan.xen.now_ns() - before_ns)
}

#[test]
fn a_server_that_cannot_be_used_is_told_with_its_reason() {
    let config = |change: fn(&mut ServerConfig)| {
        let mut config = ServerConfig::default();
        change(&mut config);
        Lan::new(config)
    };
    let cases = [
        (config(|config| config.name = "other".into()), "the server has no such export"),
        (
            config(|config| config.flags = FLAG_HAS_FLAGS | FLAG_READ_ONLY),
            "the export is read-only, and the disk is not",
        ),
        (
            config(|config| config.block_size = Some((8192, 8192, 1 << 20))),
            "the export's blocks are larger than 4096 bytes",
        ),
        (config(|config| config.size_bytes = 0), "the export has a bad size"),
        (config(|config| config.flags = 0), "the export has a bad flags"),
    ];
    for (lan, expected) in cases {
        let (said, time_ns) = said(&lan, options());
        assert_eq!(said, expected);
        assert!(time_ns < SECOND_NS);
    }
}

#[test]
fn a_host_that_refuses_is_told_at_once() {
    let lan = Lan::new(ServerConfig::default());
    lan.host.listen(false);
    let (said, time_ns) = said(&lan, options());
    assert_eq!(said, "connection refused");
    assert!(time_ns < SECOND_NS);
}

#[test]
fn nobody_there_is_told_in_time() {
    let lan = Lan::new(ServerConfig::default());
    let server = SocketAddr::new(Ipv4Addr::new(10, 0, 0, 99).into(), 10809);
    let (told, time_ns) = said(&lan, NbdOptions { server, ..options() });
    assert_eq!(told, "no answer");
    assert!(time_ns <= 6 * SECOND_NS, "{time_ns}");
    lan.host.set_faults(Faults { is_cut: true, ..Faults::default() });
    assert_eq!(said(&lan, options()).0, "no answer");
}

#[test]
fn a_server_that_does_not_speak_is_told_in_time() {
    let lan = Lan::new(ServerConfig::default());
    lan.host.with(|peer| peer.nbd.set_mute(true));
    let (said, time_ns) = said(&lan, options());
    assert_eq!(said, "the negotiation took too long");
    assert!(time_ns <= 6 * SECOND_NS, "{time_ns}");
}

#[test]
fn a_network_that_loses_frames_is_good_enough() {
    let lan = Lan::new(ServerConfig::default());
    lan.host.set_faults(Faults { lose_every: Some(7), ..Faults::default() });
    let disk = lan.connect(options());
    assert!(disk.is_ok(), "{:?}", disk.err());
}

#[test]
fn a_netback_that_is_gone_is_told() {
    let mut lan = Lan::new(ServerConfig::default());
    lan.back.set_node("state", "5");
    lan.xen.run_peers(10);
    lan.xs.poll_events().expect("a xenstore");
    lan.network.refresh(&mut lan.xs).expect("a xenstore");
    lan.network.service(&mut lan.xs);
    assert_eq!(said(&lan, options()).0, "no answer");
}
