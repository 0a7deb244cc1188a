//! Pictures of it, as SVG.

use std::fs::File;
use std::path::Path;

use anyhow::{Context as _, anyhow};
use plotters::prelude::*;

use crate::report::Moment;

/// How large a picture is.
const SIZE: (u32, u32) = (900, 500);

/// A line of points with a name.
#[derive(Debug, Clone)]
pub struct Line<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its points.
    pub points: Vec<(f64, f64)>,
}

/// Draws lines over one pair of axes.
///
/// # Errors
/// The file cannot be written.
pub fn lines(path: &Path, title: &str, x: &str, y: &str, lines: &[Line<'_>]) -> anyhow::Result<()> {
    let failed = |error: &dyn std::fmt::Display| anyhow!("cannot draw {}: {error}", path.display());
    let all = || lines.iter().flat_map(|line| line.points.iter());
    let most = |of: fn(&(f64, f64)) -> f64| all().map(of).fold(f64::MIN_POSITIVE, f64::max) * 1.05;
    let (most_x, most_y) = (most(|point| point.0), most(|point| point.1));
    let root = SVGBackend::new(path, SIZE).into_drawing_area();
    root.fill(&WHITE).map_err(|error| failed(&error))?;
    let mut chart = ChartBuilder::on(&root)
        .caption(title, ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(70)
        .build_cartesian_2d(0.0..most_x, 0.0..most_y)
        .map_err(|error| failed(&error))?;
    chart.configure_mesh().x_desc(x).y_desc(y).light_line_style(WHITE).draw().map_err(|error| failed(&error))?;
    for (number, line) in lines.iter().enumerate() {
        let color = Palette99::pick(number).to_rgba();
        let series = LineSeries::new(line.points.iter().copied(), color.stroke_width(2));
        let drawn = chart.draw_series(series).map_err(|error| failed(&error))?;
        drawn.label(line.name).legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], color.stroke_width(2)));
        if line.points.len() < 30 {
            let dots = line.points.iter().map(|point| Circle::new(*point, 3, color.filled()));
            chart.draw_series(dots).map_err(|error| failed(&error))?;
        }
    }
    let legend = &mut chart.configure_series_labels();
    legend.border_style(BLACK.mix(0.3)).background_style(WHITE.mix(0.9)).position(SeriesLabelPosition::UpperLeft);
    legend.draw().map_err(|error| failed(&error))?;
    root.present().map_err(|error| failed(&error))
}

/// Sees that a picture can be put there.
///
/// # Errors
/// It cannot.
pub fn try_out(path: &Path) -> anyhow::Result<()> {
    File::create(path).map(drop).with_context(|| format!("cannot draw into {}", path.display()))
}

/// Draws what waited and what was stored over time.
///
/// # Errors
/// The file cannot be written.
pub fn moments(path: &Path, title: &str, moments: &[Moment]) -> anyhow::Result<()> {
    let waiting = moments.iter().map(|moment| (moment.at, f64::from(moment.waiting))).collect();
    let stored = moments.iter().map(|moment| (moment.at, moment.stored as f64)).collect();
    let both = [Line { name: "waiting in the broker", points: waiting }, Line { name: "stored", points: stored }];
    lines(path, title, "seconds", "results", &both)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_names_its_lines() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("plot.svg");
        let some = [Moment { at: 0.0, waiting: 0, stored: 0 }, Moment { at: 1.0, waiting: 10, stored: 90 }];
        moments(&path, "a title", &some).unwrap();
        let svg = std::fs::read_to_string(&path).unwrap();
        assert!(svg.contains("a title") && svg.contains("waiting in the broker") && svg.contains("polyline"), "{svg}");
    }
}
