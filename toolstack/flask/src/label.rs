//! Labels: `user:role:type`, and a range behind it where the policy has levels.

use crate::reach::Reach;

/// What the type of a guest begins with.
pub(crate) const GUEST_PREFIX: &str = "pf_guest_";
/// What the type of its stub begins with.
pub(crate) const STUB_PREFIX: &str = "pf_stub_";
/// What both end with.
pub(crate) const TYPE_SUFFIX: &str = "_t";
/// What the stub's type ends with while it is not set up: Xen's macros call it so.
const BUILDING_SUFFIX: &str = "_building";
/// dom0's label in Xen's own policy.
const DOM0: &str = "system_u:system_r:dom0_t";
/// User and role of both.
pub(crate) const USER_AND_ROLE: &str = "system_u:system_r:";
/// The role of whatever is no domain.
const OBJECT_ROLE: &str = "object_r";

/// The labels of a guest and its stub.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Pair {
    user: String,
    role: String,
    word: String,
    /// With its colon, or empty.
    range: String,
}

impl Pair {
    /// The pair of a guest with this label; `None` if no module of ours has its type.
    #[must_use]
    pub fn of_guest(label: &str) -> Option<Pair> {
        Pair::parse(label, |kind| kind.strip_prefix(GUEST_PREFIX)?.strip_suffix(TYPE_SUFFIX))
    }

    /// The pair of a stub with this label, which uses grants and is not set up yet; `None` if no module of ours has
    /// its type.
    #[must_use]
    pub fn of_building(label: &str) -> Option<Pair> {
        Pair::parse(label, |kind| {
            kind.strip_prefix(STUB_PREFIX)?.strip_suffix(BUILDING_SUFFIX)?.strip_suffix(TYPE_SUFFIX)
        })
    }

    /// The pair of which `word_of` finds the word in a label's type.
    fn parse(label: &str, word_of: fn(&str) -> Option<&str>) -> Option<Pair> {
        let mut parts = label.splitn(4, ':');
        let (user, role, kind) = (parts.next()?, parts.next()?, parts.next()?);
        let word = word_of(kind)?;
        // It comes from Xen, which takes no other type; but it goes into a file for xl.
        let fine = |text: &str| {
            !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        };
        (fine(user) && fine(role) && fine(word)).then_some(())?;
        let range = parts.next().map_or(String::new(), |range| format!(":{range}"));
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b":.,-".contains(&byte);
        range.bytes().all(plain).then_some(())?;
        Some(Pair { user: user.to_owned(), role: role.to_owned(), word: word.to_owned(), range })
    }

