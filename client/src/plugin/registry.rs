//! Which plugins this machine has.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use vogeler_protocol::message::AliasInfo;
use vogeler_protocol::{Alias, Format};

use super::descriptor::{self, Broken};
use super::{Action, PING, Plugin, legacy, safe};

/// The plugins of a directory: those that can be run, and what is wrong with the others. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Registry {
    plugins: Arc<BTreeMap<Alias, Plugin>>,
    broken: Vec<Broken>,
}

impl Registry {
    /// Reads every descriptor in `plugin_dir`: `*.yaml`, and `*.cfg` of 2010. A broken one is left
    /// out and told; the others serve on. A directory that cannot be read is told as broken, too.
    pub fn read(plugin_dir: &Path, program_dir: &Path) -> Self {
        let mut registry = Self::default();
        registry.add(ping());
        if let Err(reason) = registry.read_dir(plugin_dir, program_dir) {
            registry.broken.push(Broken { file: plugin_dir.to_owned(), line: None, alias: None, reason });
        }
        registry
    }

    /// These plugins, and what is built in. Of two with one alias the first counts.
    pub fn of(plugins: impl IntoIterator<Item = Plugin>) -> Self {
        let mut registry = Self::default();
        registry.add(ping());
        plugins.into_iter().for_each(|plugin| _ = registry.add(plugin));
        registry
    }

    fn read_dir(&mut self, plugin_dir: &Path, program_dir: &Path) -> Result<(), String> {
        safe::only_ours(plugin_dir).map_err(|error| vogeler_protocol::sentence(&error))?;
        let entries = fs::read_dir(plugin_dir).map_err(|error| error.to_string())?;
        let mut files: Vec<_> = entries.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect();
        files.sort();
        for file in files {
            let read = match file.extension().and_then(|extension| extension.to_str()) {
                Some("yaml") => descriptor::read,
                Some("cfg") => legacy::read,
                _ => continue,
            };
            let fault = |reason| Broken { file: file.clone(), line: None, alias: None, reason };
            if let Err(error) = safe::only_ours(&file) {
                self.broken.push(fault(vogeler_protocol::sentence(&error)));
                continue;
            }
            match fs::read_to_string(&file) {
                Err(error) => self.broken.push(fault(error.to_string())),
                Ok(text) => {
                    let (plugins, broken) = read(&file, &text, program_dir);
                    self.broken.extend(broken);
                    for plugin in plugins {
                        let alias = plugin.alias.to_string();
                        if !self.add(plugin) {
                            let reason = "another descriptor has registered this alias already".to_owned();
                            let file = file.clone();
                            self.broken.push(Broken { file, line: None, alias: Some(alias), reason });
                        }
                    }
                }
            }
        }
        Ok(())
    }

    fn add(&mut self, plugin: Plugin) -> bool {
        let free = !self.plugins.contains_key(&plugin.alias);
        if free {
            Arc::make_mut(&mut self.plugins).insert(plugin.alias.clone(), plugin);
        }
        free
    }

    /// The plugin behind an alias.
    pub fn get(&self, alias: &Alias) -> Option<&Plugin> {
        self.plugins.get(alias)
    }

    /// Every plugin that can be run, by alias.
    pub fn plugins(&self) -> impl Iterator<Item = &Plugin> {
        self.plugins.values()
    }

    /// What is wrong with the others.
    pub fn broken(&self) -> &[Broken] {
        &self.broken
    }

    /// What the node says of its aliases.
    pub fn aliases(&self) -> BTreeMap<Alias, AliasInfo> {
        let info = |plugin: &Plugin| AliasInfo { key: plugin.key.clone(), description: plugin.description.clone() };
        self.plugins.iter().map(|(alias, plugin)| (alias.clone(), info(plugin))).collect()
    }

    /// The names of its aliases, for a sentence.
    pub fn names(&self) -> String {
        self.plugins.keys().map(Alias::as_str).collect::<Vec<_>>().join(", ")
    }
}

fn ping() -> Plugin {
    let alias: Alias = PING.parse().expect("ping is an alias");
    Plugin {
        key: (&alias).into(),
        alias,
        description: "Answers with the client's version; built in".to_owned(),
        format: Format::Json,
        action: Action::Ping,
        timeout: descriptor::TIMEOUT,
        max_output: descriptor::MAX_OUTPUT,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn one_broken_descriptor_does_not_disturb_the_others() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
        write("a.yaml", "good: {command: echo hi, format: string}\nbad: {command: echo hi}\n");
        write("b.yaml", "- not a map\n");
        write("c.yaml", "good: {command: echo other, format: string}\n");
        write("d.cfg", "[x]\ncommand = ps\nresult_format = output\ncommand_alias = old\n");
        write("README.md", "words");
        write("e.yaml", "open: {command: echo hi, format: string}\n");
        fs::set_permissions(dir.path().join("e.yaml"), fs::Permissions::from_mode(0o666)).unwrap();
        let registry = Registry::read(dir.path(), Path::new("/nonexistent"));
        assert_eq!(registry.names(), "good, old, ping");
        let shown: Vec<_> = registry.broken().iter().map(ToString::to_string).collect();
        assert_eq!(shown.len(), 4, "{shown:?}");
        assert!(shown.iter().any(|line| line.contains("e.yaml can be written by others")), "{shown:?}");
        assert!(shown.iter().any(|line| line.contains("c.yaml: good: another descriptor")), "{shown:?}");
    }

    #[test]
    fn a_directory_that_others_can_write_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a.yaml"), "good: {command: echo hi, format: string}\n").unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let registry = Registry::read(dir.path(), Path::new("/nonexistent"));
        assert_eq!(registry.names(), "ping");
        assert!(registry.broken()[0].reason.contains("chmod go-w"), "{:?}", registry.broken());
    }
}
