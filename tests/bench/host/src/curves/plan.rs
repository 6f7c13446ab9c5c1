//! Which curves there are, and their points.

use std::fmt::Write as _;
use std::str::FromStr;
use std::time::Duration;

use anyhow::anyhow;

use crate::plan::GUEST_MIB;
use crate::workload::Kind;

/// How cost grows with what.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Curve {
    /// I/Os under way at once.
    Depth,
    /// Bytes of an I/O.
    BlockSize,
    /// vCPUs that do I/O, a queue each.
    Vcpus,
    /// Disks of one stub that are busy; and idle ones.
    Disks,
    /// Guests with a stub each.
    Guests,
    /// Memory of a guest that I/O goes to.
    Map,
}

/// The most disks that libxl gives a guest.
pub const DISKS: u64 = 11;

impl Curve {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Depth, Self::BlockSize, Self::Vcpus, Self::Disks, Self::Guests, Self::Map];

    /// Its name for people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Depth => "depth",
            Self::BlockSize => "block-size",
            Self::Vcpus => "vcpus",
            Self::Disks => "disks",
            Self::Guests => "guests",
            Self::Map => "map",
        }
    }

    /// Its name in scripts and labels.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Self::BlockSize => "block",
            _ => self.name(),
        }
    }

    /// What is changed from point to point.
    #[must_use]
    pub const fn points(self) -> &'static [u64] {
        match self {
            Self::Depth => &[1, 2, 4, 8, 16, 32, 64, 128, 256],
            Self::BlockSize => &[512, 4096, 16384, 65536, 262_144, 1_048_576],
            Self::Vcpus => &[1, 2, 3, 4],
            Self::Disks => &[1, 2, 4, 8, DISKS],
            Self::Guests => &[1, 2, 4, 8, 16],
            Self::Map => &[64, 96, 128, 160, 256, 512, 1024, 2048, 4096],
        }
    }

    /// Spans of a round.
    fn spans(self) -> usize {
        match self {
            Self::Depth | Self::BlockSize | Self::Vcpus => self.points().len() * Kind::ALL.len(),
            // With the two depths at which idle disks are compared with none.
            Self::Disks => self.points().len() + 2 * 2,
            Self::Guests => self.points().len(),
            // A RAM disk and a PV disk.
            Self::Map => self.points().len() * 2,
        }
    }

    /// Bytes of an I/O at that point.
    #[must_use]
    pub const fn block_bytes(self, point: u64) -> u64 {
        match self {
            Self::BlockSize => point,
            _ => 4096,
        }
    }
}

impl FromStr for Curve {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|curve| curve.name() == name).ok_or_else(|| {
            let names: Vec<&str> = Self::ALL.iter().map(|curve| curve.name()).collect();
            anyhow!("no curve {name:?}; there are {}", names.join(", "))
        })
    }
}

/// Curves to measure.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How often each point is measured.
    pub rounds: u32,
    /// Length of a span.
    pub seconds: f64,
    /// Which ones.
    pub curves: Vec<Curve>,
}

/// Size of the disks, of those of which there are many, and memory of the guest whose I/O is spread.
const DISK_MIB: u32 = 64;
const SMALL_DISK_MIB: u32 = 16;
const MAP_GUEST_MIB: u32 = 4608;

impl Plan {
    /// These curves, or all when there is none.
    #[must_use]
    pub fn new(curves: &[Curve]) -> Self {
        let curves = Curve::ALL.into_iter().filter(|curve| curves.is_empty() || curves.contains(curve));
        Self { rounds: 3, seconds: 0.8, curves: curves.collect() }
    }

    /// How many spans are measured.
    #[must_use]
    pub fn spans(&self) -> usize {
        let rounds = usize::try_from(self.rounds).unwrap_or(usize::MAX);
        rounds.saturating_mul(self.curves.iter().map(|curve| curve.spans()).sum())
    }

    /// What dom0 may take: each span has a start of fio before it, each curve its guests.
    #[must_use]
    pub fn limit(&self) -> Duration {
        let spans = u32::try_from(self.spans()).unwrap_or(u32::MAX);
        let guests = Duration::from_secs(90) * u32::try_from(self.curves.len()).unwrap_or(1);
        Duration::from_secs(120) + guests + Duration::from_secs_f64(self.seconds + 4.0) * spans
    }

    /// As `tests/bench/dom0/curves.sh` reads it.
    #[must_use]
    pub fn config(&self) -> String {
        let mut text = format!(
            "rounds={}\nseconds={}\nguest_mib={GUEST_MIB}\nmib={DISK_MIB}\nsmall_mib={SMALL_DISK_MIB}\n\
             map_mib={MAP_GUEST_MIB}\n",
            self.rounds, self.seconds
        );
        for curve in Curve::ALL {
            let asked = self.curves.contains(&curve);
            let points: Vec<String> = curve.points().iter().filter(|_| asked).map(u64::to_string).collect();
            // Writing into a String cannot fail.
            let _ = writeln!(text, "{}={}", curve.key(), points.join(","));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn curves_are_asked_for_by_name_and_none_means_all() {
        assert_eq!("block-size".parse::<Curve>().unwrap(), Curve::BlockSize);
        let error = "width".parse::<Curve>().unwrap_err().to_string();
        assert!(error.contains("width") && error.contains("depth, block-size"), "{error}");
        assert_eq!(Plan::new(&[]).curves, Curve::ALL);
        assert_eq!(Plan::new(&[Curve::Map, Curve::Depth]).curves, [Curve::Depth, Curve::Map]);
    }

    #[test]
    fn a_curve_that_is_not_asked_for_has_no_points() {
        let plan = Plan { rounds: 2, ..Plan::new(&[Curve::Vcpus]) };
        let config = plan.config();
        assert!(config.contains("\nvcpus=1,2,3,4\n") && config.contains("\ndepth=\n"), "{config}");
        assert_eq!(plan.spans(), 24);
    }
}
