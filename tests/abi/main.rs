//! The ABI check: every size, offset and number of `xen-pv-sys` and `xen-privcmd` against Xen's own headers.
//!
//! A C file of assertions, one per value, is generated and compiled (never run) for arm64
//! against the headers of the package `libxen-dev`, and those of each Xen whose tools the set-up
//! has built. A drift on either side is a compile error that names the value. [`table`] lists what is compared.
#![forbid(unsafe_code)]

mod table;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use table::{Check, checks};

/// The cross-compiler of the package `gcc-aarch64-linux-gnu`.
const COMPILER: &str = "aarch64-linux-gnu-gcc";

/// The folder in which `libxen-dev` puts Xen's public headers, in `xen/`.
const HEADERS: &str = "/usr/include";

/// The same folder of every Xen whose tools are in the set-up's cache.
fn built_headers() -> Vec<PathBuf> {
    let entries = xtask::paths::cache().and_then(|cache| Ok(std::fs::read_dir(cache)?));
    let names = |path: &PathBuf| {
        path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"xen-tools-"))
    };
    let built = entries.into_iter().flatten().flatten().map(|entry| entry.path()).filter(names);
    built.map(|entry| entry.join("tree/usr/include")).collect()
}

/// What every generated file starts with.
///
/// A bit-field can have no static assertion on its place, so `BYTE_SET_BY` and `BITS_SET_BY`
/// fill one in (all are in the slot's last eight bytes) and look at the bytes; the optimizer reduces them to constants, and a call to
/// a function with the attribute `error` that remains is an error that names the function.
const PROLOGUE: &str = r"
#define __XEN_TOOLS__ 1
#include <stdint.h>
#include <stddef.h>
#include <xen/xen.h>
#include <xen/arch-arm.h>
#include <xen/domctl.h>
#include <xen/errno.h>
#include <xen/event_channel.h>
#include <xen/grant_table.h>
#include <xen/memory.h>
#include <xen/sched.h>
#include <xen/sysctl.h>
#include <xen/vcpu.h>
#include <xen/xsm/flask_op.h>
#include <xen/hvm/hvm_op.h>
#include <xen/hvm/params.h>
#include <xen/hvm/dm_op.h>
#include <xen/hvm/ioreq.h>
#include <xen/io/xenbus.h>
#include <xen/io/blkif.h>
#include <xen/io/netif.h>
#include <xen/io/console.h>
#include <xen/io/xs_wire.h>
#define LAST_WORD(field, value) \
    union { struct ioreq slot; uint64_t word[sizeof(struct ioreq) / 8]; } u = {{0}}; \
    u.slot.field = (value); uint64_t last = u.word[3];
#define BYTE_SET_BY(field, value) ({ LAST_WORD(field, value) 24 + __builtin_ctzll(last) / 8; })
#define BITS_SET_BY(field, value) ({ LAST_WORD(field, value) (int)(last >> __builtin_ctzll(last) / 8 * 8); })
";

/// The generated C: one assertion per check, named by its position.
fn program(checks: &[Check]) -> String {
    let mut c = PROLOGUE.to_owned();
    for (n, check) in checks.iter().enumerate() {
        let Check { name, theirs, ours } = check;
        // Writing into a String cannot fail.
        let _ = if theirs.contains("_SET_BY") {
            writeln!(
                c,
                "extern void no_{n}(void) __attribute__((error(\"pilotfish: {name} is {ours}, not {theirs}\")));\n\
                 void check_{n}(void) {{ if ({theirs} != ({ours})) no_{n}(); }}"
            )
        } else {
            writeln!(
                c,
                "_Static_assert(({theirs}) == ({ours}), \"pilotfish: {name} is {ours}, not {theirs}\");"
            )
        };
    }
    c
}

/// Compiles the assertions with the headers in `folder`; `Err` is what the compiler says.
fn compile(checks: &[Check], folder: &Path) -> Result<(), String> {
    if !folder.join("xen/hvm/dm_op.h").exists() {
        return Err(format!("no Xen headers in {}; remedy: apt install libxen-dev", folder.display()));
    }
    let dir = tempfile::tempdir().map_err(|e| e.to_string())?;
    let source = dir.path().join("abi.c");
    std::fs::write(&source, program(checks)).map_err(|e| e.to_string())?;
    let run = Command::new(COMPILER)
        .args(["-std=gnu11", "-O2", "-w", "-c", "-o", "/dev/null", "-I"])
        .arg(folder)
        .arg(&source)
        .output()
        .map_err(|e| format!("cannot run {COMPILER}: {e}; remedy: apt install gcc-aarch64-linux-gnu"))?;
    if run.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&run.stderr).into_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_size_offset_and_number_is_the_one_of_xens_headers() {
        let checks = checks();
        for folder in [PathBuf::from(HEADERS)].into_iter().chain(built_headers()) {
            if let Err(errors) = compile(&checks, &folder) {
                panic!("of {} values compared with {}:\n{errors}", checks.len(), folder.display());
            }
        }
    }

    /// The negative control: the check is able to fail, for each way it compares.
    #[test]
    fn a_wrong_value_is_refused_by_its_name() {
        for name in
            ["xen::HYPERVISOR_DM_OP", "dm_op::IoreqServerRange.start", "ioreq::STATE_BITS", "ioreq::DIR_READ"]
        {
            let mut checks = checks();
            let check = checks.iter_mut().find(|check| check.name == name).expect("the name is in the table");
            check.ours += 1;
            let errors = compile(&checks, Path::new(HEADERS)).expect_err("a wrong value must not compile");
            let named: Vec<_> = errors.lines().filter(|line| line.contains("pilotfish: ")).collect();
            assert!(
                !named.is_empty() && named.iter().all(|line| line.contains(name)),
                "expected complaints about {name} alone, saw:\n{errors}"
            );
        }
    }
}
