//! What a person asks of the client: which plugins there are, and what one of them prints.

use std::fmt::Write as _;

use vogeler_process::duration;
use vogeler_protocol::{Clock, NodeName, Random};

use crate::plugin::execute::{Execution, Executor};
use crate::plugin::registry::Registry;
use crate::plugin::{Action, Plugin};

/// A table of the plugins, with notices for keys that several share and for what is broken.
pub fn list(registry: &Registry) -> String {
    let rows: Vec<[String; 5]> = registry
        .plugins()
        .map(|plugin| {
            let command = match &plugin.action {
                Action::Ping => "(built in)".to_owned(),
                Action::Program(program) => program.path.display().to_string(),
            };
            [
                plugin.alias.to_string(),
                plugin.key.to_string(),
                plugin.format.to_string(),
                command,
                plugin.description.clone(),
            ]
        })
        .collect();
    let mut text = table(&["ALIAS", "KEY", "FORMAT", "COMMAND", "DESCRIPTION"], &rows);
    for (key, aliases) in shared_keys(registry) {
        let _ = writeln!(text, "notice: {aliases} fill the same key {key}; the later run stands");
    }
    for broken in registry.broken() {
        let _ = writeln!(text, "broken: {broken}");
    }
    text
}

fn shared_keys(registry: &Registry) -> Vec<(String, String)> {
    let mut by_key = std::collections::BTreeMap::<&str, Vec<&str>>::new();
    for plugin in registry.plugins() {
        by_key.entry(plugin.key.as_str()).or_default().push(plugin.alias.as_str());
    }
    let shared = by_key.into_iter().filter(|(_, aliases)| aliases.len() > 1);
    shared.map(|(key, aliases)| (key.to_owned(), aliases.join(" and "))).collect()
}

fn table<const N: usize>(head: &[&str; N], rows: &[[String; N]]) -> String {
    let width =
        |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0).max(head[column].len());
    let widths: Vec<usize> = (0..N).map(width).collect();
    let line = |cells: &[&str]| {
        let padded: Vec<String> = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        format!("{}\n", padded.join("  ").trim_end())
    };
    let mut text = line(head);
    for row in rows {
        text.push_str(&line(&row.each_ref().map(String::as_str)));
    }
    text
}

/// Runs a plugin here and now, as a command would.
pub async fn exec(plugin: &Plugin, node: NodeName, random: &Random) -> Execution {
    let executor = Executor { node, version: env!("CARGO_PKG_VERSION"), clock: Clock::system() };
    executor.run(plugin, &format!("exec-{}", random.uuid())).await
}

/// What [`exec`] prints: the field as it would land in the record; or, for a person, why there is none.
///
/// # Errors
/// The plugin failed.
pub fn outcome(plugin: &Plugin, execution: &Execution) -> Result<String, String> {
    match &execution.outcome {
        Ok(data) => {
            let key = serde_json::Value::from(plugin.key.as_str());
            Ok(format!("{{{key}: {}}}\n", data.get()))
        }
        Err(failure) => {
            let mut text = format!("{}: {}", plugin.alias, failure.message);
            if !failure.stderr.is_empty() {
                let _ = write!(text, "\nwhat it wrote to standard error ends with:\n{}", failure.stderr.trim_end());
            }
            let _ = write!(text, "\nit ran for {}", duration::format(execution.duration));
            Err(text)
        }
    }
}
