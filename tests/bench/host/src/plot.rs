//! The result as pictures (SVG).

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::coord::Shift;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::{
    BLACK, Cartesian2d, ChartBuilder, ChartContext, Color, DrawingArea, IntoDrawingArea, PathElement,
    RGBColor, Rectangle, SVGBackend, SeriesLabelPosition, WHITE,
};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{IntoFont, TextStyle};

use crate::measured::Measured;
use crate::plan::Plan;
use crate::span::Cpu;
use crate::stats::Spread;
use crate::targets;
use crate::workload::{Kind, Workload};

/// Draws what was measured into a file.
pub type Draw = fn(&Measured, &Plan, &Path) -> Result<()>;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Chart<'a> = ChartContext<'a, SVGBackend<'a>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

const WIDTH: u32 = 1100;
const HEIGHT: u32 = 520;
const FONT: &str = "sans-serif";
/// Space below the bars, for two lines of words.
const LABELS: u32 = 56;
/// The part of a group's width that its bars take.
const GROUP: f64 = 0.8;
/// Bars end here, however tall: a RAM disk may be many times as fast.
const TALLEST: f64 = 4.0;

/// Bars of one colour.
struct Series {
    name: &'static str,
    colour: RGBColor,
    bars: Vec<Option<Spread>>,
}

impl Series {
    fn new(
        name: &'static str,
        colour: RGBColor,
        plan: &Plan,
        bar: impl Fn(Workload) -> Option<Spread>,
    ) -> Self {
        Self { name, colour, bars: plan.workloads.iter().map(|&workload| bar(workload)).collect() }
    }
}

const BLUE: RGBColor = RGBColor(0x30, 0x6f, 0xb3);
const ORANGE: RGBColor = RGBColor(0xe0, 0x8a, 0x2c);

/// I/O rates as ratios to native PV.
///
/// # Errors
/// When the file cannot be written.
pub fn ratios(measured: &Measured, plan: &Plan, to: &Path) -> Result<()> {
    let other = if plan.grants() {
        (Kind::Granted, "Pilotfish, PV, granted memory", ORANGE)
    } else if plan.nbd() {
        (Kind::Nbd, "Pilotfish, NBD", ORANGE)
    } else {
        (Kind::Ram, "Pilotfish, RAM disk", ORANGE)
    };
    let series = [(Kind::Pilotfish, "Pilotfish, PV", BLUE), other].map(|(kind, name, colour)| {
        Series::new(name, colour, plan, |workload| targets::rate(measured, kind, workload))
    });
    bars("I/O rate as a ratio to native PV (median, min..max; more is better)", plan, &series, to)
}

/// CPU times of one I/O as ratios to native PV.
///
/// # Errors
/// When the file cannot be written.
pub fn cpu(measured: &Measured, plan: &Plan, to: &Path) -> Result<()> {
    let of = |part: fn(Cpu) -> u64| move |workload| targets::cpu(measured, Kind::Pilotfish, workload, part);
    let series = [
        Series::new("dom0", BLUE, plan, of(|cpu| cpu.dom0_ns)),
        Series::new("dom0, guest and stub", ORANGE, plan, of(Cpu::total_ns)),
    ];
    let title = "CPU time of one I/O of Pilotfish, PV, as a ratio to native PV (less is better)";
    bars(title, plan, &series, to)
}

fn bars(title: &str, plan: &Plan, series: &[Series], to: &Path) -> Result<()> {
    let root = SVGBackend::new(to, (WIDTH, HEIGHT)).into_drawing_area();
    let drawn = draw_bars(title, plan, series, &root);
    let drawn = drawn.and_then(|()| root.present().map_err(Into::into));
    drawn.map_err(|error| anyhow!("cannot draw {}: {error}", to.display()))
}

