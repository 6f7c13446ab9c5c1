//! Keys of TLS on their way to a stub: in nodes that dom0 and the stub alone can read, from before it runs until it has
//! taken them.

use anyhow::{Context, Result};
use zeroize::Zeroizing;

use super::seed::digits;
use crate::disk::disk_file::DiskStorage;
use crate::disk::target::Disk;
use crate::xenstore::{Store, paths};

/// Bytes of a stub's seed.
const SEED_BYTES: usize = 32;

/// Puts the keys of `disks` where `stub` reads them, each with a seed of its own. It must not run yet.
///
/// # Errors
/// A key's file or xenstore fails. Keys may be there then.
pub fn hand_over(store: &dyn Store, stub: u16, disks: &[Disk]) -> Result<()> {
    for disk in disks {
        let DiskStorage::Nbd { tls: Some(key), .. } = &disk.storage else { continue };
        let named = || format!("disk {}", disk.node.label());
        let (seed, key) = (digits::<SEED_BYTES>()?, key.read().with_context(named)?);
        let mut words = Zeroizing::new(String::with_capacity(seed.len() + 1 + key.len()));
        words.push_str(&seed);
        words.push(' ');
        words.push_str(&key);
        store.write_for(stub, &paths::tls_key(stub, disk.node.disk), &words).with_context(named)?;
    }
    Ok(())
}

/// Removes the keys of `stub`, if there are any.
///
/// # Errors
/// xenstore fails.
pub fn withdraw(store: &dyn Store, stub: u16) -> Result<()> {
    let keys = paths::tls_keys(stub);
    if store.read(&keys)?.is_none() && store.list(&keys)?.is_empty() {
        return Ok(());
    }
    store.remove(&keys).with_context(|| format!("{keys}: the key of TLS stays in xenstore"))
}

/// Removes what a daemon that was killed has left of keys, whatever domain they were for.
///
/// # Errors
/// xenstore fails.
pub fn withdraw_all(store: &dyn Store) -> Result<()> {
    for domid in store.list(paths::DOMAINS)?.iter().filter_map(|name| name.parse().ok()) {
        withdraw(store, domid)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::nbd::{Export, Network};
    use crate::disk::node::DiskNode;
    use crate::disk::tls_key::TlsKey;
    use crate::fake::World;
    use std::fs::File;
    use std::os::unix::fs::OpenOptionsExt;

    const HEX: &str = "00112233445566778899aabbccddeeff";

    fn disk(number: u32, file: Option<&str>) -> Disk {
        let network = Network::parse("10.0.0.6/24", None, None).unwrap();
        let export = Export::parse("nbd://10.0.0.5/x", network.kind(), &|_| Ok(Vec::new())).unwrap();
        let tls = file.map(|file| TlsKey { file: file.to_owned(), identity: None });
        let node = DiskNode { disk: number, name: "xvda".to_owned(), ..DiskNode::default() };
        let storage = DiskStorage::Nbd { export, network, tls };
        Disk { node, storage, serial: None, backend_timeout_ms: None }
    }

    fn key_file(dir: &tempfile::TempDir) -> String {
        let path = dir.path().join("keys");
        let mut file =
            File::options().write(true).create(true).truncate(true).mode(0o600).open(&path).unwrap();
        std::io::Write::write_all(&mut file, format!("web:{HEX}\n").as_bytes()).unwrap();
        path.to_str().unwrap().to_owned()
    }

    #[test]
    fn a_stub_alone_can_read_its_keys_and_no_seed_is_used_twice() {
        let dir = tempfile::tempdir().unwrap();
        let (world, file) = (World::new(), key_file(&dir));
        hand_over(
            &world.store(),
            7,
            &[disk(51712, Some(&file)), disk(51728, None), disk(51744, Some(&file))],
        )
        .unwrap();
        let words = |number: u32| world.get(&paths::tls_key(7, number));
        assert_eq!(words(51728), None);
        let (first, second) = (words(51712).unwrap(), words(51744).unwrap());
        for words in [&first, &second] {
            assert!(words.ends_with(&format!(" {HEX} web")) && tls::Secrets::parse(words).is_some());
        }
        assert_ne!(first[..64], second[..64]);
        for number in [51712, 51744] {
            assert_eq!(world.state().readers.get(&paths::tls_key(7, number)), Some(&7));
        }
        withdraw(&world.store(), 8).unwrap();
        assert!(words(51712).is_some());
        withdraw(&world.store(), 7).unwrap();
        assert_eq!((words(51712), words(51744)), (None, None));
        withdraw(&world.store(), 7).unwrap();
    }

    #[test]
    fn what_a_killed_daemon_left_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let (world, file) = (World::new(), key_file(&dir));
        for stub in [7, 300] {
            hand_over(&world.store(), stub, &[disk(51712, Some(&file))]).unwrap();
        }
        world.set("/local/domain/9/name", "guest");
        withdraw_all(&world.store()).unwrap();
        assert!(world.state().nodes.keys().all(|path| !path.contains("tls")));
        assert_eq!(world.get("/local/domain/9/name").as_deref(), Some("guest"));
    }

    #[test]
    fn a_key_that_cannot_be_read_names_its_disk() {
        let world = World::new();
        let error =
            format!("{:#}", hand_over(&world.store(), 7, &[disk(51712, Some("/no/such"))]).unwrap_err());
        assert!(error.starts_with("disk xvda (51712): tls-psk-file = \"/no/such\": "), "{error}");
    }
}
