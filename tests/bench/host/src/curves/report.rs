//! The curves as text that can go into a document as it is, as JSON, and as what to draw.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use serde_json::{Map, Value, json};

use crate::curves::plan::{Curve, Plan};
use crate::curves::plot::Panel;
use crate::curves::read::{Measured, Place};
use crate::curves::view::{VIEWS, View};
use crate::others::TOO_MUCH;
use crate::run::Run;
use crate::span::{Cpu, Span, float};
use crate::stats::{Spread, median, shown};
use crate::table::Table;

/// All of a run.
#[derive(Debug)]
pub struct Report {
    /// What was to be measured.
    pub plan: Plan,
    /// What was.
    pub measured: Measured,
    /// How it went.
    pub run: Run,
}

/// A column's heading, and its cell for a point.
type Column<'a> = (&'static str, Box<dyn Fn(&Place) -> String + 'a>);

/// A launch of one guest with its stub.
struct Launch {
    n: u64,
    create_ms: f64,
    ready_ms: f64,
}

impl Report {
    fn views(&self) -> impl Iterator<Item = &'static View> {
        VIEWS.iter().filter(|view| self.plan.curves.contains(&view.curve))
    }

    fn rounds(&self, view: &View, place: &Place, value: impl Fn(&Span, f64) -> f64) -> BTreeMap<u32, f64> {
        self.measured.by_round(place, |span| value(span, view.ios(place, span)))
    }

    fn rate(&self, view: &View, place: &Place) -> Option<Spread> {
        Spread::of(self.rounds(view, place, |span, ios| ios / span.seconds).into_values())
    }

    fn mib_per_second(&self, view: &View, place: &Place) -> Option<Spread> {
        Spread::of(self.rounds(view, place, |span, _| span.mib_per_second()).into_values())
    }

    fn cpu(&self, view: &View, place: &Place, part: fn(Cpu) -> u64) -> Option<Spread> {
        Spread::of(self.rounds(view, place, |span, ios| float(part(span.cpu)) / 1000.0 / ios).into_values())
    }

    /// How many CPUs dom0, guests and stubs had together.
    fn cpus(&self, view: &View, place: &Place) -> Option<Spread> {
        let rounds = self.rounds(view, place, |span, _| float(span.cpu.total_ns()) / 1e9 / span.dom0_seconds);
        Spread::of(rounds.into_values())
    }

    /// Its rate as a ratio to the base's in the same round.
    fn ratio(&self, view: &View, place: &Place) -> Option<Spread> {
        let base = view.base.filter(|&base| base != place.1)?;
        let base = (place.0.clone(), base.to_owned(), place.2);
        let rate = |place| self.rounds(view, place, |span, ios| ios / span.seconds);
        Spread::of_ratios(&rate(place), &rate(&base))
    }

    /// For people, in Markdown, to be pasted.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing into a String cannot fail.
        let _ = self.write(&mut text);
        text
    }

    fn write(&self, out: &mut String) -> fmt::Result {
        if !self.run.outcome.passed() {
            writeln!(out, "\nTHE RUN WAS NOT COMPLETE: the figures are those that arrived.")?;
        }
        let names: Vec<&str> = self.plan.curves.iter().map(|curve| curve.name()).collect();
        writeln!(
            out,
            "\nMeasured on {} with `cargo xtask bench --curves {}`: Xen {}, Linux {}, QEMU's {}; {} rounds, spans of \
             {} s; the run took {:.0} s. Each cell: median (min..max) over the rounds, or the median. Ratios are to the first line of each point, in the same \
             round; CPU times are microseconds of one I/O; counts are the stub's for one request.",
            self.run.date,
            names.join(","),
            self.run.xen,
            self.run.fact("dom0_kernel"),
            self.run.cpu,
            self.plan.rounds,
            self.plan.seconds,
            self.run.wall.as_secs_f64()
        )?;
        let spans: usize = self.measured.spans.values().map(BTreeMap::len).sum();
        let aside = self.measured.aside;
        writeln!(
            out,
            "Others took more than {TOO_MUCH} of a CPU during {aside} of {} spans; those are in no figure.",
            spans + aside
        )?;
        for view in self.views() {
            writeln!(out, "\n### {}\n", view.title)?;
            out.push_str(&self.table(view).text());
            writeln!(out)?;
            for &(series, name) in view.series {
                if let Some(line) = self.bend(view, series) {
                    writeln!(out, "{name}: {line}.")?;
                }
            }
            if view.curve == Curve::Guests {
                self.write_launches(out)?;
            }
        }
        Ok(())
    }

    /// The columns of a view's table: headings, and cells of a point.
    fn columns<'a>(&'a self, view: &'a View) -> Vec<Column<'a>> {
        let cpu = |part| move |place: &Place| median(self.cpu(view, place, part), 0);
        let count = |key| move |place: &Place| median(self.measured.per_request(place, key), 2);
        let mut columns: Vec<Column<'a>> = vec![
            ("IOPS", Box::new(|place| shown(self.rate(view, place), 0))),
            ("MiB/s", Box::new(|place| median(self.mib_per_second(view, place), 1))),
        ];
        if view.base.is_some() {
            let ratio =
                |place: &Place| self.ratio(view, place).map_or(String::new(), |ratio| ratio.to_string());
            columns.push(("ratio", Box::new(ratio)));
        }
        columns.push(("CPUs busy", Box::new(|place| median(self.cpus(view, place), 2))));
        columns.push(("us of an I/O", Box::new(cpu(Cpu::total_ns))));
        columns.push(("of dom0", Box::new(cpu(|cpu| cpu.dom0_ns))));
        columns.push(("of the stub", Box::new(cpu(|cpu| cpu.stub_ns))));
        for (heading, key) in [
            ("notifications", "notifications"),
            ("interrupts", "interrupts"),
            ("polls", "polls"),
            ("blocks", "blocks"),
        ] {
            columns.push((heading, Box::new(count(key))));
        }
        columns.push(match view.curve {
            Curve::Map => ("map misses", Box::new(count("map_misses"))),
            _ => ("to blkback", Box::new(count("sends"))),
        });
        columns
    }

    fn table(&self, view: &View) -> Table {
        let columns = self.columns(view);
        let mut table =
            Table::new([view.point, "disk"].into_iter().chain(columns.iter().map(|(heading, _)| *heading)));
        let places = view
            .series
            .iter()
            .flat_map(|&(series, name)| view.places(series).map(move |place| (name, place)));
        let mut places: Vec<(&str, Place)> = places.collect();
        // By point first: what is compared stands together.
        places.sort_by_key(|(_, place)| place.2);
        for (name, place) in places {
            let first = [view.shown(place.2), name.to_owned()];
            table.row(first.into_iter().chain(columns.iter().map(|(_, cell)| cell(&place))));
        }
        table
    }

    /// Where a line is at its highest, and which points come near.
    fn bend(&self, view: &View, series: &str) -> Option<String> {
        let value = |place: &Place| match view.curve {
            Curve::BlockSize => self.mib_per_second(view, place),
            _ => self.rate(view, place),
        };
        let found: Vec<(u64, f64)> =
            view.places(series).filter_map(|place| Some((place.2, value(&place)?.median))).collect();
        let (at, most) = found.iter().copied().max_by(|(_, a), (_, b)| a.total_cmp(b))?;
        let near = found.iter().filter(|(_, value)| *value >= NEAR * most);
        let near: Vec<String> = near.map(|&(point, _)| view.shown(point)).collect();
        let unit = if view.curve == Curve::BlockSize { "MiB/s" } else { "IOPS" };
        Some(format!(
            "most at {} ({most:.0} {unit}), at least {:.0} % of that at {}",
            view.shown(at),
            NEAR * 100.0,
            near.join(", ")
        ))
    }

    fn launches(&self) -> Vec<Launch> {
        let number = |key: String| self.run.outcome.facts.get(&key)?.parse::<f64>().ok();
        let launch = |n: u64| {
            let create_ms = number(format!("launch_ms.{n}"))?;
            let ready_ms = number(format!("ready_us.{n}")).map_or(f64::NAN, |us| us / 1000.0);
            Some(Launch { n, create_ms, ready_ms })
        };
        (1..).map_while(launch).collect()
    }

    fn write_launches(&self, out: &mut String) -> fmt::Result {
        let launches = self.launches();
        let mut table = Table::new(["launch of guest", "xl create, ms", "stub ready, ms"]);
        for launch in &launches {
            table.row([
                launch.n.to_string(),
                format!("{:.0}", launch.create_ms),
                format!("{:.0}", launch.ready_ms),
            ]);
        }
        writeln!(
            out,
            "\nThe stub's launch is within `xl create`; \"ready\" counts from the stub's first instruction. Xen had {} MiB \
             free without guests and {} MiB with all, dom0 then {} KiB.\n",
            self.run.fact("free_mib_before"),
            self.run.fact("free_mib_with_all"),
            self.run.fact("dom0_available_kib")
        )?;
        out.push_str(&table.text());
        Ok(())
    }

    /// With every raw number.
    #[must_use]
    pub fn json(&self) -> Value {
        let raw: Map<String, Value> =
            self.run.outcome.facts.iter().map(|(key, value)| (key.clone(), json!(value))).collect();
        let points = self.views().flat_map(|view| {
            let places = view.series.iter().flat_map(|&(series, _)| view.places(series));
            places.map(move |place| self.point_json(view, &place))
        });
        json!({
            "complete": self.run.outcome.passed(),
            "date": self.run.date,
            "wall_s": self.run.wall.as_secs(),
            "machine": {
                "qemu_cpu": self.run.cpu,
                "xen": self.run.xen,
                "dom0_kernel": self.run.fact("dom0_kernel"),
            },
            "plan": { "rounds": self.plan.rounds, "seconds": self.plan.seconds },
            "stub_image_bytes": self.run.image_bytes,
            "points": points.collect::<Vec<_>>(),
            "set_aside": self.measured.aside,
            "others_cpus": self.run.others,
            "raw": raw,
        })
    }

    fn point_json(&self, view: &View, place: &Place) -> Value {
        let keys = self.measured.counted.get(place).and_then(|counted| counted.first());
        let counters: Map<String, Value> = keys
            .into_iter()
            .flat_map(BTreeMap::keys)
            .map(|key| (key.clone(), spread_json(self.measured.per_request(place, key))))
            .collect();
        let cpu = |part| spread_json(self.cpu(view, place, part));
        json!({
            "curve": place.0,
            "series": place.1,
            "point": place.2,
            "iops": spread_json(self.rate(view, place)),
            "mib_per_s": spread_json(self.mib_per_second(view, place)),
            "to_base": spread_json(self.ratio(view, place)),
            "cpus_busy": spread_json(self.cpus(view, place)),
            "cpu_us_per_io": {
                "dom0": cpu(|cpu| cpu.dom0_ns),
                "stub": cpu(|cpu| cpu.stub_ns),
                "guest": cpu(|cpu| cpu.guest_ns),
                "total": cpu(Cpu::total_ns),
            },
            "stub_counted_per_request": counters,
        })
    }

    /// What to draw, by name.
    #[must_use]
    pub fn pictures(&self) -> Vec<(&'static str, Vec<Panel>)> {
        let mut pictures: Vec<(&str, Vec<Panel>)> = self
            .views()
            .map(|view| {
                let points: Vec<String> = view.places("").map(|place| view.shown(place.2)).collect();
                let panel = |title: &str, value: &dyn Fn(&Place) -> Option<Spread>| Panel {
                    title: format!("{}: {title}", view.title.split(" (").next().unwrap_or(view.title)),
                    points: points.clone(),
                    lines: view
                        .series
                        .iter()
                        .map(|&(series, name)| {
                            (name.to_owned(), view.places(series).map(|place| value(&place)).collect())
                        })
                        .collect(),
                };
                let rate = match view.curve {
                    Curve::BlockSize => panel("MiB/s", &|place| self.mib_per_second(view, place)),
                    _ => panel("IOPS", &|place| self.rate(view, place)),
                };
                let cost = match view.curve {
                    Curve::Map => panel("map misses of a request", &|place| {
                        self.measured.per_request(place, "map_misses")
                    }),
                    _ => panel("CPU us of an I/O", &|place| self.cpu(view, place, Cpu::total_ns)),
                };
                (view.key, vec![rate, cost])
            })
            .collect();
        let launches = self.launches();
        if !launches.is_empty() {
            let line =
                |value: fn(&Launch) -> f64| launches.iter().map(|one| Spread::of([value(one)])).collect();
            pictures.push((
                "launch",
                vec![Panel {
                    title: "Launch of the n-th guest: ms".to_owned(),
                    points: launches.iter().map(|launch| launch.n.to_string()).collect(),
                    lines: vec![
                        ("xl create".to_owned(), line(|launch| launch.create_ms)),
                        ("stub ready".to_owned(), line(|launch| launch.ready_ms)),
                    ],
                }],
            ));
        }
        pictures
    }
}

