//! The FLASK policy of the machines that have one: Xen's own with a module for each guest.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use pilotfish_flask::{Module, Reach};
use xtask::paths;
use xtask::setup::{Fixture, flask};

/// The guests that may run there, by name: those of the scenarios that are run with a policy.
const GUESTS: &[&str] = &[
    "again",
    "balloon",
    "bench",
    "bystander",
    "crashing",
    "cut",
    "demo",
    "error",
    "features",
    "fio",
    "gone",
    "guest",
    "heavy",
    "hostile",
    "hotplug",
    "kept",
    "kexec",
    "lost",
    "moved",
    "next",
    "off",
    "one",
    "orphan",
    "panic",
    "pausing",
    "phoenix",
    "ramonly",
    "readonly",
    "reboots",
    "refused",
    "reload",
    "secret",
    "servers",
    "steady",
    "suspend",
    "two",
    "vcpus",
    "victim",
    "web",
];

/// Guests that grant their memory to their stubs on every machine.
const GRANTING: &[&str] = &["bench-grants", "granting", "grants", "grants-heavy", "grants-plain"];

/// A guest whose module lacks these rights of its stub.
const LAME: (&str, [&str; 2]) = ("lame", [":hvm dm;", " map_write"]);

/// Compiles the policy of a Xen; returns the file that `xl loadpolicy` takes. With `grants` no stub may map its guest's
/// memory.
///
/// # Errors
/// When it does not compile.
pub fn policy(fixture: &Fixture, grants: bool) -> Result<PathBuf> {
    let usual = if grants { Reach::Grants } else { Reach::Mappings };
    let mut modules = Vec::new();
    for (guests, reach) in [(GUESTS, usual), (GRANTING, Reach::Grants)] {
        for guest in guests {
            modules.push(Module::new(guest, reach)?);
        }
    }
    modules.push(lame()?);
    let modules: Vec<flask::Module> =
        modules.into_iter().map(|Module { name, text, .. }| flask::Module { name, text }).collect();
    let kind = if grants { "-grants" } else { "" };
    let dir = paths::target().join(format!("qemu/policy-{}{kind}", fixture.version));
    flask::compile(&fixture.policy, &modules, &dir)
}

/// The module of [`LAME`].
fn lame() -> Result<Module> {
    let (name, without) = LAME;
    let mut module = Module::new(name, Reach::Mappings)?;
    for right in without {
        ensure!(module.text.contains(right), "no module has `{right}`");
        let instead = if right.ends_with(';') { ":hvm bind_irq;" } else { "" };
        module.text = module.text.replace(right, instead);
    }
    Ok(module)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lame_module_lacks_what_it_is_to_lack_and_nothing_else() -> Result<()> {
        let (whole, lame) = (Module::new(LAME.0, Reach::Mappings)?, lame()?);
        let differ: Vec<(&str, &str)> =
            whole.text.lines().zip(lame.text.lines()).filter(|(whole, lame)| whole != lame).collect();
        assert_eq!(
            differ,
            [
                (
                    "allow pf_stub_lame_t pf_guest_lame_t:hvm dm;",
                    "allow pf_stub_lame_t pf_guest_lame_t:hvm bind_irq;"
                ),
                (
                    "allow pf_stub_lame_t pf_guest_lame_t:mmu { map_read map_write };",
                    "allow pf_stub_lame_t pf_guest_lame_t:mmu { map_read };"
                ),
            ]
        );
        Ok(())
    }
}
