//! What gives a stub its rights over its guest: Xen's classic rules, by `set_target`, or a FLASK policy, by
//! the labels of the two.
//!
//! The guest's label decides. With one of `pilotfishd --policy` its stub gets the label that belongs to it.
//! With any other, or without FLASK, the stub gets a target.

use anyhow::{Context, Result, bail, ensure};
use pilotfish_flask::{Module, Pair, Reach, rights};

use crate::env::Env;
use crate::text::printable;

const DOM0: u16 = 0;
/// How many rights that the policy lacks are named.
const NAMED: usize = 4;

/// What gives a stub its rights.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Privilege {
    /// `set_target`. The guest's label, if it has any.
    Target(Option<String>),
    /// The policy.
    Policy(Pair, Reach),
}

impl Privilege {
    /// What gives the stub of `guest`, which reaches the guest's memory like that, its rights.
    ///
    /// # Errors
    /// Xen cannot be asked; or its policy has not all that the stub needs, which the error names.
    pub fn of(env: &Env<'_>, guest: u16, reach: Reach) -> Result<Privilege> {
        let Some(label) = env.host.label(guest)? else { return Ok(Privilege::Target(None)) };
        let Some(pair) = Pair::of_guest(&label) else { return Ok(Privilege::Target(Some(label))) };
        demand(env, &pair, reach)?;
        Ok(Privilege::Policy(pair, reach))
    }

    /// The label that the stub must be made with; `None`: that of the configuration.
    #[must_use]
    pub fn stub_label(&self) -> Option<String> {
        match self {
            Privilege::Target(_) => None,
            Privilege::Policy(pair, reach) => Some(pair.made_as(*reach)),
        }
    }

    /// Checks that `stub`, which waited under the name `waited_as`, has the label that it must have.
    ///
    /// # Errors
    /// It has another one: it can never serve this guest.
    pub fn fits(&self, env: &Env<'_>, stub: u16, waited_as: &str) -> Result<()> {
        let label = env.host.label(stub)?;
        let (pair, reach) = match (self, label.as_deref().and_then(Pair::of_building)) {
            (Privilege::Policy(pair, reach), _) => (pair, reach),
            (Privilege::Target(_), None) => return Ok(()),
            (Privilege::Target(guests), Some(made_for)) => bail!(
                "the stub that waits as {waited_as} is for a guest with the label {wanted}, and this guest has {}; \
                 remedy: seclabel = '{wanted}' in the guest's configuration, or the name of another entry of \
                 grant-stubs in its disk lines",
                printable(guests.as_deref().unwrap_or("none"), 200),
                wanted = made_for.guest(),
            ),
        };
        ensure!(
            label.as_deref() == Some(&pair.made_as(*reach)),
            "the stub that waits as {waited_as} has the label {}, and this guest's must have {}; remedy: \
             grant-stubs = [ {{ name = \"NAME\", guest = \"{}\" }} ], and backend=NAME in its disk lines",
            printable(&label.unwrap_or_default(), 200),
            pair.made_as(*reach),
            printable(&pair.name(), 80)
        );
        Ok(())
    }

    /// Gives the rights to `stub`, which does not run yet.
    ///
    /// # Errors
    /// Xen refuses; or the labels are not theirs alone.
    pub fn give(&self, env: &Env<'_>, stub: u16, guest: u16) -> Result<()> {
        match self {
            Privilege::Target(label) => env.host.set_target(stub, guest).with_context(|| match label {
                // EACCES is then FLASK's word.
                Some(label) => format!(
                    "the guest has the label {}, none of `pilotfishd --policy`, so that its stub needs it as its \
                     target, by the permissions domain2 make_priv_for and set_as_target",
                    printable(label, 200)
                ),
                None => "the stub cannot become the guest's device model".to_owned(),
            }),
            Privilege::Policy(pair, reach) => alone(env, pair, *reach, (stub, guest)),
        }
    }

