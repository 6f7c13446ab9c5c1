//! The tables and pictures that the curves make.

use crate::curves::plan::Curve;
use crate::curves::read::Place;
use crate::span::{Span, float};

/// One table and picture.
pub(super) struct View {
    /// Whose points.
    pub(super) curve: Curve,
    /// Of the labels.
    pub(super) key: &'static str,
    /// What it says above.
    pub(super) title: &'static str,
    /// What the points are.
    pub(super) point: &'static str,
    /// The series that others are compared with, if there is one.
    pub(super) base: Option<&'static str>,
    /// As in the labels, in this order, with their names for people.
    pub(super) series: &'static [(&'static str, &'static str)],
}

const KINDS: &[(&str, &str)] =
    &[("native", "native PV"), ("pilotfish", "Pilotfish, PV"), ("ram", "Pilotfish, RAM disk")];

/// All of them, in the order of the report.
pub(super) const VIEWS: [View; 7] = [
    View {
        curve: Curve::Depth,
        key: "depth",
        title: "Queue depth (4 KiB random reads)",
        point: "depth",
        base: Some("native"),
        series: KINDS,
    },
    View {
        curve: Curve::BlockSize,
        key: "block",
        title: "Block size (random reads, QD16)",
        point: "bytes",
        base: Some("native"),
        series: KINDS,
    },
    View {
        curve: Curve::Vcpus,
        key: "vcpus",
        title: "vCPUs of the guest (4 KiB random reads, QD16 on each)",
        point: "vCPUs",
        base: Some("native"),
        series: KINDS,
    },
    View {
        curve: Curve::Disks,
        key: "disks",
        title: "Busy disks of one stub with eleven (4 KiB random reads, QD16 on each)",
        point: "busy disks",
        base: None,
        series: &[("pilotfish", "Pilotfish, PV")],
    },
    View {
        curve: Curve::Disks,
        key: "idle",
        title: "One busy disk beside ten idle ones (4 KiB random reads)",
        point: "depth",
        base: Some("single"),
        series: &[("single", "its stub's only disk"), ("eleven", "one of eleven")],
    },
    View {
        curve: Curve::Guests,
        key: "guests",
        title: "Guests with a stub each (4 KiB random reads, batches of 16 in each)",
        point: "guests",
        base: None,
        series: &[("reads", "all guests together")],
    },
    View {
        curve: Curve::Map,
        key: "map",
        title: "Guest memory that I/O goes to (4 KiB random reads, batches of 16)",
        point: "MiB",
        base: None,
        series: &[("ram", "Pilotfish, RAM disk"), ("pilotfish", "Pilotfish, PV")],
    },
];

impl View {
    /// The points of a series.
    pub(super) fn places(&self, series: &str) -> impl Iterator<Item = Place> + use<> {
        let (key, series) = (self.key.to_owned(), series.to_owned());
        let points: &[u64] = if self.key == "idle" { &[1, 16] } else { self.curve.points() };
        points.iter().map(move |&point| (key.clone(), series.clone(), point))
    }

    /// A point as people write it.
    pub(super) fn shown(&self, point: u64) -> String {
        match (self.curve, point) {
            (Curve::BlockSize, bytes) if bytes >= 1 << 20 => format!("{} MiB", bytes >> 20),
            (Curve::BlockSize, bytes) if bytes >= 1 << 10 => format!("{} KiB", bytes >> 10),
            (Curve::BlockSize, bytes) => format!("{bytes} B"),
            (Curve::Map, mib) if mib >= 1024 => format!("{} GiB", mib >> 10),
            (Curve::Map, mib) => format!("{mib} MiB"),
            _ => point.to_string(),
        }
    }

    /// I/Os of the program that asked.
    pub(super) fn ios(&self, place: &Place, span: &Span) -> f64 {
        float(span.bytes) / float(self.curve.block_bytes(place.2))
    }
}
