//! Kernel modules: those wanted, with what they depend on, in loading order.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use object::{Object, ObjectSection};

/// A module ready for `insmod`.
#[derive(Debug)]
pub struct Module {
    /// Name as the kernel spells it, with underscores.
    pub name: String,
    /// The uncompressed `.ko` file.
    pub content: Vec<u8>,
}

/// Collects `wanted` from a kernel's module directory, dependencies first. What is
/// built into the kernel is left out.
///
/// # Errors
/// When a module is neither there nor built in.
pub fn collect(modules_dir: &Path, wanted: &[&str]) -> Result<Vec<Module>> {
    let mut files = BTreeMap::new();
    index(&modules_dir.join("kernel"), &mut files)?;
    let builtin_list = fs::read_to_string(modules_dir.join("modules.builtin"))?;
    let builtin: BTreeSet<String> =
        builtin_list.lines().filter_map(|line| module_name(Path::new(line))).collect();
    let mut order = Vec::new();
    let mut seen = BTreeSet::new();
    for name in wanted {
        add(&name.replace('-', "_"), &files, &builtin, &mut seen, &mut order)?;
    }
    Ok(order)
}

fn add(
    name: &str,
    files: &BTreeMap<String, PathBuf>,
    builtin: &BTreeSet<String>,
    seen: &mut BTreeSet<String>,
    order: &mut Vec<Module>,
) -> Result<()> {
    if builtin.contains(name) || !seen.insert(name.to_owned()) {
        return Ok(());
    }
    let Some(path) = files.get(name) else {
        bail!("the kernel has no module {name}");
    };
    let content = read(path)?;
    for dependency in depends(&content)? {
        add(&dependency, files, builtin, seen, order)?;
    }
    order.push(Module { name: name.to_owned(), content });
    Ok(())
}

/// The module's name out of its file name: `kernel/x/xen-evtchn.ko.xz` is `xen_evtchn`.
fn module_name(path: &Path) -> Option<String> {
    let file = path.file_name()?.to_str()?;
    let (stem, _) = file.split_once(".ko")?;
    Some(stem.replace('-', "_"))
}

fn index(dir: &Path, files: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    for entry in fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            index(&path, files)?;
        } else if let Some(name) = module_name(&path) {
            files.insert(name, path);
        }
    }
    Ok(())
}

fn read(path: &Path) -> Result<Vec<u8>> {
    if path.extension().is_none_or(|ext| ext != "xz") {
        return Ok(fs::read(path)?);
    }
    let output = Command::new("xz")
        .arg("-dc")
        .arg(path)
        .stdin(Stdio::null())
        .output()
        .context("cannot run xz; install xz-utils")?;
    if !output.status.success() {
        bail!("{} is damaged", path.display());
    }
    Ok(output.stdout)
}

/// The `depends=` field of a module's `.modinfo` section.
fn depends(content: &[u8]) -> Result<Vec<String>> {
    let file = object::read::elf::ElfFile64::<object::LittleEndian>::parse(content)?;
    let Some(section) = file.section_by_name(".modinfo") else {
        return Ok(Vec::new());
    };
    let info = String::from_utf8_lossy(section.data()?).into_owned();
    Ok(parse_depends(&info))
}

fn parse_depends(info: &str) -> Vec<String> {
    info.split('\0')
        .filter_map(|field| field.strip_prefix("depends="))
        .flat_map(|list| list.split(','))
        .filter(|name| !name.is_empty())
        .map(|name| name.replace('-', "_"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dashes_and_underscores_are_the_same() {
        let path = Path::new("kernel/drivers/xen/xen-evtchn.ko.xz");
        assert_eq!(module_name(path).as_deref(), Some("xen_evtchn"));
        assert_eq!(module_name(Path::new("modules.order")), None);
    }

    #[test]
    fn dependencies_are_read_from_modinfo() {
        let info = "license=GPL\0depends=jbd2,crc-16\0name=ext4\0";
        assert_eq!(parse_depends(info), ["jbd2", "crc_16"]);
        assert!(parse_depends("depends=\0").is_empty());
    }
}
