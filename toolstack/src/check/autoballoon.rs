//! Whether `xl create` takes memory from dom0.

/// Whether xl balloons dom0, by its configuration and Xen's command line (xl.conf(5)).
pub fn autoballoons(conf: &str, xen_commandline: &str) -> bool {
    // A setting ends with its line, a `;` or a comment; the last one counts.
    let settings = conf.lines().flat_map(|line| line.split('#').next().unwrap_or_default().split(';'));
    let values = settings.filter_map(|setting| setting.split_once('=')).rev();
    let mut values = values.filter(|(key, _)| key.trim() == "autoballoon");
    match values.next().map(|(_, value)| value.trim().trim_matches(['"', '\''])) {
        Some("off" | "0") => false,
        Some("on" | "1") => true,
        _ => !xen_commandline.split(' ').any(|word| word.strip_prefix("dom0_mem=").is_some_and(fixes_dom0)),
    }
}

/// Whether xl takes what stands behind `dom0_mem=` for a fixed size. xl searches for sizes and percentages,
/// with a comma behind each or without, and knows less than Xen does.
fn fixes_dom0(sizes: &str) -> bool {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let is_size = |text: &str| {
        let digits = text.strip_prefix('-').unwrap_or(text);
        is_number(digits.strip_suffix(|unit| "bBkKmMgGtT".contains(unit)).unwrap_or(digits))
    };
    let is_share = |text: &str| {
        let (more, share) = text.rsplit_once('+').map_or((None, text), |(more, share)| (Some(more), share));
        let share = share.strip_suffix('%').filter(|share| share.len() <= 2 && is_number(share));
        share.is_some() && more.is_none_or(is_size)
    };
    let is_item = |item: &str| {
        let item = item.strip_prefix("min:").or_else(|| item.strip_prefix("max:")).unwrap_or(item);
        is_size(item) || is_share(item)
    };
    // Where an item can begin.
    let mut begins = vec![false; sizes.len() + 2];
    begins[0] = true;
    for from in (0..sizes.len()).filter(|from| sizes.is_char_boundary(*from)) {
        for to in from + 1..=sizes.len() {
            if begins[from] && sizes.get(from..to).is_some_and(is_item) {
                begins[to] = true;
                begins[to + 1] |= sizes[to..].starts_with(',');
            }
        }
    }
    !sizes.is_empty() && begins[sizes.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn autoballoon_is_off_by_xl_conf_or_by_dom0_mem() {
        let with = "console=dtuart dom0_mem=1024M loglvl=all";
        assert!(!autoballoons("", with));
        assert!(!autoballoons("autoballoon=\"auto\"\n", with));
        assert!(!autoballoons("# autoballoon=\"on\"\nautoballoon=\"off\"\n", "console=dtuart"));
        assert!(!autoballoons("autoballoon=0", ""));
        for off in [
            "autoballoon=\"off\"  # no",
            "autoballoon = \"off\";",
            "a=1; autoballoon='off' ; b=2",
            "autoballoon=\"on\"\nautoballoon=0",
        ] {
            assert!(!autoballoons(off, ""), "{off}");
        }
        assert!(autoballoons("autoballoon=\"off\" # yes\nautoballoon=\"on\" # autoballoon=0", with));
        for fixed in ["1G", "-128m", "1024,max:2048M", "min:1G,max:50%,", "512M+10%", "0", "100%", "1Gmin:2G"]
        {
            assert!(!autoballoons("", &format!("dom0_mem={fixed} console=dtuart")), "{fixed}");
        }
        // Xen takes some of these; xl takes none.
        for other in [
            "",
            "1GiB",
            "1P",
            "0x40000000",
            "max:",
            "1G,,2G",
            ",1G",
            "50%+1G",
            "%",
            "lots",
            "1G\tx",
            "\u{e9}",
        ] {
            assert!(autoballoons("", &format!("dom0_mem={other}")), "{other}");
        }
        assert!(autoballoons("", "x,dom0_mem=1G"));
        assert!(autoballoons("", "console=dtuart"));
        assert!(autoballoons("#autoballoon=\"off\"", ""));
        assert!(autoballoons("autoballoon = \"on\"", with));
    }
}
