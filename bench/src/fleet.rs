//! The blowout itself: nodes, operators who all ask at once, nodes that come and go, plugins that fail.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use futures_util::future::try_join_all;
use tokio::time::Instant;
use vogeler_messaging::amqp::AmqpSession;
use vogeler_messaging::{Broker as _, Session as _};

use crate::act::Context;
use crate::fill::Results;
use crate::latency::Latencies;
use crate::limits::{self, Rate};
use crate::meter::{self, Meter};
use crate::part::recording::Sent;
use crate::part::server::Report as Server;
use crate::part::{self, Part, nodes};
use crate::profile::Profile;
use crate::report::{Moment, Report};
use crate::runner::{Answered, Runner};
use crate::servers::Servers;

/// How often the queue is looked at.
const EVERY: Duration = Duration::from_millis(200);

/// How long no further node may come up before that is an error.
const PATIENCE: Duration = Duration::from_secs(120);

/// What is tried.
#[derive(Debug, Clone)]
pub struct Fleet {
    /// How many nodes.
    pub nodes: usize,
    /// Over how many connections; 0 for one each.
    pub connections: usize,
    /// What their plugins bring.
    pub profile: Profile,
    /// How many operators ask at the same time.
    pub runners: usize,
    /// How many commands each of them gives, one after the other.
    pub commands: usize,
    /// So many of a hundred nodes leave every ten seconds, and come back.
    pub churn: f64,
    /// So many of a hundred plugins fail.
    pub failures: f64,
    /// Whether commands are lost when the broker restarts, which spares it the disk.
    pub transient: bool,
    /// How long an operator waits for an answer.
    pub timeout: Duration,
    /// Whether the limits are measured afterwards.
    pub limits: bool,
}

/// What was seen while operators asked.
struct Asked {
    answers: Vec<Answered>,
    moments: Vec<Moment>,
    seconds: f64,
}

/// Brings the nodes up, asks them, and says what came of it.
///
/// # Errors
/// Broker, database or a part do not do theirs.
pub async fn blow(context: &Context, wanted: &Fleet) -> anyhow::Result<Report> {
    let site = &context.site;
    if wanted.connections == 0 {
        part::open_files(wanted.nodes)?;
    }
    site.set_up().await?;
    let dir = tempfile::tempdir()?;
    let mut server = Servers::start(context, 1, wanted.limits.then(|| dir.path())).await?;
    let broker = meter::listener(&site.login()?.0, 5672);
    let broker_before = broker.map(meter::memory);
    let order = nodes::Order {
        nodes: wanted.nodes,
        connections: wanted.connections,
        profile: wanted.profile.clone(),
        failures: wanted.failures,
    };
    let mut fleet = Part::start("nodes", &context.flags, &order).await?;
    let begun = Instant::now();
    up(context, &mut server, wanted.nodes).await?;
    let up_seconds = begun.elapsed().as_secs_f64();
    let idle = (fleet.pid().and_then(meter::proportional), broker.map(meter::memory));
    let hellos = server.report().await?;
    server.begin().await?;
    let meter = Meter::start(context.processes(&server.pids(), Some(&fleet)));
    let asked = asked(context, wanted, &mut fleet).await?;
    let (served, fleet_did): (Server, nodes::Report) = (server.report().await?, fleet.ask("report").await?);
    let usage = meter.usage();
    context.progress.step("the nodes go");
    fleet.stop().await?;
    let sent = server.stop().await?;

    let results = served.seen.latency.count as f64;
    let mut report = Report::new(title(wanted), context.on());
    let mut latencies = Latencies::default();
    asked.answers.iter().for_each(|answered| latencies.add(&answered.latencies));
    let sum = |of: fn(&Answered) -> usize| asked.answers.iter().map(of).sum::<usize>() as f64;
    report.add("nodes", wanted.nodes as f64, "");
    report.add("nodes_up", up_seconds, "s until all had said hello");
    report.add("answers", sum(|answered| answered.stored), "stored");
    report.add("failed", sum(|answered| answered.failed), "answers");
    report.add("refused", sum(|answered| answered.refused), "answers");
    report.add("silent", sum(|answered| answered.silent), "answers");
    report.add("left", fleet_did.left as f64, "times that a node left");
    report.add("results", results, "");
    report.add("seconds", asked.seconds, "s");
    report.add("rate", results / asked.seconds, "results/s");
    report.add("mb", (served.document_bytes - hellos.document_bytes) as f64 / asked.seconds / 1e6, "MB/s of records");
    let confirmed = asked.answers.iter().map(|answered| answered.confirmed).max().unwrap_or_default();
    report.add("confirmed_max", confirmed.as_secs_f64(), "s until every queue had a command");
    report.add_latency("result", &served.seen.latency);
    let requests = (served.requests - hellos.requests) as f64;
    report.add("requests_per_result", requests / results, "");
    let waiting = asked.moments.iter().map(|moment| moment.waiting).max().unwrap_or(0);
    report.add("waiting_max", f64::from(waiting), "results in the queue");
    report.moments = asked.moments;
    report.add_usage(usage, results);
    let a_node = |bytes: u64| bytes as f64 / wanted.nodes as f64 / 1e3;
    if let Some(pss) = idle.0 {
        report.add("nodes_kb", a_node(pss), "KB a node, idle");
    }
    if let (Some(before), Some(after)) = (broker_before, idle.1) {
        report.add("broker_kb", a_node(after.saturating_sub(before)), "KB a node, idle");
    }
    let stored = latencies.summary();
    report.add_latency("stored", &stored);
    if wanted.limits {
        let (raw, raw_broker) = raw(context, wanted, sent).await?;
        report.share("rate", raw.per_second, "raw _bulk_docs");
        report.add("raw", raw.per_second, "documents/s");
        report.add("raw_broker", raw_broker.per_second, "results/s");
        let least = results / raw.per_second + results / raw_broker.per_second;
        report.share("stored_p99", least, "n/raw AMQP + n/raw _bulk_docs");
    }
    context.progress.step("taking the queues away");
    site.clear().await?;
    Ok(report)
}

