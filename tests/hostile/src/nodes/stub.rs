//! What a stub writes that the daemon has started for a guest.

use super::{Attack, Site};
use alloc::format;
use alloc::string::String;

/// While the daemon waits for it to serve.
pub const BEFORE_IT_SERVES: &[Attack] = &[
    Attack {
        name: "state-nonsense",
        tries: "a state that is none, while it is waited for",
        run: state_nonsense,
    },
    Attack {
        name: "ready-nonsense",
        tries: "what the daemon logs when it serves: how long it took",
        run: ready_nonsense,
    },
];

/// While its guest runs.
pub const WHILE_IT_SERVES: &[Attack] = &[
    Attack { name: "restarts", tries: "restarts that never were, in any number", run: restarts },
    Attack { name: "last-panic", tries: "a reason for its last restart that forges lines", run: last_panic },
    Attack { name: "own-vbd", tries: "the frontend of its PV disk is set to anything", run: own_vbd },
    Attack { name: "own-words", tries: "its own configuration and counters", run: own_words },
    Attack {
        name: "its-guests-backend",
        tries: "dom0's nodes of its guest's disk, and of its own",
        run: its_guests_backend,
    },
    Attack {
        name: "its-guests-nodes",
        tries: "its guest's name, libxl's copy of the disk, the daemon's records",
        run: its_guests_nodes,
    },
    Attack {
        name: "disks-of-its-own",
        tries: "backend directories in its own name, for its guest and for another",
        run: disks_of_its_own,
    },
];

/// The last one: for the daemon its guest's stub has failed.
pub const AT_THE_END: &[Attack] =
    &[Attack { name: "fails", tries: "it says that it failed, by a reason that forges lines", run: fails }];

const SAYS: &str = "data/pilotfish";

fn state_nonsense(site: &mut Site) -> Result<(), String> {
    site.write_all(SAYS, &["state"])
}

fn ready_nonsense(site: &mut Site) -> Result<(), String> {
    site.write_all(SAYS, &["ready_us"])?;
    site.write("data/pilotfish/ready_us", b"1\r\n<0>kernel: forged")
}

fn restarts(site: &mut Site) -> Result<(), String> {
    site.write_all(SAYS, &["restarts"])?;
    for count in 0..200_u32 {
        site.write("data/pilotfish/restarts", format!("{count}").as_bytes())?;
    }
    site.write("data/pilotfish/restarts", b"4294967295")
}

fn last_panic(site: &mut Site) -> Result<(), String> {
    site.write_all(SAYS, &["last_panic", "error"])
}

fn own_vbd(site: &mut Site) -> Result<(), String> {
    site.write_all("device/vbd/51712", &["event-channel", "ring-ref", "protocol", "x", "state"])
}

fn own_words(site: &mut Site) -> Result<(), String> {
    site.write_all(SAYS, &["config", "stats", "ask"])
}

fn its_guests_backend(site: &mut Site) -> Result<(), String> {
    let (guest, own) = (site.other.clone(), site.domain.clone());
    site.refused(&[
        format!("/local/domain/0/backend/virtio_disk/{guest}/51712/state"),
        format!("/local/domain/0/backend/virtio_disk/{guest}/51712/params"),
        format!("/local/domain/0/backend/vbd/{own}/51712/params"),
        format!("/local/domain/0/backend/vbd/{own}/51712/physical-device"),
    ])
}

fn its_guests_nodes(site: &mut Site) -> Result<(), String> {
    let guest = site.other.clone();
    site.refused(&[
        format!("/local/domain/{guest}/name"),
        format!("/local/domain/{guest}/memory/static-max"),
        format!("/libxl/{guest}/device/virtio_disk/51712/params"),
        format!("/tool/pilotfish/{guest}/state"),
    ])
}

fn disks_of_its_own(site: &mut Site) -> Result<(), String> {
    let (guest, own) = (site.other.clone(), site.domain.clone());
    let dir = format!("/local/domain/{own}/backend/virtio_disk");
    site.refused(&[format!("{dir}/{guest}/51712/state"), format!("{dir}/1/51712/state")])
}

fn fails(site: &mut Site) -> Result<(), String> {
    site.write("data/pilotfish/error", b"no memory\r\n<0>kernel: forged\x1b[2J\x07")?;
    site.write("data/pilotfish/state", b"failed")
}
