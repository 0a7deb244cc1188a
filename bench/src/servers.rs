//! The servers of a measurement, as one.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::time::{Instant, sleep};

use crate::act::Context;
use crate::fill::{Results, fill};
use crate::part::Part;
use crate::part::recording::{self, Sent};
use crate::part::server::{Order, Report};

/// How long servers may take to share the queues out among themselves.
const PATIENCE: Duration = Duration::from_secs(180);

/// Results that show who has which queue; ten for each slot or so.
const SHOWING: usize = 640;

/// From this number on nodes are not measured.
const BEYOND: usize = 900_000;

/// Some servers of one site.
#[derive(Debug)]
pub struct Servers {
    parts: Vec<Part>,
    records: Vec<PathBuf>,
}

impl Servers {
    /// Starts so many; they write down what they send in `dir`, if there is one.
    ///
    /// # Errors
    /// One cannot be started.
    pub async fn start(context: &Context, count: usize, dir: Option<&Path>) -> anyhow::Result<Self> {
        let (mut parts, mut records) = (Vec::new(), Vec::new());
        for number in 0..count {
            let record = dir.map(|dir| dir.join(format!("sent{number}")));
            records.extend(record.clone());
            let order = Order { url: context.site.store.url.clone(), record };
            parts.push(Part::start("server", &context.flags, &order).await?);
        }
        Ok(Self { parts, records })
    }

    /// Their processes.
    pub fn pids(&self) -> Vec<Option<i32>> {
        self.parts.iter().map(Part::pid).collect()
    }

    /// What each says of itself.
    async fn each(&mut self) -> anyhow::Result<Vec<Report>> {
        let mut reports = Vec::with_capacity(self.parts.len());
        for part in &mut self.parts {
            reports.push(part.ask("report").await?);
        }
        Ok(reports)
    }

    /// What they have done together; of latencies, what the first has seen.
    ///
    /// # Errors
    /// One has ended.
    pub async fn report(&mut self) -> anyhow::Result<Report> {
        let mut reports = self.each().await?.into_iter();
        let first = reports.next().context("there is no server")?;
        Ok(reports.fold(first, Report::with))
    }

    /// Forgets the latencies.
    ///
    /// # Errors
    /// One has ended.
    pub async fn begin(&mut self) -> anyhow::Result<()> {
        for part in &mut self.parts {
            part.ask::<()>("begin").await?;
        }
        Ok(())
    }

    /// Returns when each of them has its share of what comes, twice in a row.
    ///
    /// # Errors
    /// They do not share.
    pub async fn share_out(&mut self, context: &Context) -> anyhow::Result<()> {
        let (begun, results, mut even) = (Instant::now(), Results::new(200)?, 0);
        let mut before = vec![0; self.parts.len()];
        while even < 2 {
            ensure!(begun.elapsed() < PATIENCE, "the servers do not share the queues: {before:?} results each");
            fill(&context.site, &results, BEYOND..BEYOND + SHOWING, 0).await?;
            let sum = before.iter().sum::<u64>() + u64::try_from(SHOWING)?;
            let now = loop {
                let now: Vec<u64> = self.each().await?.iter().map(|report| report.seen.acked).collect();
                if now.iter().sum::<u64>() >= sum {
                    break now;
                }
                ensure!(begun.elapsed() < PATIENCE, "the servers do not take what comes: {now:?} results each");
                sleep(Duration::from_millis(100)).await;
            };
            let share = SHOWING as f64 / self.parts.len() as f64;
            let is_fair = |taken: u64| (0.5..1.5).contains(&(taken as f64 / share));
            let fair = now.iter().zip(&before).all(|(now, before)| is_fair(now - before));
            even = if fair { even + 1 } else { 0 };
            context.progress.at(&format!("the servers share the queues: {now:?}"));
            before = now;
            sleep(Duration::from_secs(1)).await;
        }
        Ok(())
    }

    /// Holds them: whatever comes waits.
    ///
    /// # Errors
    /// One has ended.
    pub fn hold(&self) -> anyhow::Result<()> {
        self.signal(Signal::SIGSTOP)
    }

    /// Lets them go on.
    ///
    /// # Errors
    /// One has ended.
    pub fn go_on(&self) -> anyhow::Result<()> {
        self.signal(Signal::SIGCONT)
    }

    fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        for pid in self.pids() {
            kill(Pid::from_raw(pid.context("a server has ended")?), signal)?;
        }
        Ok(())
    }

    /// Ends them in order; what they have sent, each document's versions in their order.
    ///
    /// # Errors
    /// One ends badly, or what it wrote cannot be read.
    pub async fn stop(self) -> anyhow::Result<Vec<Sent>> {
        for part in self.parts {
            part.stop().await?;
        }
        let mut all = Vec::new();
        for path in self.records {
            all.extend(recording::read(&path)?);
        }
        Ok(all)
    }
}

/// Whether it is of a node that is measured.
pub fn is_measured(sent: &Sent) -> bool {
    sent.id < crate::part::nodes::name(BEYOND).to_string()
}
