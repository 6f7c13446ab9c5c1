//! What an ordinary guest writes. Its disk waits at a stub of its own all the time.

use super::{Attack, Site};
use alloc::format;
use alloc::string::String;
use drivers::xenstore::StoreError;

/// Every attack.
pub const ATTACKS: &[Attack] = &[
    Attack {
        name: "own-frontend",
        tries: "its disk's frontend nodes are set to anything",
        run: own_frontend,
    },
    Attack {
        name: "own-frontend-gone",
        tries: "its disk's frontend nodes are removed",
        run: own_frontend_gone,
    },
    Attack {
        name: "own-frontend-many",
        tries: "disks that nobody gave it appear among its frontends",
        run: own_frontend_many,
    },
    Attack {
        name: "as-a-stub",
        tries: "it says of itself what only a stub says: failed, restarts, an error",
        run: as_a_stub,
    },
    Attack { name: "own-control", tries: "its control nodes are set to anything", run: own_control },
    Attack {
        name: "its-backend",
        tries: "the nodes of its disk that dom0 owns: state, params, and new ones",
        run: its_backend,
    },
    Attack {
        name: "libxls-copy",
        tries: "libxl's copy of its disk, by which the daemon judges the nodes that dom0 owns",
        run: libxls_copy,
    },
    Attack { name: "the-records", tries: "the daemon's records are read and written", run: the_records },
    Attack { name: "its-name", tries: "its own name, UUID and memory", run: its_name },
    Attack { name: "anothers", tries: "the directory of another guest, and its disks'", run: anothers },
    Attack { name: "quota", tries: "nodes until xenstored refuses, then all are removed", run: quota },
];

const FRONTEND: &str = "device/virtio_disk/51712";

fn own_frontend(site: &mut Site) -> Result<(), String> {
    site.write_all(FRONTEND, &["state", "backend", "backend-id", "frontend", "base", "irq", "x"])
}

fn own_frontend_gone(site: &mut Site) -> Result<(), String> {
    for path in [FRONTEND, "device/virtio_disk"] {
        match site.store.rm(path) {
            Ok(()) | Err(StoreError::Refused(_)) => {}
            Err(why) => return Err(format!("{path}: {why:?}")),
        }
    }
    Ok(())
}

fn own_frontend_many(site: &mut Site) -> Result<(), String> {
    for disk in 0..40 {
        site.write(&format!("device/virtio_disk/{disk}/state"), b"1")?;
    }
    site.write_all("device/virtio_disk/+51712", &["state", "backend"])
}

fn as_a_stub(site: &mut Site) -> Result<(), String> {
    site.write_all("data/pilotfish", &["state", "error", "restarts", "last_panic", "ready_us", "config"])?;
    site.write("data/pilotfish/state", b"failed")
}

fn own_control(site: &mut Site) -> Result<(), String> {
    site.write_all("control", &["shutdown", "sysrq", "platform-feature-xs_reset_watches"])
}

fn its_backend(site: &mut Site) -> Result<(), String> {
    let dir = format!("/local/domain/0/backend/virtio_disk/{}", site.domain);
    site.refused(
        &["51712/state", "51712/params", "51712/online", "51728/state"].map(|key| format!("{dir}/{key}")),
    )
}

fn libxls_copy(site: &mut Site) -> Result<(), String> {
    let dir = format!("/libxl/{}/device/virtio_disk/51712", site.domain);
    site.refused(&["params", "backend"].map(|key| format!("{dir}/{key}")))
}

fn the_records(site: &mut Site) -> Result<(), String> {
    let own = format!("/tool/pilotfish/{}", site.domain);
    let paths = [format!("{own}/state"), format!("{own}/uuid"), String::from("/tool/pilotfish/last-error")];
    site.refused(&paths)?;
    site.unreadable(&paths)
}

fn its_name(site: &mut Site) -> Result<(), String> {
    let dir = format!("/local/domain/{}", site.domain);
    site.refused(&["name", "vm", "memory/static-max", "domid"].map(|key| format!("{dir}/{key}")))
}

fn anothers(site: &mut Site) -> Result<(), String> {
    let other = site.other.clone();
    site.refused(&[
        format!("/local/domain/{other}/data/x"),
        format!("/local/domain/{other}/device/virtio_disk/51712/state"),
        format!("/local/domain/0/backend/virtio_disk/{other}/51712/state"),
    ])
}

/// More than xenstored lets a domain have by default (1000 nodes).
const NODES: u32 = 1200;

fn quota(site: &mut Site) -> Result<(), String> {
    let mut refused = None;
    for node in 0..NODES {
        if let Err(why) = site.store.write(&format!("data/{node}"), b"1") {
            refused = Some(why);
            break;
        }
    }
    for node in 0..NODES {
        let _ = site.store.rm(&format!("data/{node}"));
    }
    match refused {
        Some(StoreError::Refused(_)) => Ok(()),
        other => Err(format!("{NODES} nodes: {other:?}")),
    }
}
