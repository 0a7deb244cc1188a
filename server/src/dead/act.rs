//! `vogeler-server dead …`: what was asked for, done and told.

use std::process::ExitCode;

use anyhow::{Context as _, bail, ensure};
use vogeler_messaging::{Broker, Topology};
use vogeler_process::exit::TROUBLE;

use super::{DeadLetters, Fate, words};
use crate::cli::{Dead, Output};

/// Does what `asked` says on connections of its own; what a person should see goes to `print`, in
/// pieces that are whole as they are.
///
/// # Errors
/// The broker is not reached, or what [`DeadLetters`] says.
pub async fn act<B: Broker>(
    broker: &B,
    topology: &Topology,
    asked: Dead,
    mut print: impl FnMut(&[u8]),
) -> anyhow::Result<ExitCode> {
    if let Dead::Drop { choice, unreadable } = &asked {
        let named = *unreadable || !choice.ids.is_empty() || choice.node.is_some() || choice.reason.is_some();
        ensure!(named, "nothing was dropped: name dead letters by id, --node or --reason; `dead list` shows them");
    }
    let letters = DeadLetters { broker, topology };
    let status = match asked {
        Dead::List { choice, output } => {
            let mut listing = letters.list().await?;
            listing.keep(&choice.into())?;
            match output {
                Output::Text => print(words::list(&listing.letters).as_bytes()),
                Output::Json => print(&json_lines(&listing.letters)?),
            }
            all_seen(listing.cut)?;
            ExitCode::SUCCESS
        }
        Dead::Show { id, body } => {
            let (letter, message) = letters.show(&id).await?;
            let shown = if body { message.body } else { words::show(&letter, &message).into_bytes() };
            print(&shown);
            ExitCode::SUCCESS
        }
        Dead::Replay { choice } => {
            let mut count = 0;
            let dealt = letters
                .replay(choice.into(), |letter| {
                    count += 1;
                    print(format!("{}\n", words::done(letter, Fate::Replayed)).as_bytes());
                })
                .await?;
            for (letter, reason) in &dealt.stayed {
                print(format!("stays    {}: {reason}\n", letter.id).as_bytes());
            }
            print(format!("{count} replayed, {} stayed\n", dealt.stayed.len()).as_bytes());
            all_seen(dealt.cut)?;
            if dealt.stayed.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(TROUBLE) }
        }
        Dead::Drop { unreadable: true, .. } => {
            let words = match letters.discard_unreadable().await? {
                Some(before) => format!("1 dropped unseen; {before} can be read before it\n"),
                None => "nothing was dropped: all can be read\n".to_owned(),
            };
            print(words.as_bytes());
            ExitCode::SUCCESS
        }
        Dead::Drop { choice, .. } => {
            let mut count = 0;
            let dealt = letters
                .discard(choice.into(), |letter| {
                    count += 1;
                    print(format!("{}\n", words::done(letter, Fate::Dropped)).as_bytes());
                })
                .await?;
            print(format!("{count} dropped\n").as_bytes());
            all_seen(dealt.cut)?;
            ExitCode::SUCCESS
        }
    };
    Ok(status)
}

fn all_seen(cut: Option<String>) -> anyhow::Result<()> {
    let Some(reason) = cut else { return Ok(()) };
    bail!(
        "the letter after these cannot be read, and hides those behind it: {reason}; \
         `dead drop --unreadable` throws it away unseen"
    )
}

fn json_lines(list: &[super::Letter]) -> anyhow::Result<Vec<u8>> {
    let mut text = serde_json::to_vec_pretty(list).context("the list cannot be written as JSON")?;
    text.push(b'\n');
    Ok(text)
}
