//! The daemon in a fake world in which others write what they like: for the fuzz targets.
//!
//! - [`any_nodes`]: a guest and its stub write what their permissions in xenstore allow, at any moment.
//! - [`any_disk`]: disk lines, image names and disk files of any bytes.
//!
//! Whatever they do:
//! - each xl configuration reads back as exactly what the daemon means (`xl_text`), and each stub has the guest,
//!   the image and the disks that dom0 gave it;
//! - the daemon writes to its own places in xenstore only;
//! - nothing that it writes or logs has a control character;
//! - a bystander's disks are served all the time;
//! - when the guest goes, nothing of it is left.
//!
//! Each panics if one of these rules is broken, and returns whether the guest was served.

mod logged;
mod rig;
mod script;
mod spy;
mod xl_text;

use std::fs;

use rig::Rig;
use script::Script;

/// A guest and its stub write anything to the nodes that they may write to, between any two requests of the daemon.
///
/// # Panics
/// If a rule is broken.
#[must_use]
pub fn any_nodes(bytes: &[u8]) -> bool {
    let mut script = Script::new(bytes);
    let (granted, restarts) = (script.below(2) == 1, script.below(8) == 0);
    let mut rig = Rig::new(script);
    let image = rig.image("a.img");
    let ram = rig.disk_file("ram.pilotfish", b"storage = \"ram\"\nsize = \"1MiB\"");
    let place = rig.guest(granted, &[&image, &ram]);
    rig.hostile(true);
    rig.settle();
    let served = rig.is_served(place);
    if restarts {
        rig.restart();
    }
    rig.settle();
    rig.end(place);
    served
}

/// A disk line that names any path, perhaps of a disk file that holds anything.
///
/// # Panics
/// If a rule is broken.
#[must_use]
pub fn any_disk(bytes: &[u8]) -> bool {
    let mut script = Script::new(bytes);
    let (kind, name) = (script.below(4), script.file_name());
    let (content, vdev) = (script.disk_file(), script.text());
    let mut rig = Rig::new(script);
    let path = match kind {
        // As it is, for what follows it is not there.
        0 => {
            rig.name(&name);
            name
        }
        1 => rig.image(&name),
        _ => {
            let target = rig.image("b.img");
            let content = String::from_utf8_lossy(&content).replace("IMAGE", &target);
            rig.disk_file(&format!("{name}.pilotfish"), content.as_bytes())
        }
    };
    let place = rig.guest(false, &[&path]);
    rig.call_disk(place, &vdev);
    rig.settle();
    let served = rig.is_served(place);
    // A path that is served is one that dom0 named, byte by byte: `spy` has compared.
    assert!(!served || fs::metadata(&path).is_ok(), "{path:?} is served and is not there");
    rig.end(place);
    served
}