fn draw_bars(title: &str, plan: &Plan, series: &[Series], root: &Area<'_>) -> Result<()> {
    root.fill(&WHITE)?;
    let spreads = || series.iter().flat_map(|series| &series.bars).flatten();
    let top = spreads().map(|spread| spread.max).fold(1.2, f64::max).min(TALLEST) * 1.05;
    let groups = f64::from(u32::try_from(plan.workloads.len().max(1))?);
    let mut chart = ChartBuilder::on(root)
        .caption(title, (FONT, 18))
        .margin(12)
        .x_label_area_size(LABELS)
        .y_label_area_size(44)
        .build_cartesian_2d(0.0..groups, 0.0..top)?;
    chart.configure_mesh().disable_x_mesh().max_light_lines(1).x_labels(0).draw()?;
    let width = GROUP / f64::from(u32::try_from(series.len().max(1))?);
    for (n, one) in (0_u32..).zip(series) {
        draw_series(&mut chart, one, (1.0 - GROUP) / 2.0 + f64::from(n) * width, width, top)?;
    }
    let native = PathElement::new(vec![(0.0, 1.0), (groups, 1.0)], BLACK.stroke_width(2));
    chart.draw_series([native])?;
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperMiddle)
        .background_style(WHITE.mix(0.9))
        .border_style(BLACK)
        .label_font((FONT, 14))
        .draw()?;
    let style = TextStyle::from((FONT, 12).into_font()).pos(Pos::new(HPos::Center, VPos::Top));
    for (group, workload) in (0_u32..).zip(&plan.workloads) {
        let (x, y) = chart.backend_coord(&(f64::from(group) + 0.5, 0.0));
        let words = workload.to_string();
        let (what, depth) = words.split_once(", ").unwrap_or((&words, ""));
        for (line, text) in (0_i32..).zip([what, depth]) {
            root.draw_text(text, &style, (x, y + 6 + line * 16))?;
        }
    }
    Ok(())
}

/// Draws the bars of one colour, each `left` of its group's start, and how far the values lie apart.
fn draw_series<'a>(chart: &mut Chart<'a>, one: &Series, left: f64, width: f64, top: f64) -> Result<()> {
    let place = |group: u32| f64::from(group) + left;
    let found = || (0_u32..).zip(&one.bars).filter_map(|(group, bar)| Some((place(group), (*bar)?)));
    let boxes = found().map(|(left, bar)| {
        Rectangle::new([(left, 0.0), (left + width, bar.median.min(top))], one.colour.filled())
    });
    let legend = one.colour;
    chart
        .draw_series(boxes)?
        .label(one.name)
        .legend(move |(x, y)| Rectangle::new([(x, y - 5), (x + 14, y + 5)], legend.filled()));
    let whiskers = found().map(|(left, bar)| {
        let middle = left + width / 2.0;
        PathElement::new(vec![(middle, bar.min.min(top)), (middle, bar.max.min(top))], BLACK)
    });
    chart.draw_series(whiskers)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::span::Span;

    #[test]
    fn a_picture_names_every_workload_and_both_series() -> Result<()> {
        let plan = Plan::full();
        let mut measured = Measured::default();
        for workload in &plan.workloads {
            for kind in [Kind::Native, Kind::Pilotfish] {
                let cpu = Cpu { dom0_ns: 1, guest_ns: 2, stub_ns: 3 };
                let span = Span { seconds: 1.0, dom0_seconds: 1.0, bytes: 1 << 20, requests: 1, cpu };
                measured.spans.insert((1, kind, workload.words()), span);
            }
        }
        let dir = tempfile::tempdir()?;
        for (name, draw) in [("a.svg", ratios as Draw), ("b.svg", cpu)] {
            let path = dir.path().join(name);
            draw(&measured, &plan, &path)?;
            let svg = std::fs::read_to_string(path)?;
            assert!(svg.starts_with("<svg") && svg.contains("64 KiB random write"), "{svg}");
        }
        Ok(())
    }

    #[test]
    fn a_picture_of_nothing_is_a_picture() -> Result<()> {
        let plan = Plan { workloads: Vec::new(), ..Plan::full() };
        let dir = tempfile::tempdir()?;
        ratios(&Measured::default(), &plan, &dir.path().join("a.svg"))
    }
}
