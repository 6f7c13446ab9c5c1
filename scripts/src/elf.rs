//! Which shared libraries a set of ELF programs needs: the closure over DT_NEEDED. And whether a loader would have
//! to change a program before it runs.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use object::LittleEndian;
use object::elf::{DT_NEEDED, FileHeader64, SHF_ALLOC, SHT_DYNAMIC, SHT_REL, SHT_RELA, SHT_RELR};
use object::read::elf::{Dyn, FileHeader, SectionHeader};

/// The libraries `programs` need, by file name, each with its path under one of `dirs`.
///
/// # Errors
/// When a file is not a 64-bit ELF or a library is found nowhere.
pub fn closure(programs: &[PathBuf], dirs: &[PathBuf]) -> Result<BTreeMap<String, PathBuf>> {
    let mut found = BTreeMap::new();
    let mut queue: Vec<PathBuf> = programs.to_vec();
    let mut seen = BTreeSet::new();
    while let Some(path) = queue.pop() {
        for name in needed(&path)? {
            if !seen.insert(name.clone()) {
                continue;
            }
            let Some(library) = dirs.iter().map(|dir| dir.join(&name)).find(|p| p.exists()) else {
                bail!("{} needs {name}, which no package brought", path.display());
            };
            queue.push(library.clone());
            found.insert(name, library);
        }
    }
    Ok(found)
}

/// The DT_NEEDED entries of one file; none for a script.
fn needed(path: &Path) -> Result<Vec<String>> {
    let data = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    if !data.starts_with(b"\x7fELF") {
        return Ok(Vec::new());
    }
    parse(&data).with_context(|| format!("{} is no 64-bit ELF file", path.display()))
}

fn parse(data: &[u8]) -> Result<Vec<String>> {
    let header = FileHeader64::<LittleEndian>::parse(data)?;
    let endian = header.endian()?;
    let sections = header.sections(endian, data)?;
    let Some((entries, link)) = sections.dynamic(endian, data)? else {
        return Ok(Vec::new());
    };
    let strings = sections.strings(endian, data, link)?;
    let mut names = Vec::new();
    for entry in entries.iter().filter(|entry| entry.tag32(endian) == Some(DT_NEEDED)) {
        names.push(String::from_utf8_lossy(entry.string(endian, strings)?).into_owned());
    }
    Ok(names)
}

/// The sections by which a loader would change the program in memory before it runs: relocations, and the dynamic
/// section, which leads to them. A raw image has no loader.
///
/// # Errors
/// When it is not a 64-bit ELF.
pub fn for_a_loader(data: &[u8]) -> Result<Vec<String>> {
    let header = FileHeader64::<LittleEndian>::parse(data)?;
    let endian = header.endian()?;
    let sections = header.sections(endian, data)?;
    let wants_loader = |section: &&object::elf::SectionHeader64<LittleEndian>| {
        let kinds = [SHT_REL, SHT_RELA, SHT_RELR, SHT_DYNAMIC];
        kinds.contains(&section.sh_type(endian))
            && section.sh_flags(endian) & u64::from(SHF_ALLOC) != 0
            && section.sh_size(endian) > 0
    };
    let name = |section| Ok(String::from_utf8_lossy(sections.section_name(endian, section)?).into_owned());
    sections.iter().filter(wants_loader).map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_a_loader_has_to_relocate_is_told() {
        // Rust links its tests so that they run at any address.
        let itself = fs::read(std::env::current_exe().unwrap()).unwrap();
        let sections = for_a_loader(&itself).unwrap();
        assert!(sections.iter().any(|name| name.starts_with(".rela")), "{sections:?}");
        assert!(sections.iter().any(|name| name == ".dynamic"), "{sections:?}");
        assert!(for_a_loader(b"no program").is_err());
    }
}
