//! One descriptor file: aliases, and what each runs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_yaml::Spanned;
use vogeler_process::duration;
use vogeler_protocol::{Alias, Format, Key};

use super::{Action, PING, Plugin, Program, safe};

/// How long a plugin may run unless its descriptor says otherwise.
pub const TIMEOUT: Duration = Duration::from_secs(60);

/// The longest time limit. With the splay it stays under the 30 minutes after which RabbitMQ takes
/// an unacknowledged delivery away.
pub const LONGEST_TIMEOUT: Duration = Duration::from_secs(15 * 60);

/// How much a plugin may print unless its descriptor says otherwise.
pub const MAX_OUTPUT: usize = 1 << 20;

/// The most that a descriptor may allow; an encoded result holds 6 MiB.
pub const LARGEST_OUTPUT: usize = 4 << 20;

/// Address space of a plugin unless its descriptor says otherwise.
pub const MEMORY: u64 = 512 << 20;

/// One alias, as its descriptor spells it.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Fields {
    #[serde(default)]
    pub(super) description: String,
    pub(super) command: Option<Words>,
    #[serde(default)]
    pub(super) shell: bool,
    pub(super) format: Option<String>,
    pub(super) key: Option<String>,
    pub(super) timeout: Option<String>,
    pub(super) max_output: Option<String>,
    pub(super) user: Option<String>,
    pub(super) memory: Option<String>,
    #[serde(default)]
    pub(super) nice: i32,
    #[serde(default)]
    pub(super) env: BTreeMap<String, String>,
    pub(super) cwd: Option<PathBuf>,
}

/// A command: one text, or a list of words.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Words {
    Text(String),
    List(Vec<String>),
}

/// Why a descriptor, or one alias of it, is not used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// The file.
    pub file: PathBuf,
    /// Counted from one; none where the file as a whole is meant.
    pub line: Option<u64>,
    /// The alias, where one is meant.
    pub alias: Option<String>,
    /// What is wrong.
    pub reason: String,
}

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        if let Some(alias) = &self.alias {
            // It is what somebody wrote, and one fault is one line.
            write!(f, ": {}", alias.escape_debug())?;
        }
        write!(f, ": {}", self.reason)
    }
}

/// Reads a YAML descriptor: what can be run, and what is wrong with the rest.
pub(super) fn read(file: &Path, text: &str, program_dir: &Path) -> (Vec<Plugin>, Vec<Broken>) {
    let broken = |line, alias, reason| Broken { file: file.to_owned(), line, alias, reason };
    let (mut plugins, mut faults) = (Vec::new(), Vec::new());
    let mut text = text.to_owned();
    let aliases = loop {
        let error = match parse::<Fields>(&text) {
            Ok(aliases) => break aliases,
            Err(error) => error,
        };
        let line = error.location().map(|location| location.line());
        let reason = first_line(&error.to_string());
        let Some((alias, rest)) = line.and_then(|line| without_alias_at(&text, line)) else {
            return (Vec::new(), vec![broken(line, None, reason)]);
        };
        faults.push(broken(line, Some(alias), reason));
        text = rest;
    };
    for (alias, fields) in aliases {
        let line = Some(line_of(&text, &alias, &fields));
        match plugin(&alias, fields.value, program_dir) {
            Ok(plugin) => plugins.push(plugin),
            Err(reason) => faults.push(broken(line, Some(alias), reason)),
        }
    }
    (plugins, faults)
}

fn parse<T: DeserializeOwned>(text: &str) -> Result<BTreeMap<String, Spanned<T>>, serde_yaml::Error> {
    let options = serde_yaml::options! { with_snippet: false, strict_booleans: true };
    serde_yaml::from_str_with_options::<Option<_>>(text, options).map(Option::unwrap_or_default)
}

/// Counted from one. The value begins on the line below its alias, unless it is written in one line.
fn line_of<T>(text: &str, alias: &str, value: &Spanned<T>) -> u64 {
    let is_its = |line: &str| line.trim_end().strip_prefix(alias).is_some_and(|rest| rest.starts_with(':'));
    text.lines().position(is_its).map_or_else(|| value.referenced.line(), |line| line as u64 + 1)
}

