//! Attacks by chains of descriptors: loops, lengths, directions, indirect tables.

use super::Attack;
use super::rings::NOWHERE;
use super::site::{F_INDIRECT_DESC, HEADER, IN, OUT, SECTOR, SIZE, Settled, Site};
use crate::virtio::{DESC_INDIRECT, DESC_NEXT, DESC_WRITE, Descriptor};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

pub(super) const ATTACKS: &[Attack] = &[
    Attack { name: "loop-of-one", tries: "a descriptor that is followed by itself", run: loop_of_one },
    Attack { name: "loop-of-all", tries: "a loop through the whole table", run: loop_of_all },
    Attack {
        name: "next-beyond-the-table",
        tries: "a chain that leaves the table",
        run: next_beyond_the_table,
    },
    Attack { name: "longest-chain", tries: "a chain of the whole table, a byte each", run: longest_chain },
    Attack {
        name: "empty-descriptors",
        tries: "descriptors of no bytes everywhere in a chain",
        run: empty_descriptors,
    },
    Attack {
        name: "enormous-lengths",
        tries: "descriptors of 4 GiB, and of lengths that wrap",
        run: enormous_lengths,
    },
    Attack { name: "flags", tries: "every flag of a descriptor", run: flags },
    Attack {
        name: "indirect-refused",
        tries: "an indirect table that was not negotiated",
        run: indirect_refused,
    },
    Attack { name: "indirect-in-indirect", tries: "a table within a table", run: indirect_in_indirect },
    Attack { name: "indirect-loop", tries: "a loop within a table", run: indirect_loop },
    Attack {
        name: "indirect-lengths",
        tries: "tables of no, odd and enormous lengths",
        run: indirect_lengths,
    },
    Attack { name: "indirect-nowhere", tries: "tables where no memory is", run: indirect_nowhere },
    Attack {
        name: "indirect-with-next",
        tries: "a table with more descriptors behind it",
        run: indirect_with_next,
    },
    Attack {
        name: "indirect-written",
        tries: "a table that the request itself overwrites",
        run: indirect_written,
    },
    Attack {
        name: "directions",
        tries: "written where it reads, read where it writes, both mixed",
        run: directions,
    },
];

fn loop_of_one(site: &mut Site<'_>) -> Result<(), String> {
    site.live(0)?;
    site.write_header(IN, 0)?;
    site.offer(&[site.header_desc(0)])?;
    site.needs_reset()
}

fn loop_of_all(site: &mut Site<'_>) -> Result<(), String> {
    site.live(0)?;
    site.write_header(OUT, 0)?;
    let table: Vec<Descriptor> =
        (0..SIZE).map(|index| site.data_desc(OUT, SECTOR, (index + 1) % SIZE)).collect();
    site.offer(&table)?;
    site.needs_reset()
}

fn next_beyond_the_table(site: &mut Site<'_>) -> Result<(), String> {
    for next in [SIZE, 0x7fff, u16::MAX] {
        site.live(0)?;
        site.write_header(IN, 0)?;
        site.offer(&[site.header_desc(1), site.data_desc(IN, SECTOR, next)])?;
        site.needs_reset().map_err(|why| format!("next {next}: {why}"))?;
    }
    Ok(())
}

fn longest_chain(site: &mut Site<'_>) -> Result<(), String> {
    for kind in [IN, OUT] {
        site.live(0)?;
        site.write_header(kind, 0)?;
        let mut chain: Vec<Descriptor> = (0..SIZE).map(|at| site.data_desc(kind, 1, at + 1)).collect();
        chain[0] = site.header_desc(1);
        chain[usize::from(SIZE) - 1] = site.status_desc();
        site.offer(&chain)?;
        // 62 bytes are no sector.
        site.refused()?;
    }
    Ok(())
}

