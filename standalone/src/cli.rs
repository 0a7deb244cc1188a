//! The command line of `vogeler`.

use std::path::PathBuf;

use anyhow::{bail, ensure};
use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand, value_parser};
use vogeler_process::logging::LogLevel;
use vogeler_process::{Known, Settings};
use vogeler_runner::ask::Ask;
use vogeler_runner::cli::{LookBack, RunFlags};
use vogeler_runner::config::RunnerSection;

/// Looks at this machine, or runs commands and asks questions, with no broker and no database server
///
/// Server, node and broker are this one process, and the records are a file. Without -c and without another command it
/// collects facts and packages of this machine, says what it found and what to ask next. For many machines there are
/// vogeler-server, vogeler-client and vogeler-runner, which take the same commands and questions. No configuration file
/// and no variables are read. The exit status is that of vogeler-runner.
#[derive(Debug, Parser)]
#[command(name = "vogeler", version, subcommand_negates_reqs = true)]
pub struct Cli {
    /// What else it can do
    #[command(subcommand)]
    pub action: Option<Action>,

    /// A run
    #[command(flatten)]
    pub run: RunFlags,

    /// The file of the records
    ///
    /// Made where there is none. What its nodes and runs have to remember is in a folder beside it, FILE.d; both may be
    /// deleted. `--dbhost sqlite:///path` lets the other programs read the same file.
    #[arg(long = "db", value_name = "FILE", default_value = "vogeler.db", global = true)]
    pub database: PathBuf,

    /// Be so many nodes instead of one
    ///
    /// Up to a thousand. They are called web01.example.com, app01.example.com, db01.example.com and so on, in the groups web, app and db. All of
    /// them look at this machine.
    #[arg(long = "nodes", value_name = "COUNT", value_parser = value_parser!(u16).range(1..=1000))]
    pub fleet: Option<u16>,

    /// Take the plugins of this folder instead of those that come along
    ///
    /// DIR/*.yaml are the descriptors; programs that they name are looked for in DIR/bin and then where the system has
    /// its programs. Nobody else may be able to write any of it. Without -c all of them are run.
    #[arg(long, value_name = "DIR")]
    pub plugins: Option<PathBuf>,

    /// Load the design documents of this folder, too, and say what is wrong with them
    ///
    /// Before a run or a `view`. They stay in the file; of two with one name the later one counts. `vogeler-server check
    /// --design-docs` says more.
    #[arg(long, value_name = "DIR")]
    pub design_docs: Option<PathBuf>,

    /// How much to say: error, warn, info, debug or trace
    ///
    /// One line an event, to standard error. Unless said, warnings, but none of plugins that fail: the run tells those.
    #[arg(long, value_name = "LEVEL", global = true)]
    pub loglevel: Option<LogLevel>,
}

/// What else `vogeler` can do.
#[derive(Debug, Clone, Subcommand)]
pub enum Action {
    /// Show again what came of a run: the last one, unless another is named
    ///
    /// From the notes beside the file of the records, and from the records.
    Status(LookBack),
    /// Questions about nodes and their records
    #[command(flatten)]
    Ask(Box<Ask>),
}

impl Cli {
    /// The command as clap has it: the runner's flags, without what needs nodes that live on.
    pub fn definition() -> clap::Command {
        Self::command()
            .mut_arg("command", |arg| arg.required(false))
            .mut_arg("target", |arg| arg.long("target"))
            .mut_arg("detach", |arg| arg.hide(true))
            .mut_arg("ttl", |arg| arg.hide(true))
            .mut_arg("quiet", |arg| arg.hide(true))
    }

    /// Parses the command line of this process.
    ///
    /// # Errors
    /// Help, the version, and whatever is wrong with it.
    pub fn read() -> Result<Self, clap::Error> {
        Self::from_arg_matches(&Self::definition().try_get_matches()?)
    }

    /// What is asked for in vain here.
    ///
    /// # Errors
    /// Says which flag, and why.
    pub fn check(&self) -> anyhow::Result<()> {
        if let Some(action) = &self.action {
            self.run.refuse()?;
            let of_nodes = [(self.fleet.is_some(), "--nodes"), (self.plugins.is_some(), "--plugins")];
            let asks_view = matches!(action, Action::Ask(asked) if matches!(**asked, Ask::View(_)));
            let of_views = (self.design_docs.is_some() && !asks_view, "--design-docs");
            if let Some((_, flag)) = of_nodes.into_iter().chain([of_views]).find(|(is_given, _)| *is_given) {
                bail!("{flag} belongs to a run: a question starts no nodes");
            }
        }
        ensure!(
            !self.run.detach,
            "--detach leaves, and the nodes are part of this process: nobody would be left to answer"
        );
        let more = self.run.given().filter(|_| self.run.command.is_empty() && !self.run.dry_run);
        if let Some(flag) = more {
            bail!("{flag} says how to run a command; say which with -c, as in vogeler -c facts");
        }
        Ok(())
    }

    /// How long a run waits, by the flags.
    ///
    /// # Errors
    /// A time that is none.
    pub fn runner(&self) -> anyhow::Result<RunnerSection> {
        let known = Known::default().section("runner", &RunnerSection::default());
        Ok(Settings::of_flags(&known, self.run.settings())?.section("runner")?)
    }
}
