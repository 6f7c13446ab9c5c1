//! Device trees as libxl makes them, and broken ones.

use super::tree::{parse, without};
use super::{BootError, BootInfo, MAX_CMDLINE_BYTES};
use alloc::vec::Vec;
use dtoolkit::model::{DeviceTree, DeviceTreeNode, DeviceTreeProperty};
use proptest::prelude::*;

const RAM: (u64, u64) = (0x4000_0000, 0x100_0000);
const GRANTS: (u64, u64) = (0x3800_0000, 0x100_0000);
const HOLE: (u64, u64) = (0x4100_0000, 0xbf00_0000);

fn cells(regions: &[(u64, u64)]) -> Vec<u8> {
    regions.iter().flat_map(|(base, size)| [base.to_be_bytes(), size.to_be_bytes()].concat()).collect()
}

fn property(name: &str, value: &[u8]) -> DeviceTreeProperty {
    DeviceTreeProperty::new(name, value).expect("a valid name")
}

fn node(name: &str, key: &str, value: &[u8]) -> DeviceTreeNode {
    DeviceTreeNode::builder(name).expect("a valid name").property(property(key, value)).build()
}

fn tree(ram: &[(u64, u64)], xen: &[(u64, u64)], cmdline: &str) -> &'static [u8] {
    let mut tree = DeviceTree::new();
    for name in ["#address-cells", "#size-cells"] {
        tree.root.add_property(property(name, &2u32.to_be_bytes()));
    }
    tree.root.add_child(node("chosen", "bootargs", &[cmdline.as_bytes(), b"\0"].concat()));
    tree.root.add_child(node("memory@40000000", "reg", &cells(ram)));
    tree.root.add_child(node("hypervisor", "reg", &cells(xen)));
    Vec::leak(tree.to_dtb())
}

#[test]
fn a_tree_of_libxl_yields_ram_command_line_and_unused_addresses() {
    let tree = tree(&[RAM], &[GRANTS, HOLE], "target=5 log=debug");
    let boot = parse(tree, 7).expect("well-formed");
    assert_eq!(
        boot,
        BootInfo {
            cmdline: "target=5 log=debug",
            ram: 0x4000_0000..0x4100_0000,
            unused: [0x4100_0000..0x1_0000_0000, 0..0],
            device_tree: tree,
            entry_counter: 7,
        }
    );
    assert_eq!(boot.option("log"), Some("debug"));
    assert_eq!(boot.option("target"), Some("5"));
    assert_eq!(boot.option("targ"), None);
    assert_eq!(boot.option("disk"), None);
}

#[test]
fn unused_addresses_are_whole_blocks_beyond_ram() {
    // Below RAM, then too small for a block, then odd at both ends.
    let xen = [GRANTS, (0x2000_0000, 0x1000_0000), (0x4110_0000, 0x10_0000), (0x5010_0000, 0x60_0000)];
    let boot = parse(tree(&[RAM], &xen, ""), 0).expect("well-formed");
    assert_eq!(boot.unused, [0x5020_0000..0x5060_0000, 0..0]);
    let xen = [GRANTS, HOLE, (0x2_0000_0000, 0x40_0000_0000), (0x80_0000_0000, 0x4000_0000)];
    let boot = parse(tree(&[RAM], &xen, ""), 0).expect("well-formed");
    assert_eq!(boot.unused, [0x4100_0000..0x1_0000_0000, 0x2_0000_0000..0x42_0000_0000]);
}

#[test]
fn trees_that_lack_what_we_need_are_refused() {
    assert_eq!(parse(&[], 0), Err(BootError::Malformed));
    assert_eq!(parse(&[0; 64], 0), Err(BootError::Malformed));
    assert_eq!(parse(tree(&[], &[GRANTS, HOLE], ""), 0), Err(BootError::NoMemory));
    assert_eq!(parse(tree(&[(0x4000_0000, 0)], &[GRANTS, HOLE], ""), 0), Err(BootError::NoMemory));
    // A size that wraps around.
    assert_eq!(parse(tree(&[(0x4000_0000, u64::MAX)], &[GRANTS, HOLE], ""), 0), Err(BootError::NoMemory));
    assert_eq!(parse(tree(&[RAM], &[GRANTS], ""), 0), Err(BootError::NoExtendedRegion));
    let long = "x".repeat(MAX_CMDLINE_BYTES + 1);
    assert_eq!(parse(tree(&[RAM], &[GRANTS, HOLE], &long), 0), Err(BootError::CmdlineTooLong(2049)));
}

#[test]
fn a_truncated_tree_is_refused_at_every_length() {
    let whole = tree(&[RAM], &[GRANTS, HOLE], "target=5");
    for len in 0..whole.len() {
        assert!(parse(&whole[..len], 0).is_err());
    }
}

proptest! {
    #[test]
    fn no_tree_makes_the_reader_panic(
        changes in proptest::collection::vec((0..308usize, any::<u8>()), 1..6),
        len in 0..=308usize,
    ) {
        let mut bytes = tree(&[RAM], &[GRANTS, HOLE], "target=5 log=debug").to_vec();
        for (at, byte) in changes {
            if let Some(place) = bytes.get_mut(at) {
                *place = byte;
            }
        }
        bytes.truncate(len);
        // Whatever it says: RAM is not empty, and no range is backwards.
        if let Ok(boot) = parse(Vec::leak(bytes), 0) {
            prop_assert!(boot.ram.start < boot.ram.end);
            prop_assert!(boot.unused.iter().all(|range| range.start <= range.end));
        }
    }
}

#[test]
fn the_heap_keeps_clear_of_the_device_tree() {
    assert_eq!(without(10..100, &(90..100)), 10..90);
    assert_eq!(without(10..100, &(10..20)), 20..100);
    assert_eq!(without(10..100, &(20..30)), 30..100);
    assert_eq!(without(10..100, &(5..50)), 50..100);
    assert_eq!(without(10..100, &(95..200)), 10..95);
    assert_eq!(without(10..100, &(0..10)), 10..100);
    assert_eq!(without(10..100, &(100..110)), 10..100);
    assert!(without(10..100, &(0..200)).is_empty());
}