fn empty_descriptors(site: &mut Site<'_>) -> Result<(), String> {
    let before: [fn(&Site<'_>) -> Vec<Descriptor>; 3] = [
        |site| {
            Vec::from([
                site.data_desc(OUT, 0, 1),
                site.header_desc(2),
                site.data_desc(IN, SECTOR, 3),
                site.status_desc(),
            ])
        },
        |site| {
            Vec::from([
                site.header_desc(1),
                site.data_desc(IN, 0, 2),
                site.data_desc(IN, SECTOR, 3),
                site.status_desc(),
            ])
        },
        |site| {
            Vec::from([
                site.header_desc(1),
                site.data_desc(IN, SECTOR, 2),
                Descriptor { len: 0, ..site.status_desc() },
            ])
        },
    ];
    for chain in before {
        site.live(0)?;
        site.write_header(IN, 0)?;
        site.offer(&chain(site))?;
        site.settled()?;
    }
    Ok(())
}

fn enormous_lengths(site: &mut Site<'_>) -> Result<(), String> {
    for kind in [IN, OUT] {
        for (addr, len) in [
            (site.data.addr(), u32::MAX),
            (site.data.addr(), 0x8000_0000),
            (u64::MAX, 1),
            (u64::MAX - 511, SECTOR),
            (u64::MAX - 100, SECTOR),
            (u64::MAX - 0xffff, u32::MAX),
            (site.data.addr(), 0x4000_0000),
        ] {
            site.live(0)?;
            let data = Descriptor { addr, ..site.data_desc(kind, len, 2) };
            site.request_with(kind, 0, data)?;
            site.refused().map_err(|why| format!("{len:#x} bytes at {addr:#x}: {why}"))?;
        }
    }
    Ok(())
}

fn flags(site: &mut Site<'_>) -> Result<(), String> {
    for bit in 0..16 {
        for place in 0..3_usize {
            site.live(0)?;
            site.write_header(IN, 0)?;
            let mut chain = [site.header_desc(1), site.data_desc(IN, SECTOR, 2), site.status_desc()];
            chain[place].flags ^= 1 << bit;
            site.offer(&chain)?;
            site.settled().map_err(|why| format!("flag {bit} of {place}: {why}"))?;
        }
    }
    Ok(())
}

/// A chain of one descriptor, which is an indirect table of `len` bytes at `addr`.
fn table_at(site: &mut Site<'_>, addr: u64, len: u32) -> Result<(), String> {
    site.offer(&[Descriptor { addr, len, flags: DESC_INDIRECT, next: 0 }])
}

/// The same with what the table's page holds: a good request of three descriptors.
fn good_table(site: &mut Site<'_>) -> Result<(), String> {
    site.write_header(IN, 0)?;
    for (index, desc) in (0..).zip([site.header_desc(1), site.data_desc(IN, SECTOR, 2), site.status_desc()]) {
        desc.write(&site.table, index)?;
    }
    Ok(())
}

fn indirect_refused(site: &mut Site<'_>) -> Result<(), String> {
    site.live(0)?;
    good_table(site)?;
    table_at(site, site.table.addr(), 48)?;
    site.needs_reset()
}

fn indirect_in_indirect(site: &mut Site<'_>) -> Result<(), String> {
    site.live(F_INDIRECT_DESC)?;
    good_table(site)?;
    let inner = Descriptor { addr: site.table.addr(), len: 48, flags: DESC_INDIRECT | DESC_NEXT, next: 2 };
    inner.write(&site.table, 1)?;
    table_at(site, site.table.addr(), 48)?;
    site.needs_reset()
}

fn indirect_loop(site: &mut Site<'_>) -> Result<(), String> {
    site.live(F_INDIRECT_DESC)?;
    good_table(site)?;
    site.data_desc(IN, SECTOR, 0).write(&site.table, 1)?;
    table_at(site, site.table.addr(), 48)?;
    site.needs_reset()
}

fn indirect_lengths(site: &mut Site<'_>) -> Result<(), String> {
    for len in [0, 1, 15, 17, 47, 0xffff_fff0, u32::MAX, 0x1_0000, 1 << 20] {
        site.live(F_INDIRECT_DESC)?;
        good_table(site)?;
        table_at(site, site.table.addr(), len)?;
        site.settled().map_err(|why| format!("{len} bytes: {why}"))?;
    }
    Ok(())
}

fn indirect_nowhere(site: &mut Site<'_>) -> Result<(), String> {
    for addr in NOWHERE {
        site.live(F_INDIRECT_DESC)?;
        table_at(site, addr, 48)?;
        site.refused().map_err(|why| format!("at {addr:#x}: {why}"))?;
    }
    Ok(())
}

fn indirect_with_next(site: &mut Site<'_>) -> Result<(), String> {
    site.live(F_INDIRECT_DESC)?;
    good_table(site)?;
    let table = Descriptor { addr: site.table.addr(), len: 48, flags: DESC_INDIRECT | DESC_NEXT, next: 1 };
    site.offer(&[table, site.data_desc(IN, SECTOR, 2), site.status_desc()])?;
    site.settled().map(|_| ())
}

fn indirect_written(site: &mut Site<'_>) -> Result<(), String> {
    for _ in 0..16 {
        site.live(F_INDIRECT_DESC)?;
        good_table(site)?;
        let over = Descriptor { addr: site.table.addr(), ..site.data_desc(IN, SECTOR, 2) };
        over.write(&site.table, 1)?;
        table_at(site, site.table.addr(), 48)?;
        if site.settled()? != Settled::Answered(0) {
            return Err(String::from("a read into its own table failed"));
        }
    }
    Ok(())
}

fn directions(site: &mut Site<'_>) -> Result<(), String> {
    for (kind, wrong) in [(IN, OUT), (OUT, IN)] {
        site.live(0)?;
        site.request_with(kind, 0, site.data_desc(wrong, SECTOR, 2))?;
        site.refused().map_err(|why| format!("type {kind}: {why}"))?;
    }
    site.live(0)?;
    site.write_header(IN, 0)?;
    // Writable before readable.
    let header = Descriptor { addr: site.header.addr(), len: HEADER, flags: DESC_NEXT, next: 2 };
    let status = Descriptor { flags: DESC_NEXT | DESC_WRITE, next: 1, ..site.status_desc() };
    site.offer(&[status, header, site.data_desc(IN, SECTOR, 3), site.status_desc()])?;
    site.settled().map(|_| ())
}
