//! The counts as tables: on the screen, and in the document.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;

use anyhow::Result;

use crate::build::{IMAGE_BYTES_MAX, NET_IMAGE_BYTES_MAX};
use crate::paths;
use crate::tcb::crates::Counted;
use crate::tcb::others::Others;

/// What begins and ends the part of the document that a test compares.
const BEGIN: &str = "<!-- counted from the sources: begin -->\n";
const END: &str = "<!-- counted from the sources: end -->\n";
/// How the names of Xen's operations begin.
const OPERATIONS: [&str; 8] =
    ["EVTCHNOP_", "SCHEDOP_", "XENMEM_", "HVMOP_", "DMOP_", "GNTTABOP_", "VCPUOP_", "XENVER_"];
/// Names that begin so and are no operations.
const NO_OPERATIONS: [&str; 3] = ["XENMEM_RESOURCE_", "DMOP_HEADER_", "DMOP_IO_RANGE_"];
/// Files that speak to xenstore.
const XENSTORE_FILES: [&str; 7] = [
    "drivers/src/blkfront",
    "drivers/src/frontend",
    "drivers/src/netfront",
    "drivers/src/xenbus.rs",
    "image/runtime/src/lib.rs",
    "image/runtime/src/report.rs",
    "image/runtime/src/stats.rs",
];

/// What was counted of each image.
#[derive(Clone, Debug)]
pub struct Images {
    /// The usual one.
    pub usual: Vec<Counted>,
    /// The one with a network.
    pub net: Vec<Counted>,
}

/// A number with commas.
fn number(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// What the image consists of.
///
/// # Errors
/// Never: it writes to a text.
pub fn ours(images: &Images) -> Result<String> {
    let mut text = String::new();
    let counted = images.usual.as_slice();
    rows(&mut text, counted.iter())?;
    for (what, ours) in [("ours", true), ("dependencies", false)] {
        let some = || counted.iter().filter(|one| one.version.is_none() == ours).map(|one| &one.count);
        let lines = some().map(|count| count.lines).sum();
        let files: usize = some().map(|count| count.files.len()).sum();
        let places: u64 = some().map(super::count::Count::unsafe_places).sum();
        writeln!(text, "| **{what}** | | {files} | {} | {places} |", number(lines))?;
    }
    writeln!(text, "\n- Image: at most {} bytes; `cargo xtask build` checks it.", number(IMAGE_BYTES_MAX))?;
    writeln!(text, "- Hypercalls: {}.", list(&names(counted, |name| name.starts_with("HYPERVISOR_"))))?;
    writeln!(text, "- Their operations: {}.", list(&names(counted, is_operation)))?;
    writeln!(
        text,
        "- Words in the code that speaks to xenstore (nodes, parts of their names, values): {}.",
        list(&nodes(counted))
    )?;
    writeln!(text, "- Unsafe of ours, by file:")?;
    let root = paths::root();
    for one in counted.iter().filter(|one| one.version.is_none()) {
        for (file, places) in &one.count.unsafes {
            writeln!(text, "  - `{}`: {places}", file.strip_prefix(&root).unwrap_or(file).display())?;
        }
    }
    writeln!(
        text,
        "\n`pilotfish-net.img`, for disks of NBD servers, has at most {} bytes. It differs in these crates:\n",
        number(NET_IMAGE_BYTES_MAX)
    )?;
    let has = |one: &Counted| {
        counted.iter().any(|other| other.name == one.name && other.count.lines == one.count.lines)
    };
    rows(&mut text, images.net.iter().filter(|one| !has(one)))?;
    Ok(text)
}

fn rows<'a>(text: &mut String, counted: impl Iterator<Item = &'a Counted>) -> Result<()> {
    writeln!(text, "| crate | version | files | lines of code | unsafe |\n|---|---|---:|---:|---:|")?;
    for one in counted {
        let version = one.version.as_deref().unwrap_or("ours");
        let (files, places) = (one.count.files.len(), one.count.unsafe_places());
        writeln!(text, "| `{}` | {version} | {files} | {} | {places} |", one.name, number(one.count.lines))?;
    }
    Ok(())
}

fn list(words: &BTreeSet<String>) -> String {
    words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
}