    /// Takes from `stub`, which serves and whose guest has not run, what it needed for its set-up alone.
    ///
    /// # Errors
    /// Xen refuses.
    pub fn confine(&self, env: &Env<'_>, stub: u16) -> Result<()> {
        match self {
            Privilege::Policy(pair, Reach::Grants) => {
                env.host.relabel(stub, &pair.stub()).context("the stub cannot get its second label")
            }
            _ => Ok(()),
        }
    }
}

/// The label that the stub of the guest called `guest` must get before there is that guest; `None` where Xen has
/// no labels.
///
/// # Errors
/// As [`Privilege::of`].
pub fn stub_label_for(env: &Env<'_>, guest: &str, reach: Reach) -> Result<Option<String>> {
    // Where there are labels dom0 has one.
    if env.host.label(DOM0)?.is_none() {
        return Ok(None);
    }
    let pair =
        Pair::of_guest(&Module::new(guest, reach)?.guest_label).context("its guest's name makes no label")?;
    demand(env, &pair, reach)?;
    Ok(Some(pair.made_as(reach)))
}

/// Checks that the policy has all that the stub needs. Where it is not enforced, what it lacks is only logged.
fn demand(env: &Env<'_>, pair: &Pair, reach: Reach) -> Result<()> {
    let mut missing = missing(env, pair, reach)?;
    if missing.is_empty() {
        return Ok(());
    }
    // What is said at a guest's start is cut off at some length, and the remedy comes last.
    let more = missing.len().saturating_sub(NAMED);
    missing.truncate(NAMED);
    if more > 0 {
        missing.push(format!("and {more} more"));
    }
    let what = format!(
        "Xen's FLASK policy does not allow {}; remedy: compile it with what `pilotfishd --policy {}{}` prints, and \
         `xl loadpolicy` it",
        missing.join(", "),
        printable(&pair.name(), 80),
        reach.option(),
    );
    ensure!(!env.host.enforces_policy()?, what);
    log::warn!("{}: {what}. It is not enforced now", pair.guest());
    Ok(())
}

/// What the policy does not allow, for people.
fn missing(env: &Env<'_>, pair: &Pair, reach: Reach) -> Result<Vec<String>> {
    let mut missing = Vec::new();
    for right in rights(reach) {
        let (subject, object) = (right.subject.label(pair), right.object.label(pair));
        let allowed = env.host.allowed(&subject, &object, right.class.0)?.unwrap_or(0);
        if allowed & (1 << right.permission.0) == 0 {
            missing.push(format!("{} {} of {subject} over {object}", right.class.1, right.permission.1));
        }
    }
    Ok(missing)
}

