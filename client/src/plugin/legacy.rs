//! Descriptors of 2010: `*.cfg`, one section a plugin.
//!
//! ```text
//! [facter]
//! name = facter
//! description = Uses facter to return facts
//! command = facter -y
//! result_format = yaml
//! command_alias = get_facts
//! ```
//!
//! The data lands under the alias, as it did.

use std::path::Path;

use super::Plugin;
use super::descriptor::{self, Broken, Fields, Words};

/// Reads a descriptor of 2010.
pub(super) fn read(file: &Path, text: &str, program_dir: &Path) -> (Vec<Plugin>, Vec<Broken>) {
    let (mut plugins, mut faults) = (Vec::new(), Vec::new());
    for section in sections(text) {
        let line = section.line;
        let made = section.plugin(program_dir);
        match made {
            Ok(plugin) => plugins.push(plugin),
            Err((alias, reason)) => faults.push(Broken { file: file.to_owned(), line: Some(line), alias, reason }),
        }
    }
    (plugins, faults)
}

struct Section<'t> {
    line: u64,
    lines: Vec<&'t str>,
}

fn sections(text: &str) -> Vec<Section<'_>> {
    let mut sections: Vec<Section<'_>> = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        if line.starts_with('[') && line.ends_with(']') {
            sections.push(Section { line: number as u64 + 1, lines: Vec::new() });
        } else if let Some(section) = sections.last_mut() {
            section.lines.push(line);
        } else {
            // What stands before the first section belongs to none, and is told as one that lacks all.
            sections.push(Section { line: number as u64 + 1, lines: vec![line] });
        }
    }
    sections
}

impl Section<'_> {
    fn plugin(self, program_dir: &Path) -> Result<Plugin, (Option<String>, String)> {
        let mut alias = None;
        let mut fields = Fields::default();
        for line in &self.lines {
            let (name, value) =
                line.split_once(['=', ':']).ok_or_else(|| (None, format!("{line:?} is no name = value")))?;
            let value = value.trim().to_owned();
            match name.trim() {
                // In 2010 a word for people; nothing was stored by it.
                "name" => {}
                "description" => fields.description = value,
                "command" => fields.command = Some(Words::Text(value)),
                "result_format" => fields.format = Some(value),
                "command_alias" => alias = Some(value),
                other => return Err((alias, format!("there is no field {other:?} in a descriptor of 2010"))),
            }
        }
        let alias = alias.ok_or((None, "command_alias is missing".to_owned()))?;
        descriptor::plugin(&alias, fields, program_dir).map_err(|reason| (Some(alias), reason))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vogeler_protocol::Format;

    #[test]
    fn loads_as_it_is() {
        let text = "[facter]\nname = facter\ndescription = Uses facter\ncommand = facter -y\nresult_format = yaml\ncommand_alias = get_facts\n\n[ps]\ncommand = ps -ef\nresult_format = output\ncommand_alias = get_procs\n";
        let (plugins, broken) = read(Path::new("p.cfg"), text, Path::new("/nonexistent"));
        assert!(broken.is_empty(), "{broken:?}");
        let found: Vec<_> = plugins.iter().map(|p| (p.alias.as_str(), p.key.as_str(), p.format)).collect();
        assert_eq!(found, [("get_facts", "get_facts", Format::Yaml), ("get_procs", "get_procs", Format::Lines)]);
    }

    #[test]
    fn what_is_wrong_says_where() {
        let text =
            "[a]\ncommand = x\nresult_format = broken\ncommand_alias = a\n[b]\ncommand = y\nresult_format = raw\n";
        let (plugins, broken) = read(Path::new("p.cfg"), text, Path::new("/nonexistent"));
        assert!(plugins.is_empty());
        let shown: Vec<_> = broken.iter().map(ToString::to_string).collect();
        assert!(shown[0].starts_with("p.cfg:1: a: format \"broken\" is not one of"), "{shown:?}");
        assert_eq!(shown[1], "p.cfg:5: command_alias is missing");
    }
}
