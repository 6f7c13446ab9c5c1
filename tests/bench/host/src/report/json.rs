//! The result as JSON, with every raw number.

use serde_json::{Map, Value, json};

use crate::buffered::view;
use crate::others::TOO_MUCH;
use crate::report::Report;
use crate::span::{Cpu, RoundTrip, Span};
use crate::targets::{Target, Wanted};
use crate::workload::{Kind, Workload};

/// Goes with the numbers.
const HOW: &str = "One guest has three disks of one size: native (xen-blkback over a loop device over a \
raw file in dom0's tmpfs), pilotfish (the same below the stub's PV engine) and ram (the stub's memory). \
In each round each workload meets each disk in turn, in an order that rotates by round. A span begins \
when fio has been at work for 0.3 s. Bytes and requests are differences of /sys/block/*/stat in the \
guest, seconds of its /proc/uptime; CPU times are differences of XEN_DOMCTL_getdomaininfo's cpu_time, \
asked by dom0 when the guest's marks arrive on its console. An I/O is one of fio's: bytes divided by \
the block size. others_cpus is how many of this machine's CPUs others than QEMU took since the \
span before; spans with more than 0.15 are set aside and in no figure. Ratios are of two spans of the same round. buffered \
is what a guest of its own did that has a native disk and one of Pilotfish and whose free memory is spread; it counts \
its work itself (fio, or the fixed amount that was done), per_second is of that. With --grants there is no ram but granted: \
as pilotfish, in a second guest of the same kernel that grants its memory; the guests measure in turns. With --nbd an \
NBD server in dom0 serves the raw files: native and pilotfish have Linux's client in dom0 in the loop device's place, and in \
place of ram is nbd, the stub's own client. raw has what was told, verbatim.";

impl Report {
    /// With every raw number, and how it was made.
    #[must_use]
    pub fn json(&self) -> Value {
        let raw: Map<String, Value> =
            self.facts.iter().map(|(key, value)| (key.clone(), json!(value))).collect();
        let spans: Vec<Value> = self
            .measured
            .spans
            .iter()
            .chain(&self.measured.aside)
            .filter_map(|((round, kind, words), span)| {
                let workload = self.plan.workloads.iter().find(|workload| workload.words() == *words)?;
                let others = self.others.get(&format!("m.{round}.{}.{words}", kind.name()));
                Some(span_json(*round, *kind, *workload, span, others.copied()))
            })
            .collect();
        let trips = |trips: &[RoundTrip]| -> Vec<Value> {
            trips.iter().map(|trip| json!({ "hot_ns": trip.hot_ns, "cold_ns": trip.cold_ns })).collect()
        };
        json!({
            "complete": self.complete,
            "wall_s": self.wall.as_secs(),
            "how": HOW,
            "machine": {
                "qemu_cpu": self.cpu,
                "xen": self.xen,
                "flask": self.flask,
                "dom0_kernel": self.fact("dom0_kernel"),
                "guest_kernel": self.fact("guest_kernel"),
                "fio": self.fact("guest_fio"),
            },
            "plan": {
                "rounds": self.plan.rounds,
                "seconds": self.plan.seconds,
                "guest_vcpus": self.plan.vcpus,
                "disk_mib": self.plan.mib,
            },
            "stub_image_bytes": self.image_bytes,
            "targets": self.targets().iter().map(target_json).collect::<Vec<_>>(),
            "spans": spans,
            "buffered": view::json(&self.measured, &self.plan.buffered),
            "round_trips": { "pilotfish": trips(&self.measured.real), "echo_stub": trips(&self.measured.echo) },
            "raw": raw,
        })
    }
}

fn target_json(target: &Target) -> Value {
    let (sense, limit) = match target.wanted {
        Wanted::AtLeast(limit) => ("at least", limit),
        Wanted::AtMost(limit) => ("at most", limit),
    };
    let measured = target.measured.map(|spread| {
        json!({ "median": spread.median, "min": spread.min, "max": spread.max, "count": spread.count })
    });
    json!({
        "what": target.what,
        "wanted": sense,
        "limit": limit,
        "unit": target.unit,
        "measured": measured,
        "verdict": target.verdict().word(),
    })
}

fn span_json(round: u32, kind: Kind, workload: Workload, span: &Span, others: Option<f64>) -> Value {
    json!({
        "round": round,
        "disk": kind.name(),
        "workload": workload.words(),
        "seconds": span.seconds,
        "dom0_seconds": span.dom0_seconds,
        "bytes": span.bytes,
        "guest_requests": span.requests,
        "iops": span.iops(workload),
        "mib_per_s": span.mib_per_second(),
        "cpu_ns": {
            "dom0": span.cpu.dom0_ns,
            "guest": span.cpu.guest_ns,
            "stub": span.cpu.stub_ns,
        },
        "others_cpus": others,
        "set_aside": others.is_some_and(|cpus| cpus > TOO_MUCH),
        "total_cpu_us_per_io": span.us_per_io(workload, Cpu::total_ns),
    })
}
