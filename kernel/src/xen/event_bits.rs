//! The bits in which Xen notes events (2-level): clear first, then look for work.

use super::hypervisor::Port;
use crate::mem::shared::{Order, SharedPage, full_barrier};
use xen_pv_sys::xen::shared_info;

/// The word of `evtchn_pending` that holds `port`, and its bit there.
fn place(port: Port) -> Option<(usize, u64)> {
    if port.0 >= shared_info::NR_EVENT_CHANNELS {
        return None;
    }
    Some((shared_info::EVTCHN_PENDING + port.0 as usize / 64 * 8, 1 << (port.0 % 64)))
}

/// Whether the port has an event, by the `shared_info` page.
pub fn is_pending(shared_info: &SharedPage, port: Port) -> bool {
    place(port).is_some_and(|(offset, bit)| {
        shared_info.load::<u64>(offset, Order::AcqRel).is_ok_and(|word| word & bit != 0)
    })
}

/// Clears the port's bit and tells whether it was set. A full barrier follows: what is looked for after
/// it is as new as the bit.
pub fn take_pending(shared_info: &SharedPage, port: Port) -> bool {
    // Look before writing: most ports are quiet, and Xen writes the same word.
    let taken = is_pending(shared_info, port)
        && place(port).is_some_and(|(offset, bit)| {
            shared_info.fetch_and_not(offset, bit).is_ok_and(|word| word & bit != 0)
        });
    full_barrier();
    taken
}
