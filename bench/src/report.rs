//! What a blowout found: figures with their names, a table, JSON, and thresholds that make an exit status of them.

use std::fmt::{self, Write as _};
use std::str::FromStr;

use anyhow::{Context as _, bail};
use serde::Serialize;

use crate::latency::Summary;
use crate::meter::Usage;

/// Behind the name of a figure: the part of its limit.
const OF_LIMIT: &str = "_of_raw";

/// A number with a name.
#[derive(Debug, Clone, Serialize)]
pub struct Figure {
    /// Its name, as thresholds call it.
    pub name: String,
    /// The number.
    pub value: f64,
    /// What it counts.
    pub unit: &'static str,
    /// What it is of a limit that was measured in the same run, and of which.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub of: Option<Share>,
}

/// A figure as a part of a limit.
#[derive(Debug, Clone, Serialize)]
pub struct Share {
    /// 1 is all of it.
    pub ratio: f64,
    /// Which limit.
    pub limit: &'static str,
}

/// One line of what was seen over time.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Moment {
    /// Seconds since it began.
    pub at: f64,
    /// Results that waited in the broker.
    pub waiting: u32,
    /// Results that were stored so far.
    pub stored: u64,
}

/// What was found.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Report {
    /// What was tried, in words.
    pub title: String,
    /// On what.
    pub on: String,
    /// The numbers.
    pub figures: Vec<Figure>,
    /// What processes took.
    pub processes: Vec<Usage>,
    /// What happened when.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub moments: Vec<Moment>,
}

impl Report {
    /// Nothing yet.
    pub fn new(title: impl Into<String>, on: impl Into<String>) -> Self {
        Self { title: title.into(), on: on.into(), ..Self::default() }
    }

    /// Adds a figure.
    pub fn add(&mut self, name: impl Into<String>, value: f64, unit: &'static str) {
        self.figures.push(Figure { name: name.into(), value, unit, of: None });
    }

    /// Adds a figure that is a part of a limit.
    pub fn add_of(&mut self, name: impl Into<String>, value: f64, unit: &'static str, limit: f64, named: &'static str) {
        let name = name.into();
        self.add(name.clone(), value, unit);
        self.share(&name, limit, named);
    }

    /// Makes a figure that is there a part of a limit.
    pub fn share(&mut self, name: &str, limit: f64, named: &'static str) {
        if let Some(figure) = self.figures.iter_mut().find(|figure| figure.name == name) {
            figure.of = Some(Share { ratio: figure.value / limit, limit: named });
        }
    }

    /// Adds a distribution; of nothing nothing is known.
    pub fn add_latency(&mut self, name: &str, summary: &Summary) {
        for (part, value) in [("p50", summary.p50), ("p95", summary.p95), ("p99", summary.p99), ("max", summary.max)] {
            self.add(format!("{name}_{part}"), if summary.count == 0 { f64::NAN } else { value }, "s");
        }
    }

    /// Adds what processes took, beside so many results.
    pub fn add_usage(&mut self, usage: Vec<Usage>, results: f64) {
        for process in &usage {
            self.add(format!("{}_cpu", process.name), process.cpu_seconds / results * 1000.0, "s / 1,000 results");
            self.add(format!("{}_rss", process.name), process.peak_rss as f64 / 1e6, "MB at most");
        }
        self.processes.extend(usage);
    }

    /// A figure by its name; with `_of_raw` behind it, what part of its limit it is.
    pub fn get(&self, name: &str) -> Option<f64> {
        let figure = |name: &str| self.figures.iter().find(|figure| figure.name == name);
        match name.strip_suffix(OF_LIMIT) {
            Some(name) => figure(name)?.of.as_ref().map(|share| share.ratio),
            None => figure(name).map(|figure| figure.value),
        }
    }

    /// For a person.
    pub fn table(&self) -> String {
        let mut text = format!("{}\n{}\n", self.title, self.on);
        let width = self.figures.iter().map(|figure| figure.name.len()).max().unwrap_or_default();
        for Figure { name, value, unit, of } in &self.figures {
            let share = of.as_ref().map(|share| format!("  {:.2} of {}", share.ratio, share.limit)).unwrap_or_default();
            // Writing to a string cannot fail.
            let _ = writeln!(text, "  {name:width$}  {:>10} {unit}{share}", shown(*value));
        }
        text
    }
}