/// Checks that nobody else has the labels of guest and stub. The policy knows labels alone: another domain
/// with the guest's could be mapped by the stub, one with the stub's could map the guest.
fn alone(env: &Env<'_>, pair: &Pair, reach: Reach, (stub, guest): (u16, u16)) -> Result<()> {
    let mut owners = vec![(Some(guest), pair.guest()), (Some(stub), pair.made_as(reach))];
    if reach == Reach::Grants {
        // That of one that serves: nobody has it yet.
        owners.push((None, pair.stub()));
    }
    for (domid, state) in env.host.domains()? {
        let label = if state.dying { None } else { env.host.label(domid)? };
        for (owner, theirs) in &owners {
            let has = label.as_ref() == Some(theirs);
            if Some(domid) == *owner && !has {
                bail!("domain {domid} has not the label {theirs} but {}", label.unwrap_or_default());
            }
            if Some(domid) != *owner && has {
                bail!(
                    "domain {domid} has the label {theirs} too: what one may reach, the other may; remedy: a \
                     label for each guest, by `pilotfishd --policy`"
                );
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::fake::World;
    use crate::stub::identity::Identity;

    const GUEST: &str = "system_u:system_r:pf_guest_a_2db_t";
    const STUB: &str = "system_u:system_r:pf_stub_a_2db_t";

    /// A world with a guest, domain 1, and a stub without a target, domain 2.
    fn world(guest: Option<&str>, stub: &str) -> World {
        let world = World::new();
        for domid in [1, 2] {
            world.domain_appears(domid, None, &Identity::new(1).unwrap().uuid);
        }
        if let Some(guest) = guest {
            world.label(1, guest);
            world.label(2, stub);
        }
        world
    }

    fn of_grants(world: &World) -> Result<Privilege> {
        let (config, store, host) = (Config::default_for_tests(), world.store(), world.host());
        Privilege::of(&Env { config: &config, store: &store, host: &host }, 1, Reach::Grants)
    }

    fn of(world: &World) -> Result<Privilege> {
        let (config, store, host) = (Config::default_for_tests(), world.store(), world.host());
        Privilege::of(&Env { config: &config, store: &store, host: &host }, 1, Reach::Mappings)
    }

    fn given(world: &World) -> Result<()> {
        let (config, store, host) = (Config::default_for_tests(), world.store(), world.host());
        of(world)?.give(&Env { config: &config, store: &store, host: &host }, 2, 1)
    }

    fn why<T: std::fmt::Debug>(result: Result<T>) -> String {
        format!("{:#}", result.unwrap_err())
    }

    fn target(world: &World) -> Option<u16> {
        world.state().domains[&2].target
    }

    #[test]
    fn a_label_of_ours_stands_for_a_target_and_any_other_does_not() {
        let labelled = world(Some(GUEST), STUB);
        assert_eq!(of(&labelled).unwrap().stub_label().as_deref(), Some(STUB));
        given(&labelled).unwrap();
        assert_eq!(target(&labelled), None);
        for guest in [None, Some("system_u:system_r:domU_t")] {
            let world = world(guest, "system_u:system_r:domU_t");
            assert_eq!(of(&world).unwrap().stub_label(), None);
            given(&world).unwrap();
            assert_eq!(target(&world), Some(1));
        }
    }

    #[test]
    fn what_the_policy_lacks_is_named_with_the_command_that_prints_it() {
        let world = world(Some(GUEST), STUB);
        world.state().denied = vec![(5, 11), (6, 1)];
        let error = why(of(&world));
        let over = format!("of {STUB} over {GUEST}");
        assert!(error.contains(&format!("does not allow hvm dm {over}, mmu map_write {over};")), "{error}");
        assert!(error.contains("`pilotfishd --policy a-b` prints"), "{error}");
        world.state().denied = vec![(10, 2)];
        let error = why(of_grants(&world));
        assert!(
            error.contains("grant unmap") && error.contains("`pilotfishd --policy a-b --grants` prints"),
            "{error}"
        );
        of(&world).unwrap();
        world.state().denied = vec![(5, 11)];
        world.state().permissive = true;
        assert_eq!(of(&world).unwrap().stub_label().as_deref(), Some(STUB));
    }

    #[test]
    fn a_policy_without_the_stubs_label_lacks_all() {
        let world = world(Some(GUEST), STUB);
        world.state().unknown_label = Some(STUB.to_owned());
        let error = why(of(&world));
        for part in ["hvm dm", "domain2 resource_map", "event bind", ", and 2 more; remedy: "] {
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn a_label_that_another_domain_has_too_is_refused() {
        for (label, named) in [(GUEST, "domain 3 has the label"), (STUB, "domain 3 has the label")] {
            let world = world(Some(GUEST), STUB);
            world.domain_appears(3, None, &Identity::new(1).unwrap().uuid);
            world.label(3, label);
            let error = why(given(&world));
            assert!(error.contains(named) && error.contains(label), "{error}");
            // One that is going reaches nobody, and is reached by nobody.
            world.state().domains.get_mut(&3).unwrap().dying = true;
            given(&world).unwrap();
        }
    }

    #[test]
    fn a_stub_that_did_not_get_its_label_does_not_run() {
        let world = world(Some(GUEST), "system_u:system_r:domU_t");
        let error = why(given(&world));
        assert!(error.contains("domain 2 has not the label") && error.contains("domU_t"), "{error}");
    }

    #[test]
    fn where_flask_forbids_a_target_the_guests_label_is_named() {
        let world = world(Some("system_u:system_r:domU_t"), "system_u:system_r:domU_t");
        world.state().domains.get_mut(&2).unwrap().target = Some(7);
        let error = why(given(&world));
        assert!(error.contains("system_u:system_r:domU_t") && error.contains("make_priv_for"), "{error}");
    }
}