fn title(wanted: &Fleet) -> String {
    let Fleet { nodes, connections, runners, commands, churn, failures, .. } = wanted;
    let connections =
        if *connections == 0 { "one connection each".to_owned() } else { format!("{connections} connections") };
    // Operator and turn say what is asked for: of many kinds only the first, where little is asked.
    let asked = (runners + commands).saturating_sub(1);
    let kinds = wanted.profile.kinds.iter().take(asked).map(|kind| format!("{} {} B", kind.alias, kind.bytes));
    let kinds = kinds.collect::<Vec<_>>().join(", ");
    let transient = if wanted.transient { "; transient commands" } else { "" };
    format!(
        "{nodes} nodes over {connections}; {runners} runners, {commands} commands each; {kinds}; churn {churn} %, failures {failures} %{transient}"
    )
}

/// Returns when every node has said hello, and the server has stored it.
async fn up(context: &Context, server: &mut Servers, nodes: usize) -> anyhow::Result<()> {
    let (mut before, mut moved) = (0, Instant::now());
    context.progress.step(&format!("bringing up {nodes} nodes"));
    loop {
        let now = server.report().await?;
        context.progress.at(&format!("bringing up {nodes} nodes: {}", now.seen.acked));
        if now.seen.acked >= u64::try_from(nodes)? {
            return Ok(());
        }
        if now.seen.acked > before {
            (before, moved) = (now.seen.acked, Instant::now());
        }
        ensure!(
            moved.elapsed() < PATIENCE,
            "only {before} of {nodes} nodes have said hello, and no further for two minutes"
        );
        tokio::time::sleep(EVERY).await;
    }
}