/// Three digits that count.
fn shown(value: f64) -> String {
    match value.abs() {
        size if size.is_infinite() => "never".to_owned(),
        size if size.is_nan() => "-".to_owned(),
        size if size == 0.0 || size >= 100.0 => thousands(value),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 => format!("{value:.2}"),
        size if size >= 0.01 => format!("{value:.3}"),
        _ => format!("{value:.5}"),
    }
}

fn thousands(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    if value < 0.0 { format!("-{text}") } else { text }
}

/// What a figure has to be.
#[derive(Debug, Clone, PartialEq)]
pub struct Threshold {
    name: String,
    most: bool,
    bound: f64,
}

impl FromStr for Threshold {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let (name, most, bound) = match (text.split_once("<="), text.split_once(">=")) {
            (Some((name, bound)), None) => (name, true, bound),
            (None, Some((name, bound))) => (name, false, bound),
            _ => bail!("{text:?} is not written as FIGURE<=NUMBER or FIGURE>=NUMBER"),
        };
        let bound = bound.trim().parse().with_context(|| format!("{:?} is no number", bound.trim()))?;
        Ok(Self { name: name.trim().to_owned(), most, bound })
    }
}

impl fmt::Display for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}{}", self.name, if self.most { "<=" } else { ">=" }, self.bound)
    }
}

impl Threshold {
    /// Whether it is about a part of a limit.
    pub fn is_of_limit(&self) -> bool {
        self.name.ends_with(OF_LIMIT)
    }

    /// Why a report does not meet it; none where it does.
    ///
    /// # Errors
    /// The report has no such figure.
    pub fn missed(&self, report: &Report) -> anyhow::Result<Option<String>> {
        let Some(value) = report.get(&self.name) else {
            let shares = report.figures.iter().filter(|figure| figure.of.is_some());
            let shares = shares.map(|figure| format!("{}{OF_LIMIT}", figure.name));
            let names = report.figures.iter().map(|figure| figure.name.clone()).chain(shares);
            bail!("there is no figure {:?}; there are: {}", self.name, names.collect::<Vec<_>>().join(", "));
        };
        let met = if self.most { value <= self.bound } else { value >= self.bound };
        let sign = if self.most { "at most" } else { "at least" };
        Ok((!met).then(|| format!("{} is {}, and has to be {sign} {}", self.name, shown(value), shown(self.bound))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_reads_well() {
        let mut report = Report::new("a title", "a machine");
        report.add_of("rate", 5400.0, "results/s", 7500.0, "raw");
        report.add("requests", 0.0042, "a result");
        assert_eq!(
            report.table(),
            "a title\na machine\n  rate           5,400 results/s  0.72 of raw\n  requests     0.00420 a result\n"
        );
    }

    #[test]
    fn thresholds_are_met_or_told() {
        let mut report = Report::default();
        report.add("p99", 2.5, "s");
        report.add_of("rate", 50.0, "results/s", 100.0, "raw");
        report.add("silent_p99", f64::INFINITY, "s");
        report.add("p99_of_nothing", f64::NAN, "s");
        let missed = |text: &str| text.parse::<Threshold>().unwrap().missed(&report);
        assert_eq!(missed("rate_of_raw>=0.5").unwrap(), None);
        assert_eq!(missed("rate_of_raw>=0.7").unwrap().unwrap(), "rate_of_raw is 0.500, and has to be at least 0.700");
        assert_eq!(missed("silent_p99<=60").unwrap().unwrap(), "silent_p99 is never, and has to be at most 60.0");
        assert!(missed("p99_of_nothing<=60").unwrap().is_some() && missed("p99_of_raw>=1").is_err());
        assert_eq!(missed("p99<=3").unwrap(), None);
        assert_eq!(missed("p99 <= 2").unwrap().unwrap(), "p99 is 2.50, and has to be at most 2.00");
        assert_eq!(missed("p99>=1e3").unwrap().unwrap(), "p99 is 2.50, and has to be at least 1,000");
        assert!(missed("p98<=1").unwrap_err().to_string().contains("there are: p99"));
        assert!("p99<3".parse::<Threshold>().is_err() && "p99<=x".parse::<Threshold>().is_err());
    }
}
