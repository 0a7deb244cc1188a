//! `vogeler-client`: parses flags, wires, prints what went wrong once and exits.

use std::process::ExitCode;

use anyhow::Context as _;
use tracing::warn;
use vogeler_client::cli::{Action, Cli, Flags, Loaded};
use vogeler_client::plugin::registry::Registry;
use vogeler_client::run::Agent;
use vogeler_client::{check, identity, memory, show};
use vogeler_messaging::amqp::{Frames, deepen_stacks};
use vogeler_messaging::topology::slot_key;
use vogeler_process::signals::{ReloadSignal, StopSignals};
use vogeler_process::{exit, logging, print_findings, supervisor};

fn main() -> ExitCode {
    match exit::parse_flags::<Cli>() {
        Ok(cli) => exit::report("vogeler-client", start(cli)),
        Err(status) => status,
    }
}

fn start(cli: Cli) -> anyhow::Result<ExitCode> {
    memory::give_back_promptly();
    // SAFETY: main has started no thread yet.
    #[allow(unsafe_code, reason = "see there")]
    unsafe {
        deepen_stacks(Frames::Small);
    }
    let loaded = cli.flags.load()?;
    logging::start(loaded.client.loglevel);
    for notice in loaded.settings.notices() {
        warn!("{notice}");
    }
    // One thread: an idle agent should cost nothing.
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start the runtime")?;
    runtime.block_on(act(cli.action.unwrap_or(Action::Run), cli.oneshot, &cli.flags, loaded))
}

#[allow(clippy::print_stdout, clippy::print_stderr, reason = "what a person asked to see")]
async fn act(action: Action, oneshot: bool, flags: &Flags, loaded: Loaded) -> anyhow::Result<ExitCode> {
    let Loaded { settings, broker, client } = loaded;
    let read_plugins = || Registry::read(&client.plugin_dir, &client.program_dir);
    let name = || identity::node_name(client.node_name.clone());
    match action {
        Action::Config => print!("{}", settings.describe()),
        Action::Slot { node } => println!("{}", slot_key(&node)),
        Action::List => {
            let registry = read_plugins();
            print!("{}", show::list(&registry));
            return Ok(ExitCode::from(u8::from(!registry.broken().is_empty())));
        }
        Action::Exec { alias } => print!("{}", show::exec(&alias, &read_plugins(), name()?).await?),
        Action::Check => {
            let (topology, node) = (broker.topology(), name());
            let broker = broker.amqp("vogeler-client check", Frames::Small)?;
            return Ok(print_findings(&check::check(&broker, &topology, &client, &node).await));
        }
        Action::Run => {
            let agent = Agent::of(&broker, &client, oneshot)?;
            let mut stop = StopSignals::listen().context("cannot listen for signals")?;
            let mut hangup = ReloadSignal::listen().context("cannot listen for signals")?;
            let mut groups = client.groups.clone();
            let reload = async || {
                hangup.recv().await;
                match flags.load() {
                    Ok(loaded) => groups = loaded.client.groups,
                    Err(error) => warn!(%error, "the configuration was not read anew; the groups stay as they are"),
                }
                (read_plugins(), groups.clone())
            };
            supervisor::guard(Box::pin(agent.run(async move { stop.recv().await }, reload))).await?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
