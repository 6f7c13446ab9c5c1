//! The stub's command line: any text, and text made of the words it knows.

use crate::Input;
use config::{Config, DISKS_MAX};

const WORDS: [&str; 33] = [
    "target=",
    "disk=",
    "log=",
    "map-mib=",
    " ",
    ",",
    "=",
    "id=",
    "mmio=",
    "irq=",
    "mode=",
    "serial=",
    "store=",
    "pv:",
    "ram:",
    "0x2000000",
    "0x2000200",
    "0x20ffe00",
    "rw",
    "ro",
    "debug",
    "33",
    "43",
    "5",
    "51712",
    "8388608",
    "512",
    "-1",
    "18446744073709551616",
    "abc",
    "\u{e9}",
    "disk=id=1,mmio=0x2000000,irq=33,mode=rw,store=pv:1",
    "target=1 disk=id=2,mmio=0x2000200,irq=34,mode=ro,store=ram:512",
];

fn words(input: &mut Input<'_>) -> String {
    let mut line = String::new();
    while !input.is_empty() && line.len() < 4096 {
        line.push_str(input.choose(&WORDS));
    }
    line
}

/// A line that would be good, but for a few edits.
fn nearly_good(input: &mut Input<'_>) -> String {
    let mut line = format!("target={}", 1 + u16::from(input.u8()));
    for place in 0..input.u8() % 13 {
        let (id, mmio, irq) =
            (51712 + u32::from(place) * 16, 0x200_0000 + u32::from(place) * 0x200, 33 + place);
        let mode = input.choose(&["rw", "ro"]);
        let store = if input.u8() & 1 == 0 { format!("pv:{id}") } else { "ram:8388608".into() };
        line.push_str(&format!(" disk=id={id},mmio={mmio:#x},irq={irq},mode={mode},store={store}"));
        if input.u8() & 1 == 1 {
            let len = input.below(24);
            line.push_str(&format!(",serial={}", String::from_utf8_lossy(input.bytes(len))));
        }
    }
    for _ in 0..input.u8() % 4 {
        let at = usize::from(input.u16()) % (line.len() + 1);
        if line.is_char_boundary(at) {
            line.insert_str(at, input.choose(&WORDS));
        }
    }
    line
}

/// Parses a line and checks what a good one promises. Returns whether it was good.
///
/// # Panics
/// If an accepted configuration breaks a rule, or an error repeats too much of its input.
pub fn config_parse(data: &[u8]) -> bool {
    let mut input = Input::new(data);
    let line = match input.u8() % 4 {
        0 => String::from_utf8_lossy(input.bytes(4096)).into_owned(),
        1 => words(&mut input),
        _ => nearly_good(&mut input),
    };
    match Config::parse(&line) {
        Ok(config) => {
            assert!((1..=DISKS_MAX).contains(&config.disks.len()));
            assert!((2..=65536).contains(&config.map_mib));
            for (place, disk) in config.disks.iter().enumerate() {
                assert!(disk.mmio.is_multiple_of(0x200) && (33..=43).contains(&disk.irq));
                assert!((1..=20).contains(&disk.serial.len()), "{}", disk.serial);
                for other in &config.disks[..place] {
                    assert!(other.id != disk.id && other.mmio != disk.mmio && other.irq != disk.irq);
                }
            }
            true
        }
        Err(error) => {
            assert!(error.value.chars().count() <= 64);
            false
        }
    }
}