/// Every operator asks, one command after the other; meanwhile the queue is watched, and nodes leave.
async fn asked(context: &Context, wanted: &Fleet, fleet: &mut Part) -> anyhow::Result<Asked> {
    let session = context.site.amqp("vogeler-blowout runners")?.connect().await?;
    let begun = Instant::now();
    let done = Cell::new(0);
    let total = wanted.runners * wanted.commands;
    context.progress.step(&format!("asking {} nodes, {total} times", wanted.nodes));
    let operators = try_join_all((0..wanted.runners).map(|number| operator(context, wanted, &session, number, &done)));
    let moments = RefCell::default();
    let watch = watch(context, wanted, &session, fleet, begun, (&done, &moments));
    let answers = tokio::select! {
        biased;
        answers = operators => answers?,
        lost = watch => match lost? {},
    };
    let seconds = begun.elapsed().as_secs_f64();
    session.close().await;
    Ok(Asked { answers: answers.into_iter().flatten().collect(), moments: moments.take(), seconds })
}

async fn operator(
    context: &Context,
    wanted: &Fleet,
    session: &AmqpSession,
    number: usize,
    done: &Cell<usize>,
) -> anyhow::Result<Vec<Answered>> {
    let (topology, login) = (context.site.topology(), context.site.login()?.1);
    let (nodes, patience, persistent) = (wanted.nodes, wanted.timeout, !wanted.transient);
    let runner = Runner { session, topology: &topology, login: &login, nodes, patience, persistent };
    let mut answers = Vec::with_capacity(wanted.commands);
    for turn in 0..wanted.commands {
        let kind = &wanted.profile.kinds[(number + turn) % wanted.profile.kinds.len()];
        answers.push(runner.ask(&kind.alias).await.context("a runner")?);
        done.set(done.get() + 1);
    }
    Ok(answers)
}

/// Looks at the queue and sends nodes away, until it is dropped.
async fn watch(
    context: &Context,
    wanted: &Fleet,
    session: &AmqpSession,
    fleet: &mut Part,
    begun: Instant,
    (done, moments): (&Cell<usize>, &RefCell<Vec<Moment>>),
) -> anyhow::Result<Infallible> {
    let queues = context.site.results_queues();
    let total = wanted.runners * wanted.commands;
    let mut leaving = 0.0;
    let mut tick = tokio::time::interval(EVERY);
    loop {
        tick.tick().await;
        let statuses = session.queue_statuses(&queues).await?;
        let waiting = statuses.into_iter().flatten().map(|status| status.messages).sum::<u32>();
        let sent: nodes::Report = fleet.ask("report").await?;
        let stored = sent.published.saturating_sub(u64::from(waiting));
        let at = begun.elapsed().as_secs_f64();
        moments.borrow_mut().push(Moment { at, waiting, stored });
        context.progress.at(&format!(
            "asking {} nodes: {} of {total} commands answered, {} results, {waiting} waiting, {} nodes up",
            wanted.nodes,
            done.get(),
            sent.published,
            sent.up
        ));
        leaving += wanted.nodes as f64 * wanted.churn / 100.0 * EVERY.as_secs_f64() / 10.0;
        if leaving >= 1.0 {
            fleet.ask::<()>(&format!("leave {}", leaving.floor())).await?;
            leaving -= leaving.floor();
        }
    }
}

/// What database and broker take of the same bodies, now that nothing else runs.
async fn raw(context: &Context, wanted: &Fleet, sent: Vec<Sent>) -> anyhow::Result<(Rate, Rate)> {
    // The hellos come first: they are what the results update.
    let (later, first): (Vec<_>, Vec<_>) = sent.into_iter().partition(|sent| sent.update);
    let bytes = later.iter().map(|sent| sent.document.len()).sum::<usize>() / later.len().max(1);
    let batches = crate::ingest::batch_sizes(bytes);
    context.progress.step(&format!("raw _bulk_docs of the same {} documents", later.len()));
    let database = limits::database(&context.site, &first, &later, &batches).await?;
    context.progress.step("raw publish, confirm, consume of such results");
    let kinds = wanted.profile.kinds.iter().map(|kind| Results::new(kind.bytes)).collect::<anyhow::Result<Vec<_>>>()?;
    let bodies =
        (0..wanted.nodes.clamp(1000, 20_000)).map(|number| kinds[number % kinds.len()].body(&nodes::name(number), 1));
    let bodies = bodies.collect::<anyhow::Result<Vec<_>>>()?;
    Ok((database, limits::broker(&context.site, &bodies).await?))
}
