//! The curves as pictures (SVG): lines over points at equal distances.

use std::fmt::Display;
use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::coord::Shift;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::{
    BLACK, Cartesian2d, ChartBuilder, ChartContext, Circle, Color, DrawingArea, IntoDrawingArea, PathElement,
    RGBColor, Rectangle, SVGBackend, SeriesLabelPosition, WHITE,
};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{IntoFont, TextStyle};

use crate::stats::Spread;

/// A diagram.
#[derive(Debug)]
pub struct Panel {
    /// What it shows.
    pub title: String,
    /// What the points are, from left to right.
    pub points: Vec<String>,
    /// Lines: a name, and a value for each point.
    pub lines: Vec<(String, Vec<Option<Spread>>)>,
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Chart<'a> = ChartContext<'a, SVGBackend<'a>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

const WIDTH: u32 = 560;
const HEIGHT: u32 = 420;
const FONT: &str = "sans-serif";
const COLOURS: [RGBColor; 3] =
    [RGBColor(0x55, 0x55, 0x55), RGBColor(0x30, 0x6f, 0xb3), RGBColor(0xe0, 0x8a, 0x2c)];

/// Draws panels side by side into a file.
///
/// # Errors
/// When the file cannot be written.
pub fn draw(panels: &[Panel], to: &Path) -> Result<()> {
    let failed = |error: &dyn Display| anyhow!("cannot draw {}: {error}", to.display());
    let count = u32::try_from(panels.len().max(1))?;
    let root = SVGBackend::new(to, (WIDTH * count, HEIGHT)).into_drawing_area();
    root.fill(&WHITE).map_err(|error| failed(&error))?;
    for (panel, area) in panels.iter().zip(root.split_evenly((1, panels.len().max(1)))) {
        draw_panel(panel, &area).map_err(|error| failed(&error))?;
    }
    root.present().map_err(|error| failed(&error))
}

fn draw_panel(panel: &Panel, area: &Area<'_>) -> Result<()> {
    let spreads = || panel.lines.iter().flat_map(|(_, line)| line).flatten();
    let top = spreads().map(|spread| spread.max).fold(0.0, f64::max).max(1e-6) * 1.08;
    let width = f64::from(u32::try_from(panel.points.len().max(1))?);
    let mut chart = ChartBuilder::on(area)
        .caption(&panel.title, (FONT, 15))
        .margin(10)
        .x_label_area_size(28)
        .y_label_area_size(64)
        .build_cartesian_2d(0.0..width, 0.0..top)?;
    let digits = if top < 10.0 { 2 } else { 0 };
    let label = |y: &f64| format!("{y:.digits$}");
    let mut mesh = chart.configure_mesh();
    mesh.disable_x_mesh().max_light_lines(1).x_labels(0).y_label_formatter(&label).draw()?;
    for ((name, line), colour) in panel.lines.iter().zip(COLOURS.into_iter().cycle()) {
        draw_line(&mut chart, name, line, colour)?;
    }
    if panel.lines.len() > 1 {
        // Where the first line is low.
        let falls = panel.lines.first().is_some_and(|(_, line)| falls(line));
        chart
            .configure_series_labels()
            .position(if falls { SeriesLabelPosition::UpperRight } else { SeriesLabelPosition::UpperLeft })
            .background_style(WHITE.mix(0.8))
            .border_style(BLACK.mix(0.3))
            .label_font((FONT, 12))
            .draw()?;
    }
    let style = TextStyle::from((FONT, 12).into_font()).pos(Pos::new(HPos::Center, VPos::Top));
    let (left, above) = area.get_base_pixel();
    for (n, point) in (0_u32..).zip(&panel.points) {
        let (x, y) = chart.backend_coord(&(f64::from(n) + 0.5, 0.0));
        area.draw_text(point, &style, (x - left, y - above + 6))?;
    }
    Ok(())
}

/// Draws a line through the medians, and how far the values of each point lie apart.
fn draw_line<'a>(chart: &mut Chart<'a>, name: &str, line: &[Option<Spread>], colour: RGBColor) -> Result<()> {
    let found: Vec<(f64, Spread)> =
        (0_u32..).zip(line).filter_map(|(n, spread)| Some((f64::from(n) + 0.5, (*spread)?))).collect();
    let medians = found.iter().map(|(x, spread)| (*x, spread.median));
    chart
        .draw_series([PathElement::new(medians.clone().collect::<Vec<_>>(), colour.stroke_width(2))])?
        .label(name)
        .legend(move |(x, y)| Rectangle::new([(x, y - 4), (x + 14, y + 4)], colour.filled()));
    chart.draw_series(medians.map(|point| Circle::new(point, 3, colour.filled())))?;
    chart.draw_series(
        found
            .iter()
            .map(|(x, spread)| PathElement::new(vec![(*x, spread.min), (*x, spread.max)], colour.mix(0.6))),
    )?;
    Ok(())
}

/// Whether a line ends lower than it begins.
fn falls(line: &[Option<Spread>]) -> bool {
    let found = || line.iter().flatten();
    found().next().zip(found().next_back()).is_some_and(|(from, to)| from.median > to.median)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_has_its_titles_lines_and_points() -> Result<()> {
        let panel = |title: &str| Panel {
            title: title.to_owned(),
            points: vec!["1".to_owned(), "1 MiB".to_owned()],
            lines: vec![
                ("native".to_owned(), vec![Spread::of([1.0, 2.0]), None]),
                ("ram".to_owned(), vec![Spread::of([3.0]), Spread::of([4.0])]),
            ],
        };
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("a.svg");
        draw(&[panel("rate"), panel("cost")], &path)?;
        let svg = std::fs::read_to_string(&path)?;
        for word in ["<svg", "rate", "cost", "1 MiB", "native", "ram"] {
            assert!(svg.contains(word), "{word}: {svg}");
        }
        draw(&[Panel { title: String::new(), points: Vec::new(), lines: Vec::new() }], &path)
    }
}
