//! The stub's command line: any text, and text made of the words it knows.

use crate::Input;
use backend::Config;
use backend::config::DISKS_MAX;

const WORDS: [&str; 32] = [
    "target=",
    "disk=",
    "log=",
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

/// Parses a line and checks what a good one promises.
///
/// # Panics
/// If an accepted configuration breaks a rule, or an error repeats too much of its input.
pub fn config_parse(data: &[u8]) {
    let mut input = Input::new(data);
    let line = if input.u8() & 1 == 0 {
        String::from_utf8_lossy(input.bytes(4096)).into_owned()
    } else {
        let mut line = String::new();
        while !input.is_empty() && line.len() < 4096 {
            line.push_str(input.choose(&WORDS));
        }
        line
    };
    match Config::parse(&line) {
        Ok(config) => {
            assert!((1..=DISKS_MAX).contains(&config.disks.len()));
            for (place, disk) in config.disks.iter().enumerate() {
                assert!(disk.mmio.is_multiple_of(0x200) && (33..=43).contains(&disk.irq));
                assert!((1..=20).contains(&disk.serial.len()), "{}", disk.serial);
                for other in &config.disks[..place] {
                    assert!(other.id != disk.id && other.mmio != disk.mmio && other.irq != disk.irq);
                }
            }
        }
        Err(error) => assert!(error.value.chars().count() <= 64),
    }
}
