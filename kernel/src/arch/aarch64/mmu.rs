//! Translation tables: an identity map in which nothing is both writable and executable.
//!
//! 39-bit addresses, 4 KiB granule. The image's own 2 MiB are mapped by pages, each part with
//! its rights and with holes below the stacks; everything else by blocks of data of 2 MiB or 1 GiB. The
//! tables are static: nothing is allocated, and entries are only ever added. All memory is
//! Normal, write-back, inner shareable, as Xen's ABI asks; only registers are Device memory.

use super::super::{BLOCK_SIZE, MapError};
use super::{barrier, image};
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicUsize, Ordering};

const ENTRIES: usize = 512;
const PAGE_SIZE: u64 = 4096;
/// Level 2 tables, 1 GiB each: magic pages and grants, RAM, the ends of the foreign window, and spare.
const LEVEL2_TABLES: usize = 6;
/// Start of the first address that 512 level 1 entries do not cover.
const LIMIT: u64 = 512 << 30;

const VALID: u64 = 1;
/// At levels 1 and 2: points to a table. At level 3: is a page.
const TABLE_OR_PAGE: u64 = 1 << 1;
/// Attribute index 0 (Normal write-back, see `mair`), inner shareable, access flag set.
const NORMAL: u64 = (3 << 8) | (1 << 10);
const READ_ONLY: u64 = 1 << 7;
/// Never executable at EL1 or EL0.
const NO_EXECUTE: u64 = (1 << 53) | (1 << 54);
/// EL0 does not exist here; code is for EL1 alone.
const NO_USER_EXECUTE: u64 = 1 << 54;

const CODE: u64 = NORMAL | READ_ONLY | NO_USER_EXECUTE;
const CONSTANT: u64 = NORMAL | READ_ONLY | NO_EXECUTE;
const DATA: u64 = NORMAL | NO_EXECUTE;
/// Attribute index 1 (Device-nGnRE, see `mair`), access flag set.
#[cfg(feature = "guest")]
const REGISTERS: u64 = (1 << 2) | (1 << 10) | NO_EXECUTE;

#[repr(C, align(4096))]
struct Table([u64; ENTRIES]);

#[repr(C)]
struct Tables {
    level1: Table,
    level2: [Table; LEVEL2_TABLES],
    /// Of the image's own 2 MiB.
    level3: Table,
}

struct Global(UnsafeCell<Tables>);

// SAFETY: there is one vCPU and no interrupt handler, so nothing runs concurrently with the
// functions below; the table walker only reads.
unsafe impl Sync for Global {}

const EMPTY: Table = Table([0; ENTRIES]);
// Kept over a restart in place: the MMU goes on using them.
#[unsafe(link_section = ".bss.kept.tables")]
static TABLES: Global =
    Global(UnsafeCell::new(Tables { level1: EMPTY, level2: [EMPTY; LEVEL2_TABLES], level3: EMPTY }));
/// Level 2 tables in use.
#[unsafe(link_section = ".bss.kept.tables_used")]
static USED: AtomicUsize = AtomicUsize::new(0);

/// Runs `change` on the tables.
fn with_tables<R>(change: impl FnOnce(&mut Tables) -> R) -> R {
    // SAFETY: one vCPU, no interrupts, and `change` (all callers are in this file) does not
    // call back into this function: the borrow is unique.
    let result = change(unsafe { &mut *TABLES.0.get() });
    barrier::after_table_write();
    result
}

fn index(address: u64, level_shift: u32) -> usize {
    ((address >> level_shift) & 511) as usize
}

impl Tables {
    /// The level 2 table for `address`, below [`LIMIT`]: a new one if there is none yet.
    fn level2(&mut self, address: u64) -> Result<&mut Table, MapError> {
        let entry = &mut self.level1.0[index(address, 30)];
        let first = self.level2.as_ptr().addr() as u64;
        if *entry & (TABLE_OR_PAGE | VALID) == VALID {
            return Err(MapError::Taken(address));
        }
        if *entry == 0 {
            let used = USED.load(Ordering::Relaxed);
            if used == LEVEL2_TABLES {
                return Err(MapError::NoTable(address));
            }
            USED.store(used + 1, Ordering::Relaxed);
            *entry = (first + used as u64 * PAGE_SIZE) | TABLE_OR_PAGE | VALID;
        }
        let at = (((*entry & !(PAGE_SIZE - 1)) - first) / PAGE_SIZE) as usize;
        self.level2.get_mut(at).ok_or(MapError::NoTable(address))
    }

    fn map_block(&mut self, address: u64, size: u64, rights: u64) -> Result<(), MapError> {
        if !address.is_multiple_of(size) {
            return Err(MapError::Unaligned(address));
        }
        if address >= LIMIT {
            return Err(MapError::TooHigh(address));
        }
        let entry = if size == BLOCK_SIZE {
            &mut self.level2(address)?.0[index(address, 21)]
        } else {
            &mut self.level1.0[index(address, 30)]
        };
        if *entry != 0 {
            return Err(MapError::Taken(address));
        }
        *entry = address | rights | VALID;
        Ok(())
    }
}

/// Maps a block of `size` bytes, 2 MiB or 1 GiB, as data, readable and writable.
///
/// Sound for any address: entries are only added, never changed, and never executable. What
/// the addresses mean is the concern of whoever makes a pointer to them.
///
/// # Errors
/// See [`MapError`].
pub(crate) fn map_block(address: u64, size: u64) -> Result<(), MapError> {
    with_tables(|tables| tables.map_block(address, size, DATA))
}

/// Maps the 2 MiB at `base` as registers: single accesses, in order, none of them invented.
///
/// # Errors
/// See [`MapError`].
#[cfg(feature = "guest")]
pub(crate) fn map_registers(base: u64) -> Result<(), MapError> {
    with_tables(|tables| tables.map_block(base, BLOCK_SIZE, REGISTERS))
}

/// Fills the tables for the image itself and returns the level 1 table's address.
///
/// Runs with the MMU off, once, from the entry code: plain aligned stores only.
pub(super) extern "C" fn build_image_map() -> u64 {
    let layout = image::layout();
    with_tables(|tables| {
        for page in 0..ENTRIES as u64 {
            let address = layout.start + page * PAGE_SIZE;
            let rights = if address < layout.text_end {
                CODE
            } else if address < layout.rodata_end {
                CONSTANT
            } else if address == layout.guard_low || address == layout.guard_high {
                continue;
            } else {
                DATA
            };
            tables.level3.0[index(address, 12)] = address | rights | TABLE_OR_PAGE | VALID;
        }
        let level3 = (&raw const tables.level3).addr() as u64;
        if let Ok(level2) = tables.level2(layout.start) {
            level2.0[index(layout.start, 21)] = level3 | TABLE_OR_PAGE | VALID;
        }
        (&raw const tables.level1).addr() as u64
    })
}
