//! How fast a server stores results, beside what the database takes of the very same documents.
//!
//! The queue is filled first and publishing stops; the clock runs from the first delivery to the last acknowledgement. The
//! documents that the server sends are written down and replayed afterwards, with the server ended and the broker idle.

use std::time::Duration;

use anyhow::ensure;
use tokio::time::Instant;

use crate::act::Context;
use crate::fill::{Results, fill};
use crate::limits::{self, Rate};
use crate::meter::{Meter, Usage};
use crate::part::recording::Sent;
use crate::part::server::Report as Server;
use crate::report::Report;
use crate::servers::{Servers, is_measured};

/// How long the queue may be at a standstill.
const PATIENCE: Duration = Duration::from_secs(120);

/// What is measured.
#[derive(Debug, Clone)]
pub struct Ingest {
    /// Bytes of each result's data.
    pub bytes: usize,
    /// How many nodes send one.
    pub nodes: usize,
    /// How many more each of them sends.
    pub updates: usize,
    /// How many servers share the work.
    pub servers: usize,
}

/// What was there when a phase ended.
struct Ended {
    server: Server,
    usage: Vec<Usage>,
}

/// Fills the queue, serves it, replays what was sent.
///
/// # Errors
/// Broker, database or server do not do their part.
pub async fn ingest(context: &Context, wanted: &Ingest) -> anyhow::Result<Report> {
    let Ingest { bytes, nodes, updates, servers: count } = *wanted;
    let site = &context.site;
    let progress = &context.progress;
    site.set_up().await?;
    let dir = tempfile::tempdir()?;
    let mut early = None;
    if count > 1 {
        progress.step("the servers share the queues");
        let mut servers = Servers::start(context, count, Some(dir.path())).await?;
        servers.share_out(context).await?;
        servers.hold()?;
        early = Some(servers);
    }
    let results = Results::new(bytes)?;
    let mut bodies = Vec::new();
    for phase in 1..=1 + updates {
        progress
            .step(&format!("filling the queue: {nodes} results of {bytes} bytes, round {phase} of {}", 1 + updates));
        let more = fill(site, &results, 0..nodes, i64::try_from(phase)?).await?;
        if phase == 1 {
            bodies = more;
        }
    }
    let total = nodes * (1 + updates);
    progress.step(&format!("the server takes {total} results"));
    let mut servers = match early {
        Some(servers) => servers,
        None => Servers::start(context, count, Some(dir.path())).await?,
    };
    let meter = Meter::start(context.processes(&servers.pids(), None));
    servers.go_on()?;
    let (new, all) = served(&mut servers, &meter, nodes, total, progress).await?;
    let sent = servers.stop().await?.into_iter().filter(is_measured);
    let (later, first): (Vec<Sent>, Vec<Sent>) = sent.partition(|sent| sent.update);
    ensure!(first.len() == nodes, "{} of {nodes} new documents were written down", first.len());
    let batches = batch_sizes(first.first().map_or(bytes, |sent| sent.document.len()));
    progress.step(&format!("raw _bulk_docs of the same {} new documents", first.len()));
    let raw_new = limits::database(site, &[], &first, &batches).await?;
    let mut report = Report::new(
        format!(
            "ingest: {nodes} nodes, {bytes} bytes a result, {} results each; {count} servers, {} queues",
            1 + updates,
            site.queues
        ),
        context.on(),
    );
    phase(&mut report, "new", &all.server, 1, 1, &first, raw_new);
    report.add_usage(new.usage.clone(), nodes as f64);
    if !later.is_empty() {
        progress.step(&format!("raw _bulk_docs of the same {} updates", later.len()));
        let raw_updates = limits::database(site, &first, &later, &batches).await?;
        phase(&mut report, "updates", &all.server, 2, 1 + updates, &later, raw_updates);
        for (before, after) in new.usage.iter().zip(&all.usage) {
            let seconds = after.cpu_seconds - before.cpu_seconds;
            report.add(
                format!("updates_{}_cpu", after.name),
                seconds / (nodes * updates) as f64 * 1000.0,
                "s / 1,000 results",
            );
        }
        report.add(
            "server_rss_end",
            all.usage.iter().find(|usage| usage.name == "server").map_or(0.0, |usage| usage.peak_rss as f64 / 1e6),
            "MB at most",
        );
    }
    progress.step("raw publish, confirm, consume of the same results");
    let raw_broker = limits::broker(site, &bodies).await?;
    report.add("raw_broker", raw_broker.per_second, "results/s");
    report.add("requests_per_result", all.server.requests as f64 / all.server.seen.acked as f64, "");
    report.add("bytes_per_byte", all.server.sent_bytes as f64 / all.server.document_bytes as f64, "sent / record");
    site.clear().await?;
    Ok(report)
}

