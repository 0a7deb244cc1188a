//! Whether cost grows as the fleet does: the same broadcast to more and more nodes.

use std::path::Path;

use crate::act::Context;
use crate::fleet::{Fleet, blow};
use crate::plot::{self, Line};
use crate::report::Report;

/// Asks fleets of these sizes the same once, and puts what it took on one plot.
///
/// # Errors
/// What [`blow`] says, or the plot cannot be written.
pub async fn scale(context: &Context, sizes: &[usize], one: &Fleet, svg: Option<&Path>) -> anyhow::Result<Report> {
    let mut report = Report::new(format!("one broadcast to {sizes:?} nodes"), context.on());
    let mut points: Vec<(f64, f64, f64, f64)> = Vec::new();
    for nodes in sizes {
        let connections = if one.connections == 0 { 0 } else { nodes.div_ceil(1000) };
        let fleet = Fleet { nodes: *nodes, connections, ..one.clone() };
        let context = context.elsewhere()?;
        let found = Box::pin(blow(&context, &fleet)).await?;
        context.progress.say(&found.table());
        let value = |name: &str| found.get(name).unwrap_or(f64::NAN);
        let cpu: f64 = found.processes.iter().map(|process| process.cpu_seconds).sum();
        points.push((*nodes as f64, value("seconds"), value("stored_p99"), cpu));
        for (name, unit) in [("silent", "answers"), ("seconds", "s"), ("stored_p99", "s"), ("rate", "results/s")] {
            report.add(format!("n{nodes}_{name}"), value(name), unit);
        }
        report.add(format!("n{nodes}_cpu"), cpu / value("results") * 1000.0, "s / 1,000 results, all processes");
    }
    if let (Some(first), Some(last)) = (points.first(), points.last()) {
        let growth = |of: fn(&(f64, f64, f64, f64)) -> f64| (of(last) / last.0) / (of(first) / first.0);
        report.add("growth_cpu", growth(|point| point.3), "x of the first a node");
        report.add("growth_seconds", growth(|point| point.1), "x of the first a node");
    }
    if let Some(path) = svg {
        let line = |name, of: fn(&(f64, f64, f64, f64)) -> f64| Line {
            name,
            points: points.iter().map(|point| (point.0, of(point))).filter(|point| point.1.is_finite()).collect(),
        };
        let all = [
            line("all stored, s", |point| point.1),
            line("p99 of a node, s", |point| point.2),
            line("CPU of everything, s", |point| point.3),
        ];
        plot::lines(path, "One broadcast to more and more nodes", "nodes", "seconds", &all)?;
    }
    Ok(report)
}
