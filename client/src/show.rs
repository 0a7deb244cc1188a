//! What a person asks of the client: which plugins there are, and what one of them prints.

use std::fmt::Write as _;

use anyhow::bail;
use vogeler_process::duration;
use vogeler_protocol::{Alias, Clock, NodeName, Random};

use crate::plugin::execute::Executor;
use crate::plugin::programs::Programs;
use crate::plugin::registry::Registry;
use crate::plugin::{self, Action};

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

/// Runs a plugin here and now, as a command would; the field as it would land in the record.
///
/// # Errors
/// No such plugin, a broken one, or one that fails, with the end of what it wrote to standard error.
pub async fn exec(alias: &str, registry: &Registry, node: NodeName) -> anyhow::Result<String> {
    let wanted: Alias = alias.parse()?;
    let Some(wanted) = registry.get(&wanted) else {
        if let Some(broken) = registry.broken().iter().find(|broken| broken.alias.as_deref() == Some(alias)) {
            bail!("{broken}");
        }
        bail!("no plugin has the alias {alias:?}; there are {}", registry.names());
    };
    plugin::adopt_strays()?;
    let (clock, programs) = (Clock::system(), Programs::of_machine());
    let executor = Executor { node, version: env!("CARGO_PKG_VERSION"), clock, programs };
    let execution = executor.run(wanted, &format!("exec-{}", Random::from_system().uuid())).await;
    match execution.outcome {
        Ok(data) => Ok(format!("{{{}: {}}}\n", serde_json::Value::from(wanted.key.as_str()), data.get())),
        Err(failure) => {
            let mut text = format!("{alias}: {}", failure.message);
            if !failure.stderr.is_empty() {
                let _ = write!(text, "\nwhat it wrote to standard error ends with:\n{}", failure.stderr.trim_end());
            }
            let _ = write!(text, "\nit ran for {}", duration::format(execution.duration));
            bail!(text)
        }
    }
}