/// Batches of half a megabyte to four: where the database is best depends on the size of documents.
pub(crate) fn batch_sizes(bytes: usize) -> Vec<usize> {
    let mut sizes: Vec<usize> =
        [500_000, 1_000_000, 2_000_000, 4_000_000].map(|batch| (batch / bytes.max(1)).clamp(1, 1000)).into();
    sizes.dedup();
    sizes
}

/// What was there when the new ones were stored, and when all were.
async fn served(
    servers: &mut Servers,
    meter: &Meter,
    nodes: usize,
    total: usize,
    progress: &crate::progress::Progress,
) -> anyhow::Result<(Ended, Ended)> {
    let mut new = None;
    let (mut before, mut moved) = (0, Instant::now());
    loop {
        let now = servers.report().await?;
        let first = now.seen.phases.get(&1).map_or(0, |phase| phase.acked);
        if new.is_none() && first >= u64::try_from(nodes)? {
            new = Some(Ended { server: now.clone(), usage: meter.usage() });
        }
        let acked = now.seen.phases.range(1..).map(|(_, phase)| phase.acked).sum::<u64>();
        progress.at(&format!("the server takes {total} results: {acked}"));
        if acked >= u64::try_from(total)?
            && let Some(new) = new.take()
        {
            return Ok((new, Ended { server: now, usage: meter.usage() }));
        }
        if acked > before {
            (before, moved) = (acked, Instant::now());
        }
        ensure!(moved.elapsed() < PATIENCE, "nothing was stored for two minutes, with {acked} of {total} results done");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The figures of phases `from` to `to`.
fn phase(report: &mut Report, name: &str, server: &Server, from: i64, to: usize, sent: &[Sent], raw: Rate) {
    let to = i64::try_from(to).unwrap_or(from);
    let phases = || server.seen.phases.range(from..=to).map(|(_, phase)| phase);
    let (first, last) = (phases().map(|phase| phase.first).min(), phases().map(|phase| phase.last).max());
    let seconds = Duration::from_micros(last.unwrap_or(0).saturating_sub(first.unwrap_or(0))).as_secs_f64();
    let acked: u64 = phases().map(|phase| phase.acked).sum();
    let bytes: usize = sent.iter().map(|sent| sent.document.len()).sum();
    let limit = "raw _bulk_docs";
    report.add(format!("{name}_results"), acked as f64, "results");
    report.add_of(format!("{name}_rate"), acked as f64 / seconds, "results/s", raw.per_second, limit);
    report.add_of(format!("{name}_documents"), sent.len() as f64 / seconds, "documents/s", raw.per_second, limit);
    report.add_of(format!("{name}_mb"), bytes as f64 / seconds / 1e6, "MB/s", raw.megabytes, limit);
    report.add(format!("{name}_raw"), raw.per_second, "documents/s");
    report.add(format!("{name}_raw_batch"), raw.batch as f64, "documents a request");
    report.add(format!("{name}_raw_connections"), raw.connections as f64, "");
}