    /// The name that the guest's type was made of.
    #[must_use]
    pub fn name(&self) -> String {
        let mut parts = self.word.split('_');
        let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
        for part in parts {
            // Not of our making where there are no two digits; shown as it is.
            let byte = part.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok());
            match (byte, part.get(2..)) {
                (Some(byte), Some(rest)) => {
                    bytes.push(byte);
                    bytes.extend_from_slice(rest.as_bytes());
                }
                _ => bytes.extend_from_slice(format!("_{part}").as_bytes()),
            }
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The guest's label.
    #[must_use]
    pub fn guest(&self) -> String {
        self.domain(GUEST_PREFIX)
    }

    /// The stub's label.
    #[must_use]
    pub fn stub(&self) -> String {
        self.domain(STUB_PREFIX)
    }

    /// The label that a stub which uses grants has until it is set up.
    #[must_use]
    pub fn building(&self) -> String {
        let Pair { user, role, word, range } = self;
        format!("{user}:{role}:{STUB_PREFIX}{word}{TYPE_SUFFIX}{BUILDING_SUFFIX}{range}")
    }

    /// The label that the stub is made with.
    #[must_use]
    pub fn made_as(&self, reach: Reach) -> String {
        match reach {
            Reach::Mappings => self.stub(),
            Reach::Grants => self.building(),
        }
    }

    /// dom0's label.
    #[must_use]
    pub fn dom0(&self) -> String {
        format!("{DOM0}{}", self.range)
    }

    /// The label of the guest's event channels.
    #[must_use]
    pub fn guest_channel(&self) -> String {
        self.channel(GUEST_PREFIX)
    }

    /// The label of the stub's event channels.
    #[must_use]
    pub fn stub_channel(&self) -> String {
        self.channel(STUB_PREFIX)
    }

    fn domain(&self, prefix: &str) -> String {
        let Pair { user, role, word, range } = self;
        format!("{user}:{role}:{prefix}{word}{TYPE_SUFFIX}{range}")
    }

    fn channel(&self, prefix: &str) -> String {
        let Pair { user, word, range, .. } = self;
        format!("{user}:{OBJECT_ROLE}:{prefix}{word}{TYPE_SUFFIX}_channel{range}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stubs_label_follows_from_its_guests() {
        let pair = Pair::of_guest("system_u:system_r:pf_guest_web1_t").unwrap();
        assert_eq!(pair.guest(), "system_u:system_r:pf_guest_web1_t");
        assert_eq!(pair.stub(), "system_u:system_r:pf_stub_web1_t");
        assert_eq!(pair.guest_channel(), "system_u:object_r:pf_guest_web1_t_channel");
        assert_eq!(pair.stub_channel(), "system_u:object_r:pf_stub_web1_t_channel");
        let pair = Pair::of_guest("user_1:vm_r:pf_guest_a_2db_t:s0-s1:c0.c5").unwrap();
        assert_eq!(pair.stub(), "user_1:vm_r:pf_stub_a_2db_t:s0-s1:c0.c5");
        assert_eq!(pair.guest(), "user_1:vm_r:pf_guest_a_2db_t:s0-s1:c0.c5");
    }

    #[test]
    fn the_label_of_a_module_is_one_of_ours() {
        let module = crate::Module::new("a-b c", crate::Reach::Mappings).unwrap();
        let pair = Pair::of_guest(&module.guest_label).unwrap();
        assert_eq!(pair.guest(), module.guest_label);
        assert!(module.text.contains(&format!("stub's label:  {}\n", pair.stub())));
        assert_eq!(pair.made_as(crate::Reach::Mappings), pair.stub());
        let module = crate::Module::new("a-b c", crate::Reach::Grants).unwrap();
        let first = format!("first label:   {}\n", pair.made_as(crate::Reach::Grants));
        assert!(module.text.contains(&first), "{}", module.text);
    }

    #[test]
    fn a_stub_that_is_not_set_up_yet_tells_its_guests_label() {
        for label in ["system_u:system_r:pf_guest_web1_t", "u:r:pf_guest_a_2db_t:s0-s1:c0.c5"] {
            let pair = Pair::of_guest(label).unwrap();
            assert_eq!(Pair::of_building(&pair.building()).unwrap().guest(), label);
            assert!(Pair::of_building(&pair.stub()).is_none() && Pair::of_building(label).is_none());
        }
    }

    #[test]
    fn a_label_tells_the_name_that_it_was_made_of() {
        for name in ["web1", "a-b_t", "`it's #1", "_", "__", "\u{e9}", "a_5f"] {
            let module = crate::Module::new(name, crate::Reach::Mappings).unwrap();
            assert_eq!(Pair::of_guest(&module.guest_label).unwrap().name(), name);
        }
        assert_eq!(Pair::of_guest("u:r:pf_guest_a_zz_1_t").unwrap().name(), "a_zz_1");
    }

    #[test]
    fn any_other_label_is_not() {
        for label in [
            "",
            "system_u:system_r:domU_t",
            "system_u:system_r:pf_stub_web1_t",
            "system_u:system_r:pf_guest__t",
            "system_u:system_r:pf_guest_web1",
            "system_u:system_r:pf_guest_web1_t_self",
            "system_u:system_r:pf_guest_a\"b_t",
            "system_u:pf_guest_web1_t",
            ":system_r:pf_guest_web1_t",
            "system_u:system_r:pf_guest_web1_t:\n",
        ] {
            assert_eq!(Pair::of_guest(label), None, "{label:?}");
        }
    }
}