fn names(counted: &[Counted], wanted: fn(&str) -> bool) -> BTreeSet<String> {
    // The ABI's crate names all there are; what is used is what the kernel names.
    let users = counted.iter().filter(|one| one.version.is_none() && one.name != "xen-pv-sys");
    users.flat_map(|one| &one.count.names).filter(|name| wanted(name)).cloned().collect()
}

fn is_operation(name: &str) -> bool {
    let begins = |with: &[&str]| with.iter().any(|prefix| name.starts_with(prefix));
    begins(&OPERATIONS) && !begins(&NO_OPERATIONS)
}

fn nodes(counted: &[Counted]) -> BTreeSet<String> {
    let root = paths::root();
    let texts = counted.iter().filter(|one| one.version.is_none()).flat_map(|one| &one.count.texts);
    let speaks = |file: &Path| XENSTORE_FILES.iter().any(|name| file.starts_with(root.join(name)));
    let words = texts.filter(|(file, _)| speaks(file)).flat_map(|(_, texts)| texts);
    words.filter(|text| is_node(text)).cloned().collect()
}

/// Whether it can be a name below a domain's own directory: words with dashes and slashes.
fn is_node(text: &str) -> bool {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-/{}_".contains(c);
    text.len() > 2 && text.chars().all(fits) && text.contains(|c: char| c.is_ascii_lowercase())
}

/// What a device model in a Linux domain runs.
#[must_use]
pub fn others(others: &Others) -> String {
    let mut text = String::from("| in a Linux domain | bytes |\n|---|---:|\n");
    if let Some(kernel) = &others.kernel {
        text += &format!("| kernel {} | {} |\n", kernel.release, number(kernel.image_bytes));
        for (name, bytes) in &kernel.modules {
            text += &format!("| module `{name}` | {} |\n", number(*bytes));
        }
    }
    if let Some(qemu) = &others.qemu {
        let (count, bytes) = qemu.libraries;
        text += &format!("| `{}` | {} |\n", qemu.path.display(), number(qemu.bytes));
        text += &format!("| its {count} libraries | {} |\n", number(bytes));
    }
    text
}

/// The document.
///
/// # Errors
/// Never: it writes to a text.
pub fn document(counted: &Images, found: &Others) -> Result<String> {
    Ok(format!(
        "# What has to be trusted, counted\n\n\
         Made by `cargo xtask tcb --write`. Do not edit it: a test compares the first part with the sources.\n\n\
         ## The stub's image\n\n\
         A line of code has something else than a comment on it. Tests, and what a `cfg` excludes, do not count. What\n\
         cannot be decided (a condition of a dependency's build script) counts. Of the compiler's `core`, `alloc` and\n\
         `compiler_builtins` the linker takes what is used; they are not counted. *Unsafe* are blocks, functions,\n\
         traits and implementations.\n\n\
         {BEGIN}{}{END}\n\
         A stub has {MEMORY} of memory by default, and no other program in it.\n\n\
         ## The same work in a Linux domain\n\n\
         Sizes of files, of what Debian has and of what the tests' dom0 loads. A driver domain with a device model needs\n\
         the kernel, the modules of Xen and of its storage, and the program. QEMU is the one that is packaged, here\n\
         for the machine that counted; virtio-disk is not packaged by Debian, so it is not counted. Which part of a kernel runs for a disk,\n\
         sizes do not tell. So they bound what has to be trusted, as the image's size does. Lines of Linux and QEMU are not\n\
         counted: their sources are not there.\n\n\
         ![The stub's image beside a Linux kernel and QEMU, areas to scale](tcb.svg)\n\n\
         {}",
        ours(counted)?,
        others(found)
    ))
}

/// `stub-memory` of `docs/configuration.md`.
const MEMORY: &str = "8 MiB";

/// The part of the document that was counted from the sources.
#[must_use]
pub fn ours_of(document: &str) -> Option<&str> {
    Some(document.split_once(BEGIN)?.1.split_once(END)?.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_commas() {
        assert_eq!([7, 999, 1000, 1_234_567].map(number), ["7", "999", "1,000", "1,234,567"]);
    }

    #[test]
    fn nodes_are_told_from_messages() {
        assert!(is_node("data/pilotfish/ask") && is_node("ring-ref{index}"));
        assert!(!is_node("cannot be read") && !is_node("{}") && !is_node("No"));
    }
}
