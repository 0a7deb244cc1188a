//! A run of the nodes in this process; and what `vogeler` does when it is told nothing: it collects facts and packages,
//! says what it found, and what to ask next.

use std::fmt::Write as _;
use std::path::Path;

use serde_json::Value;
use vogeler_client::plugin::registry::Registry;
use vogeler_messaging::Broker;
use vogeler_runner::run::{Parts, Request};
use vogeler_runner::wanted::Wanted;
use vogeler_runner::{act, output};
use vogeler_store::Store;

use crate::cli::Cli;
use crate::home::Home;
use crate::plugins;
use crate::residents::Resident;

/// What is looked at first.
const ALIASES: [&str; 2] = ["facts", "packages"];

/// So many nodes are described; of the others there is only their number.
const DESCRIBED: usize = 3;

/// What is asked of the nodes: what the command line says, or the first look, which runs every plugin of an author.
///
/// # Errors
/// A target or a time that is none.
pub fn request(cli: &Cli, home: &Home, residents: &[Resident], registry: &Registry) -> anyhow::Result<Request> {
    let mut request = cli.run.request(&cli.runner()?, act::issuer(), Some(home.runs()))?;
    request.outlived = false;
    if request.commands.is_empty() {
        let known =
            plugins::aliases(registry).filter(|alias| cli.plugins.is_some() || ALIASES.contains(&alias.as_str()));
        request.commands = known.cloned().collect();
    }
    if cli.run.target.is_empty() && cli.run.condition.is_none() {
        let text = match residents {
            [only] => only.node.to_string(),
            many => format!("{} nodes", many.len()),
        };
        request.choice.wanted = Wanted::these(text, residents.iter().map(|resident| resident.node.clone()));
    }
    Ok(request)
}

/// Asks the nodes, and after the first look says what it found; the exit status.
///
/// # Errors
/// As [`act::ask_nodes`].
pub async fn take<B: Broker, St: Store>(
    parts: &Parts<B, St>,
    request: &Request,
    cli: &Cli,
    residents: &[Resident],
) -> anyhow::Result<u8> {
    let status = act::ask_nodes(parts, request, &cli.run).await?;
    if cli.run.command.is_empty() && cli.plugins.is_none() && !cli.run.dry_run {
        let names: Vec<_> = residents.iter().take(DESCRIBED).map(|resident| resident.node.clone()).collect();
        let records = parts.store.fetch(&names).await?;
        let records: Vec<Value> =
            records.iter().flatten().filter_map(|record| serde_json::from_str(record).ok()).collect();
        output::print(&findings(&records, residents.len()))?;
        output::print(&questions(&records, &cli.database))?;
    }
    Ok(status)
}

/// What was found, a paragraph a node.
fn findings(records: &[Value], nodes: usize) -> String {
    let mut text = String::new();
    for record in records {
        let _ = write!(text, "\n{}\n", word(record, "/_id").unwrap_or("?"));
        let lines = [system(record), hardware(record), packages(record)];
        lines.into_iter().flatten().for_each(|line| _ = writeln!(text, "  {line}"));
    }
    if nodes > records.len() {
        let _ = writeln!(text, "\nand {} more", nodes - records.len());
    }
    text
}

/// A text in a record; not where it is empty.
fn word<'a>(record: &'a Value, pointer: &str) -> Option<&'a str> {
    record.pointer(pointer).and_then(Value::as_str).filter(|text| !text.is_empty())
}

fn system(record: &Value) -> Option<String> {
    let mut parts = vec![word(record, "/facts/os/name")?.to_owned()];
    if let Some(version) = word(record, "/facts/os/version") {
        parts[0] = format!("{} {version}", parts[0]);
    }
    if let (Some(name), Some(release)) = (word(record, "/facts/kernel/name"), word(record, "/facts/kernel/release")) {
        parts.push(format!("{name} {release}"));
    }
    parts.extend(word(record, "/facts/architecture").map(str::to_owned));
    Some(parts.join(", "))
}

fn hardware(record: &Value) -> Option<String> {
    let count = record.pointer("/facts/cpu/count").and_then(Value::as_u64)?;
    let mut line = format!("{count} {}", if count == 1 { "processor" } else { "processors" });
    if let Some(bytes) = record.pointer("/facts/memory/total_bytes").and_then(Value::as_u64) {
        let _ = write!(line, ", {} MiB of memory", bytes >> 20);
    }
    Some(line)
}

fn packages(record: &Value) -> Option<String> {
    let count = record.get("packages")?.as_object()?.len();
    Some(format!("{count} packages"))
}

/// What to ask next, with names that are in these records.
fn questions(records: &[Value], database: &Path) -> String {
    let file = match database.to_str() {
        Some("vogeler.db") => String::new(),
        _ => format!(" --db {}", database.display()),
    };
    let first = records.first();
    let node = first.and_then(|record| word(record, "/_id")).unwrap_or("NODE");
    let family = first.and_then(|record| word(record, "/facts/os/family")).unwrap_or("Debian");
    let installed = first.and_then(|record| record.get("packages")?.as_object());
    let known =
        ["openssl", "bash", "coreutils"].into_iter().find(|name| installed.is_some_and(|all| all.contains_key(*name)));
    let package =
        known.or_else(|| installed.and_then(|all| all.keys().next().map(String::as_str))).unwrap_or("openssl");
    let asked = [
        (format!("show {node} facts.os"), "a part of a record"),
        (format!("find 'facts.os.family == \"{family}\"'"), "nodes by what is known"),
        (
            format!("view packages/by_name --group-level 2 --start '[\"{package}\"]' --end '[\"{package}\",{{}}]'"),
            "its versions",
        ),
        ("aliases".to_owned(), "what else can be collected"),
        ("-c ports -c users".to_owned(), "collects it"),
        ("--nodes 20 -c facts".to_owned(), "a fleet of twenty nodes"),
    ];
    let mut text = format!("\nThe records are in {}. What to ask next:\n", database.display());
    for (words, what) in asked {
        let _ = writeln!(text, "  {what:28} vogeler{file} {words}");
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn says_what_there_is_and_nothing_of_what_is_not() {
        let full = json!({"_id": "web01", "facts": {"os": {"name": "Debian GNU/Linux", "version": "12", "family": "Debian"},
            "kernel": {"name": "Linux", "release": "6.1.0"}, "architecture": "x86_64", "cpu": {"count": 2},
            "memory": {"total_bytes": 4_294_967_296_u64}}, "packages": {"bash": "5.2", "zsh": "5.9"}});
        let text = findings(&[full.clone(), json!({"_id": "web02"})], 20);
        assert_eq!(
            text,
            "\nweb01\n  Debian GNU/Linux 12, Linux 6.1.0, x86_64\n  2 processors, 4096 MiB of memory\n  2 packages\n\nweb02\n\nand 18 more\n"
        );
        let asked = questions(&[full], Path::new("vogeler.db"));
        assert!(asked.contains("a part of a record           vogeler show web01 facts.os\n"), "{asked}");
        assert!(
            asked.contains(r#"vogeler view packages/by_name --group-level 2 --start '["bash"]' --end '["bash",{}]'"#),
            "{asked}"
        );
        let elsewhere = questions(&[], Path::new("/tmp/x.db"));
        assert!(elsewhere.contains("vogeler --db /tmp/x.db aliases"), "{elsewhere}");
    }
}
