//! How a stub begins: at boot, and again after a panic.

use crate::disks::{self, Engine};
use crate::platform::{self, Memory, Xen};
use alloc::format;
use alloc::rc::Rc;
use alloc::string::{String, ToString};
use backend::Stub;
use backend::blk::{Device, DeviceJournal};
use backend::guest_mem::RingKeeper;
use backend::ioreq::{PanicTeardown, Server, ServerJournal};
use config::{Config, Store};
use drivers::blkfront;
use drivers::xenstore::Xenstore;
use log::{info, warn};

/// The image's stub.
pub type ImageStub = Stub<Xen, Memory, Engine>;

/// At boot: connects the disks, then creates the ioreq server.
pub fn first(xen: &Xen, xs: &mut Xenstore<Xen>, config: &Config) -> Result<ImageStub, String> {
    let kept = config.restarts > 0;
    let (granted, keeper) = if config.grants { Some(grant(xen, config)?).unzip() } else { (None, None) };
    let devices = disks::connect(xen, xs, config, keeper, |index, engine, options| {
        let device = Device::new(engine, options);
        Ok(if kept { device.with_journal(device_journal(index)?) } else { device })
    })?;
    let memory = granted.map_or_else(|| map(xen, config), Ok)?;
    let stub = Stub::start(xen, config.target, memory, devices).map_err(|error| error.to_string())?;
    release_on_panic(stub.panic_teardown());
    if kept {
        server_journal()?.save(&stub.server_state());
    }
    Ok(stub)
}

/// After a panic: takes the ioreq server over, whose vCPUs wait, so that from here on it ends
/// in order if anything fails.
pub fn take_over(xen: &Xen, config: &Config) -> Result<Server<Xen>, String> {
    let state = server_journal()?.load().map_err(|error| error.to_string())?;
    if state.target != config.target {
        return Err(String::from("the journal is about another guest"));
    }
    let server = Server::resume(xen, &state).map_err(|error| error.to_string())?;
    release_on_panic(server.panic_teardown());
    Ok(server)
}

/// After a panic: makes everything again but the ioreq server, and goes on by the journal.
pub fn recover(
    xen: &Xen,
    xs: &mut Xenstore<Xen>,
    config: &Config,
    server: Server<Xen>,
) -> Result<ImageStub, String> {
    let memory = map(xen, config)?;
    for disk in &config.disks {
        if let Store::Pv(vdev) = disk.store {
            // Before anything is done again: nothing old may reach the disk afterwards.
            blkfront::close_stale(xen, xs, vdev, |gref| platform::previous_page(xen, gref))
                .map_err(|error| format!("disk {}: closing the stale connection: {error}", disk.id))?;
        }
    }
    // After that: until then the old connections need their ports.
    platform::close_previous_ports(xen, server.ports());
    let devices = disks::connect(xen, xs, config, None, |index, engine, options| {
        let journal = device_journal(index)?;
        Device::resume(engine, options, journal, &memory).map_err(|error| error.to_string())
    })?;
    // Of another length of a disk the first housekeeping tells.
    Ok(Stub::resume(xen, server, memory, devices))
}

/// From now on a panic leads to a restart, if the configuration wants that and nobody uses
/// memory of the incarnation before this one any more.
pub fn allow_restart(xen: &Xen) {
    match platform::allow_restart(xen) {
        Ok(true) => info!("a panic will be followed by a restart in place"),
        Ok(false) => {}
        Err(pages) => warn!("no further restart: {pages} pages of the incarnation before are still in use"),
    }
}

/// The memory of a guest that grants it, and who keeps its rings.
fn grant(xen: &Xen, config: &Config) -> Result<(Memory, Rc<dyn RingKeeper>), String> {
    let granted = platform::grant_guest(xen, config.target);
    granted.map_err(|errno| format!("no room to map the guest's rings: {errno}"))
}

fn map(xen: &Xen, config: &Config) -> Result<Memory, String> {
    // Of 2 MiB each.
    let chunks = u16::try_from(config.map_mib.div_ceil(2)).unwrap_or(u16::MAX);
    let map = platform::map_guest(xen, config.target, chunks);
    map.map_err(|errno| format!("no room to map the guest's memory: {errno}"))
}

/// A panic that no restart follows must not leave the guest's vCPUs waiting.
fn release_on_panic(teardown: PanicTeardown<Xen>) {
    platform::on_panic(move || {
        let _outcome = teardown.run();
    });
}

fn server_journal() -> Result<ServerJournal, String> {
    let page = platform::journal_page(0).ok_or("no page for the journal")?;
    Ok(ServerJournal::new(page))
}

/// Page 0 is the server's.
fn device_journal(index: usize) -> Result<DeviceJournal, String> {
    let page = platform::journal_page(index.saturating_add(1)).ok_or("no page for the journal")?;
    Ok(DeviceJournal::new(page))
}