/// What comes near the highest point.
const NEAR: f64 = 0.9;

fn spread_json(spread: Option<Spread>) -> Value {
    spread.map_or(Value::Null, |spread| {
        json!({ "median": spread.median, "min": spread.min, "max": spread.max, "count": spread.count })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(curves: &[Curve], facts: &[(&str, String)]) -> Report {
        let facts = facts.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
        let run = Run::for_tests(facts);
        Report { plan: Plan::new(curves), measured: Measured::read(&run.outcome.facts, |_| false), run }
    }

    fn span(sectors: u32) -> String {
        format!(
            "ns=1000000000 from=1.00,0,0,0,0 to=2.00,1,{sectors},0,0 dom0_ns=8000000 guest_ns=0 stub_ns=2000000"
        )
    }

    #[test]
    fn a_curve_has_its_table_its_bend_and_its_picture() {
        let report = report(
            &[Curve::Depth],
            &[
                ("m.depth.native.1.1", span(8000)),
                ("m.depth.native.16.1", span(16000)),
                ("m.depth.native.32.1", span(15000)),
                ("m.depth.pilotfish.16.1", span(8000)),
            ],
        );
        let text = report.text();
        assert!(
            text.contains("native PV: most at 16 (2000 IOPS), at least 90 % of that at 16, 32."),
            "{text}"
        );
        assert!(text.contains("0.50 (0.50..0.50)"), "{text}");
        assert!(!text.contains("Block size"));
        let pictures = report.pictures();
        assert_eq!(pictures.iter().map(|(name, _)| *name).collect::<Vec<_>>(), ["depth"]);
        assert_eq!(pictures[0].1[0].points.len(), 9);
        let points = report.json()["points"].clone();
        assert_eq!(points.as_array().unwrap().len(), 27);
        assert_eq!(points[0]["cpu_us_per_io"]["total"]["median"], json!(10.0));
    }

    #[test]
    fn launches_are_told_in_their_order() {
        let facts = [
            ("launch_ms.1", "900".to_owned()),
            ("ready_us.1", "80000".to_owned()),
            ("launch_ms.2", "950".to_owned()),
        ];
        let report = report(&[Curve::Guests], &facts);
        let text = report.text();
        assert!(text.contains("| 1               |           900 |             80 |"), "{text}");
        assert!(
            report
                .pictures()
                .iter()
                .any(|(name, panels)| *name == "launch" && panels[0].points == ["1", "2"])
        );
    }
}
