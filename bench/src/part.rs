//! Server and nodes as processes of their own, so that what each of them takes can be told apart.
//!
//! The same program is started again with `part …`. What it is to do comes through its standard input, one line of JSON; then
//! words that are answered with a line each. It ends when that input does, so that nothing outlives a blowout.

pub mod nodes;
pub mod recording;
pub mod server;

use std::env;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines, Stdin};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

/// How long a part may take to end.
const GOODBYE: Duration = Duration::from_secs(60);

/// A part that runs.
#[derive(Debug)]
pub struct Part {
    name: &'static str,
    child: Child,
    input: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Part {
    /// Starts a part and tells it what to do.
    ///
    /// # Errors
    /// It cannot be started.
    pub async fn start(name: &'static str, flags: &[String], order: &impl Serialize) -> anyhow::Result<Self> {
        let program = env::current_exe().context("cannot find this program")?;
        let mut command = Command::new(program);
        command.args(["part", name]).args(flags).stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().with_context(|| format!("cannot start the part {name}"))?;
        let (input, output) = (child.stdin.take().context("no pipe")?, child.stdout.take().context("no pipe")?);
        let mut part = Self { name, child, input, answers: BufReader::new(output).lines() };
        part.say(&serde_json::to_string(order)?).await?;
        Ok(part)
    }

    async fn say(&mut self, line: &str) -> anyhow::Result<()> {
        let written = async {
            self.input.write_all(line.as_bytes()).await?;
            self.input.write_all(b"\n").await?;
            self.input.flush().await
        };
        written.await.with_context(|| format!("the part {} has ended", self.name))
    }

    /// Says a word and reads the answer.
    ///
    /// # Errors
    /// It has ended; what it said stands in the log.
    pub async fn ask<T: DeserializeOwned>(&mut self, word: &str) -> anyhow::Result<T> {
        self.say(word).await?;
        match self.answers.next_line().await? {
            Some(line) => {
                serde_json::from_str(&line).with_context(|| format!("the part {} answered {line:?}", self.name))
            }
            None => bail!("the part {} has ended, for the reason that it has printed", self.name),
        }
    }

    /// Its process.
    pub fn pid(&self) -> Option<i32> {
        self.child.id().and_then(|pid| i32::try_from(pid).ok())
    }

    /// Ends it in order.
    ///
    /// # Errors
    /// It ended badly, or not in time.
    pub async fn stop(self) -> anyhow::Result<()> {
        let Self { name, mut child, input, .. } = self;
        drop(input);
        let ended = tokio::time::timeout(GOODBYE, child.wait()).await;
        let status = ended.with_context(|| format!("the part {name} does not end"))??;
        if status.success() { Ok(()) } else { bail!("the part {name} ended with {status}") }
    }
}

/// Sees that parts may open so many files, and some more for themselves.
///
/// # Errors
/// The system allows fewer.
pub fn open_files(wanted: usize) -> anyhow::Result<()> {
    let wanted = u64::try_from(wanted)? + 100;
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    ensure!(
        hard >= wanted,
        "the system allows {hard} open files a process, and nodes with a connection of their own take one each: {wanted}; \
         ulimit -Hn, or LimitNOFILE= of the unit, is what says so"
    );
    if soft < wanted {
        setrlimit(Resource::RLIMIT_NOFILE, wanted, hard).context("the limit of open files cannot be raised")?;
    }
    Ok(())
}

/// The way in of a part.
pub(crate) type Input = Lines<BufReader<Stdin>>;

/// What a part is told first, and the way to hear more.
///
/// # Errors
/// It is no order.
pub(crate) async fn order<T: DeserializeOwned>() -> anyhow::Result<(T, Input)> {
    let mut input = BufReader::new(tokio::io::stdin()).lines();
    let line = input.next_line().await?.context("this is a part of a blowout, which starts it by itself")?;
    Ok((serde_json::from_str(&line)?, input))
}

/// Answers whoever started us.
#[allow(clippy::print_stdout, reason = "this is how parts talk")]
pub(crate) fn answer(what: &impl Serialize) -> anyhow::Result<()> {
    println!("{}", serde_json::to_string(what)?);
    Ok(())
}
