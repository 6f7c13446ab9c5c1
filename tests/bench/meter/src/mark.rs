//! What Xen says of domains at the start and the end of a span.

use std::time::Instant;

use anyhow::{Context, Result};
use xen_privcmd::Privcmd;

/// A domain and what the benchmark calls it.
pub struct Domain {
    /// Of a fact's key.
    pub name: String,
    /// Of Xen.
    pub domid: u16,
}

impl Domain {
    /// Reads `NAME=DOMID`.
    ///
    /// # Errors
    /// When it is something else.
    pub fn parse(argument: &str) -> Result<Domain> {
        let (name, domid) = argument.split_once('=').context("NAME=DOMID")?;
        let domid = domid.parse().with_context(|| format!("bad domid in {argument:?}"))?;
        Ok(Domain { name: name.to_owned(), domid })
    }
}

/// What was seen at a mark.
pub struct Mark {
    at: Instant,
    words: String,
    cpu_ns: Vec<u64>,
}

impl Mark {
    /// Reads them now; `words` are the guest's own of that moment.
    ///
    /// # Errors
    /// When a domain is gone.
    pub fn take(xen: &Privcmd, domains: &[Domain], words: &str) -> Result<Mark> {
        let usage = |domain: &Domain| cpu_ns(xen, domain.domid).with_context(|| domain.name.clone());
        let cpu_ns = domains.iter().map(usage).collect::<Result<_>>()?;
        Ok(Mark { at: Instant::now(), words: words.to_owned(), cpu_ns })
    }
}

/// CPU time that a domain has had, in nanoseconds.
///
/// # Errors
/// When it is gone.
pub fn cpu_ns(xen: &Privcmd, domid: u16) -> Result<u64> {
    Ok(xen.domain_usage(domid)?.with_context(|| format!("domain {domid} is gone"))?.cpu_ns)
}

/// The fact that tells of a span; each number has its unit in its name.
pub fn fact(label: &str, domains: &[Domain], from: &Mark, to: &Mark) -> String {
    let ns = to.at.duration_since(from.at).as_nanos();
    let mut fact = format!("@@PF fact m.{label}=ns={ns} from={} to={}", from.words, to.words);
    for (domain, (from, to)) in domains.iter().zip(from.cpu_ns.iter().zip(&to.cpu_ns)) {
        fact += &format!(" {}_ns={}", domain.name, to.saturating_sub(*from));
    }
    fact
}