/// The alias whose lines have that one among them, and the text with these left blank: the others serve on. None where
/// the text is no YAML, so that nobody can tell where an alias ends.
fn without_alias_at(text: &str, line: u64) -> Option<(String, String)> {
    let aliases = parse::<IgnoredAny>(text).ok()?;
    let mut starts: Vec<(u64, String)> =
        aliases.into_iter().map(|(alias, value)| (line_of(text, &alias, &value), alias)).collect();
    starts.sort();
    let (start, alias) = starts.iter().rfind(|(start, _)| *start <= line)?.clone();
    let end = starts.iter().map(|(start, _)| *start).find(|next| *next > start).unwrap_or(u64::MAX);
    let kept = (1..).zip(text.lines()).map(|(number, line)| if (start..end).contains(&number) { "" } else { line });
    let rest = kept.collect::<Vec<&str>>().join("\n");
    // Lines are counted otherwise there, after a lone carriage return for one.
    let is_less = rest.trim_end() != text.trim_end();
    is_less.then_some((alias, rest))
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

/// One alias with everything checked, or why it cannot be used.
pub(super) fn plugin(alias: &str, fields: Fields, program_dir: &Path) -> Result<Plugin, String> {
    let words = |error: &dyn std::error::Error| vogeler_protocol::sentence(error);
    let alias: Alias = alias.parse().map_err(|error| words(&error))?;
    if alias.as_str() == PING {
        return Err("ping is built in".to_owned());
    }
    let key: Key = fields.key.as_deref().unwrap_or(alias.as_str()).parse().map_err(|error| words(&error))?;
    let format: Format = fields.format.as_deref().ok_or("format is missing")?.parse().map_err(|error| words(&error))?;
    let timeout = fields.timeout.as_deref().map_or(Ok(TIMEOUT), duration::parse);
    let timeout = timeout.map_err(|error| format!("timeout: {error}"))?;
    if timeout.is_zero() || timeout > LONGEST_TIMEOUT {
        return Err(format!("timeout: has to be between 1ms and {}", duration::format(LONGEST_TIMEOUT)));
    }
    let max_output = fields.max_output.as_deref().map_or(Ok(MAX_OUTPUT as u64), bytes);
    let max_output = usize::try_from(max_output.map_err(|error| format!("max_output: {error}"))?).unwrap_or(usize::MAX);
    if max_output == 0 || max_output > LARGEST_OUTPUT {
        return Err(format!("max_output: has to be between 1 and {LARGEST_OUTPUT} bytes"));
    }
    let memory = match fields.memory.as_deref() {
        None => Some(MEMORY),
        Some("none") => None,
        Some(text) => Some(bytes(text).map_err(|error| format!("memory: {error}"))?),
    };
    if !(0..=19).contains(&fields.nice) {
        return Err("nice: has to be between 0 and 19".to_owned());
    }
    if let Some(user) = &fields.user
        && nix::unistd::User::from_name(user).ok().flatten().is_none()
    {
        return Err(format!("user: there is no user {user:?} on this machine"));
    }
    let (path, args) = command(fields.command.ok_or("command is missing")?, fields.shell, program_dir)?;
    let program = Program {
        path,
        args,
        user: fields.user,
        memory,
        nice: fields.nice,
        env: fields.env,
        cwd: fields.cwd.unwrap_or_else(|| "/".into()),
    };
    Ok(Plugin {
        alias,
        description: fields.description.trim().to_owned(),
        key,
        format,
        action: Action::Program(program),
        timeout,
        max_output,
    })
}

/// The program and its arguments. Whether the program is there shows when it is run: a plugin may
/// come before the package that it asks.
fn command(words: Words, shell: bool, program_dir: &Path) -> Result<(PathBuf, Vec<String>), String> {
    if shell {
        let Words::Text(script) = words else { return Err("command: with shell: true it is one text".to_owned()) };
        return Ok(("/bin/sh".into(), vec!["-c".to_owned(), script]));
    }
    let words = match words {
        Words::Text(text) => shell_words::split(&text).map_err(|_| "command: a quote is not closed".to_owned())?,
        Words::List(words) => words,
    };
    let mut words = words.into_iter();
    let program = words.next().filter(|program| !program.is_empty()).ok_or("command is empty")?;
    let path = find(&program, program_dir);
    if path.exists() {
        safe::only_ours(&path).map_err(|error| vogeler_protocol::sentence(&error))?;
    }
    Ok((path, words.collect()))
}

/// The directories where a system keeps programs; the client's own `PATH` may be anything.
pub(super) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

fn find(program: &str, program_dir: &Path) -> PathBuf {
    if program.contains('/') {
        return program.into();
    }
    let ours = program_dir.join(program);
    let elsewhere = PATH.split(':').map(|dir| Path::new(dir).join(program));
    std::iter::once(ours.clone()).chain(elsewhere).find(|path| path.is_file()).unwrap_or(ours)
}

/// A number of bytes: `4194304`, `512MiB`, `64K`.
fn bytes(text: &str) -> Result<u64, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let shift = match unit.trim() {
        "" | "B" => 0,
        "K" | "KiB" => 10,
        "M" | "MiB" => 20,
        "G" | "GiB" => 30,
        _ => return Err(format!("{text:?} is no size such as 65536, 64KiB or 512MiB")),
    };
    let number: u64 = number.parse().map_err(|_| format!("{text:?} is no size such as 65536, 64KiB or 512MiB"))?;
    number.checked_mul(1 << shift).ok_or_else(|| format!("{text:?} is too large"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> Result<Plugin, String> {
        let (mut plugins, mut broken) = read(Path::new("p.yaml"), text, Path::new("/nonexistent"));
        plugins.pop().ok_or_else(|| broken.pop().map(|broken| broken.to_string()).unwrap_or_default())
    }

    #[test]
    fn the_example_of_the_contract() {
        let text = "rpms:\n  description: Packages installed with rpm\n  command: rpm -qa --queryformat '%{NAME}=%{VERSION}-%{RELEASE}\\n'\n  format: keyvalue\n  key: packages\n  timeout: 60s\n";
        let plugin = one(text).unwrap();
        assert_eq!((plugin.alias.as_str(), plugin.key.as_str()), ("rpms", "packages"));
        let Action::Program(program) = plugin.action else { panic!("a program") };
        assert_eq!(program.args, ["-qa", "--queryformat", "%{NAME}=%{VERSION}-%{RELEASE}\\n"]);
        assert_eq!(program.memory, Some(MEMORY));
    }

    #[test]
    fn what_is_wrong_says_file_line_and_reason() {
        for (text, expected) in [
            ("a:\n  command: x\n  format: xml\n", "p.yaml:1: a: format \"xml\" is not one of"),
            ("a: {command: x, format: raw}\nb:\n  command: x\n", "p.yaml:2: b: format is missing"),
            ("a:\n  format: raw\n", "p.yaml:1: a: command is missing"),
            ("a:\n  command: x\n  format: raw\n  key: _id\n", "p.yaml:1: a: key \"_id\" starts with '_'"),
            ("a:\n  command: x\n  format: raw\n  timeout: 2h\n", "p.yaml:1: a: timeout: has to be between"),
            ("a:\n  command: 'x \"y'\n  format: raw\n", "p.yaml:1: a: command: a quote is not closed"),
            ("ping:\n  command: x\n  format: raw\n", "p.yaml:1: ping: ping is built in"),
            ("a:\n  command: x\n  format: raw\n  user: no-such-user\n", "p.yaml:1: a: user: there is no user"),
            ("a:\n  command: x\n  format: raw\n  max_output: 5MiB\n", "p.yaml:1: a: max_output: has to be"),
        ] {
            // Where one is good and the other is not, the fault is what counts.
            let (_, broken) = read(Path::new("p.yaml"), text, Path::new("/nonexistent"));
            let shown = broken.first().map(ToString::to_string).unwrap_or_default();
            assert!(shown.starts_with(expected), "{text}: {shown}");
        }
        let unknown = one("a:\n  command: x\n  comand: y\n  format: raw\n").unwrap_err();
        assert!(unknown.starts_with("p.yaml:3: a: ") && unknown.contains("comand"), "{unknown}");
        let syntax = one("a:\n  command: [x\nb: 1\n").unwrap_err();
        assert!(syntax.starts_with("p.yaml:"), "{syntax}");
    }

    #[test]
    fn an_alias_that_is_spelt_wrong_does_not_disturb_its_neighbours() {
        let text = "a: {command: x, format: raw}\nb:\n  command: x\n  colour: red\n\n# words\nc:\n  command: [x]\n  format: raw\nd: 5\n";
        let (plugins, broken) = read(Path::new("p.yaml"), text, Path::new("/nonexistent"));
        assert_eq!(plugins.iter().map(|plugin| plugin.alias.as_str()).collect::<Vec<_>>(), ["a", "c"]);
        let shown: Vec<_> = broken.iter().map(ToString::to_string).collect();
        assert!(shown[0].starts_with("p.yaml:4: b: ") && shown[0].contains("colour"), "{shown:?}");
        assert!(shown[1].starts_with("p.yaml:10: d: "), "{shown:?}");
        assert_eq!(shown.len(), 2, "{shown:?}");
        let unlike = "a: \r&x!keyv:al  format: ueu}\n";
        assert_eq!(
            read(Path::new("p.yaml"), unlike, Path::new("/nonexistent")).1.len(),
            1,
            "lines that YAML alone sees"
        );
    }

    #[test]
    fn sizes() {
        assert_eq!((bytes("64KiB"), bytes("4194304"), bytes("1G")), (Ok(65536), Ok(4_194_304), Ok(1 << 30)));
        assert!(bytes("lots").is_err() && bytes("1.5M").is_err() && bytes("99999999999G").is_err());
    }
}
