//! The stub's network interface, and the disks that are exports of NBD servers on it.

use crate::platform::{self, Xen};
use crate::report;
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use backend::storage::{AnyStorage, NbdDisk, NbdJournal, NbdOptions};
use config::{Config, DiskConfig, NbdStore, Net, NetConfig, Store};
use core::net::SocketAddr;
use drivers::NetFront;
use drivers::xenstore::Xenstore;
use kernel::Hypervisor;
use net::{Address, Network};
use tls::Secrets;

/// Where the keys of TLS are, in the domain's directory. The stub cannot write there.
const TLS_NODES: &str = "pilotfish-tls";
/// Where the number that TCP begins with is. The stub cannot write there either.
const SEED_NODE: &str = "pilotfish-net-seed";
/// Bytes of the longest name of an interface in Linux.
const BRIDGE_MAX_BYTES: usize = 15;
/// The interface's number.
const VIF: u32 = 0;
/// All of it together. Libxl waits for the guest's disks for 10 s, of which making the domain and its interface takes
/// up to 4 s in the emulator. An answer later than this comes too late, and its reason would not be told.
const START_NS: u64 = 4_000_000_000;
/// Each step of the handshake with netback.
const VIF_STEP_NS: u64 = 3_000_000_000;

/// The same after a restart, for which libxl does not wait.
const VIF_STEP_AGAIN_NS: u64 = 10_000_000_000;
/// What each network carries that IPv6 is spoken on (RFC 8200).
const MTU_MIN_V6_BYTES: u16 = 1280;

/// A connected interface, and until when the servers have to answer.
pub struct Way {
    network: Network<Xen>,
    deadline_ns: u64,
    /// The disks have a journal.
    kept: bool,
}

/// Connects the interface, if a disk needs it; the error says why not.
pub fn connect(xen: &Xen, xs: &mut Xenstore<Xen>, config: &Config) -> Result<Option<Way>, String> {
    let first = config.disks.iter().find(|disk| matches!(disk.store, Store::Nbd(_)));
    let Some((net, first)) = config.net.zip(first) else { return Ok(None) };
    let seed = seed(xs)?;
    let deadline_ns = xen.now_ns().saturating_add(START_NS);
    let step_ns = if platform::incarnation() == 0 { VIF_STEP_NS } else { VIF_STEP_AGAIN_NS };
    let front = NetFront::connect_within(xen, xs, VIF, step_ns)
        .map_err(|error| format!("network interface {VIF}: {error}"))?;
    let address = match net {
        Net::Given(NetConfig { ours, prefix_bits, gateway }) => Some(Address { ours, prefix_bits, gateway }),
        Net::Leased => None,
    };
    if address.is_some_and(|address| address.ours.is_ipv6()) && front.mtu_bytes() < MTU_MIN_V6_BYTES {
        return Err(format!(
            "network interface {VIF}: an MTU of {} bytes is too small for IPv6",
            front.mtu_bytes()
        ));
    }
    let bridge = bridge(xs, &front);
    let network = Network::new(xen, front, address, seed);
    // After a restart requests wait for the lease, as for the servers.
    if net == Net::Leased && platform::incarnation() == 0 {
        let why = format!("disk {}: no DHCP server leased an address{bridge}", first.id);
        report::waits_for(xs, &why);
        if network.wait_for_lease(deadline_ns).is_none() {
            // Netback still has its pages.
            core::mem::forget(network);
            return Err(why);
        }
    }
    Ok(Some(Way { network, deadline_ns, kept: config.restarts > 0 }))
}

/// A number that nobody else knows.
fn seed(xs: &mut Xenstore<Xen>) -> Result<u64, String> {
    let digits = xs.read_string(SEED_NODE).map_err(|error| format!("{SEED_NODE}: {error}"))?;
    u64::from_str_radix(&digits, 16).map_err(|_| format!("{SEED_NODE}: not a number"))
}

/// The bridge that the other end is on, as a reason ends: there is not always one to name.
fn bridge(xs: &mut Xenstore<Xen>, front: &NetFront<Xen>) -> String {
    let name = xs.read_string(&format!("{}/bridge", front.backend_path())).unwrap_or_default();
    let is_name =
        !name.is_empty() && name.len() <= BRIDGE_MAX_BYTES && name.bytes().all(|b| b.is_ascii_graphic());
    if is_name { format!(" on bridge {name}") } else { String::new() }
}

/// What a lease has to do with the server: it is known only now.
fn check_way(network: &Network<Xen>, server: SocketAddr) -> Result<(), String> {
    // It may be over again.
    let Some(Address { ours, prefix_bits, gateway }) = network.address() else { return Ok(()) };
    if ours == server.ip() {
        return Err(format!("NBD server {server}: DHCP leased us its address"));
    }
    if gateway.is_none() && !(NetConfig { ours, prefix_bits, gateway }).is_near(server.ip()) {
        return Err(format!(
            "NBD server {server}: no route: DHCP leased {ours}/{prefix_bits}, and no router"
        ));
    }
    Ok(())
}

/// Connects a disk; the error names the server. After a restart the disk goes on by its journal, without a
/// connection at first.
pub fn disk(
    xs: &mut Xenstore<Xen>,
    way: Option<&Way>,
    (index, disk): (usize, &DiskConfig),
    store: &NbdStore,
) -> Result<AnyStorage<Xen>, String> {
    let NbdStore { server, export } = store;
    let Some(Way { network, deadline_ns, kept }) = way else {
        return Err(String::from("there is no network"));
    };
    let options = NbdOptions {
        server: *server,
        export: export.clone(),
        writable: !disk.read_only,
        timeout_ns: disk.backend_timeout_ns,
        secrets: disk.tls.then(|| secrets(xs, disk.id)).transpose()?,
    };
    // Page 0 is the ioreq server's.
    let page = platform::journal_page(index.saturating_add(1)).filter(|_| *kept);
    let journal = page.map(NbdJournal::new);
    if platform::incarnation() > 0 {
        let journal = journal.ok_or("no page for the journal")?;
        return NbdDisk::resume(network, options, journal)
            .map(|disk| AnyStorage::Nbd(Box::new(disk)))
            .map_err(|error| format!("{error}"));
    }
    check_way(network, *server)?;
    report::waits_for(
        xs,
        &format!("disk {}: NBD server {server}: not ready yet: export {export:?}", disk.id),
    );
    // The reason first: what is told has a largest length, and so has the name.
    let disk = NbdDisk::connect(network, options, *deadline_ns)
        .map_err(|reason| format!("NBD server {server}: {reason}: export {export:?}"))?;
    let disk = match journal {
        Some(journal) => disk.with_journal(journal),
        None => disk,
    };
    Ok(AnyStorage::Nbd(Box::new(disk)))
}

/// What the daemon has put there for that disk. It takes it back as soon as the stub serves.
fn secrets(xs: &mut Xenstore<Xen>, disk: u32) -> Result<Secrets, String> {
    let node = format!("{TLS_NODES}/{disk}");
    let words = xs.read_string(&node).map_err(|error| format!("TLS key: {node}: {error}"))?;
    // Not a word of it is told.
    Secrets::take(words).ok_or_else(|| format!("TLS key: {node}: not a seed, a key and an identity"))
}
