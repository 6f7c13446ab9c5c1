//! From the command line's disks to devices with their storage.

use crate::platform::Xen;
use alloc::boxed::Box;
use alloc::format;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use backend::blk::rings::{GrantedQueues, budget};
use backend::blk::{Device, DeviceOptions, MAX_QUEUES};
use backend::guest_mem::RingKeeper;
use backend::storage::{AnyStorage, PvDisk, RamDisk};
use backend::stub::Attached;
use config::{Config, DiskConfig, Store};
use drivers::BlkFront;
use drivers::xenstore::Xenstore;
use kernel::Hypervisor;
use log::{info, warn};

/// The storage engines of this image.
pub type Engine = AnyStorage<Xen>;

/// Bounce pages for all PV disks together: 4 MiB.
const POOL_PAGES: u16 = 1024;
/// Bounce pages that one disk can use: beyond that, more depth does not help.
const POOL_PAGES_MAX: u16 = 512;

/// Connects every disk and has `make_device` turn each into a device; the error names the one that
/// failed. `keeper`: who keeps the rings of a guest that grants its memory.
pub fn connect(
    xen: &Xen,
    xs: &mut Xenstore<Xen>,
    config: &Config,
    keeper: Option<Rc<dyn RingKeeper>>,
    make_device: impl Fn(usize, Engine, &DeviceOptions) -> Result<Device<Engine>, String>,
) -> Result<Vec<Attached<Engine>>, String> {
    let pv_disks = config.disks.iter().filter(|disk| matches!(disk.store, Store::Pv(_))).count();
    let share = POOL_PAGES / u16::try_from(pv_disks.max(1)).unwrap_or(u16::MAX);
    let pool_pages = share.min(POOL_PAGES_MAX);
    // A queue for each vCPU. The ioreq server needs their number as well and says why it
    // cannot be learned, so that one queue is good enough here.
    let vcpus = xen.nr_vcpus(config.target).unwrap_or_else(|errno| {
        warn!("cannot count the guest's vCPUs: {errno}");
        1
    });
    let mut queues = u16::try_from(vcpus).unwrap_or(MAX_QUEUES).clamp(1, MAX_QUEUES);
    let mut grants = None;
    if let Some(keeper) = keeper {
        let disks = u32::try_from(config.disks.len()).unwrap_or(u32::MAX);
        let (count, size, seg_max) = budget(disks, queues)
            .ok_or_else(|| format!("{disks} disks need more grants than a guest has"))?;
        info!("grants: {count} queues of {size} requests of {seg_max} segments for each disk");
        queues = count;
        grants = Some(GrantedQueues { keeper, size, seg_max });
    }
    #[cfg(feature = "nbd")]
    // Never dropped: netback may bring frames until the domain ends.
    let way = core::mem::ManuallyDrop::new(crate::network::connect(xen, xs, config)?);
    let attach = |(index, disk): (usize, &DiskConfig)| {
        let named = |why: String| format!("disk {}: {why}", disk.id);
        let engine = match &disk.store {
            &Store::Pv(vdev) => BlkFront::connect(xen, xs, vdev, pool_pages)
                .map(|front| AnyStorage::Pv(Box::new(PvDisk::new(front, disk.backend_timeout_ns))))
                .map_err(|error| named(format!("PV disk {vdev}: {error}")))?,
            &Store::Ram(len_bytes) => RamDisk::new(len_bytes, disk.read_only)
                .map(AnyStorage::Ram)
                .map_err(|error| named(format!("{error}")))?,
            #[cfg(feature = "nbd")]
            Store::Nbd(store) => {
                crate::network::disk(xs, way.as_ref(), (index, disk), store).map_err(named)?
            }
        };
        let options = DeviceOptions {
            serial: disk.serial.clone(),
            read_only: disk.read_only,
            discard: disk.discard,
            queues,
            grants: grants.clone(),
        };
        Ok(Attached {
            mmio: disk.mmio,
            irq: disk.irq,
            device: make_device(index, engine, &options).map_err(named)?,
        })
    };
    config.disks.iter().enumerate().map(attach).collect()
}
