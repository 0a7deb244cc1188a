use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

use super::Version;
use crate::data::BadData;
use crate::format::{BadOutput, UnknownFormat};
use crate::names::NameError;
use crate::{Alias, Data, Digest, Format, Key, NodeName, RunId, Timestamp};

/// Commands that can wait for a node (its queue holds no more), and so be answered by one execution.
const MOST_RUNS: usize = 1000;

/// What came of one execution of a plugin, good or bad.
#[derive(Debug, Clone)]
pub struct CommandResult {
    /// The node that it is of.
    pub node: NodeName,
    /// The run that asked; none for data that a producer sent of its own accord.
    pub run: Option<RunId>,
    /// Further runs that the same execution answers.
    pub also_runs: Vec<RunId>,
    /// The alias that was run.
    pub command: Alias,
    /// The field of the record that the data goes to.
    pub key: Key,
    /// The format that the output was printed in.
    pub format: Option<Format>,
    /// The client's instance.
    pub instance: Option<Uuid>,
    /// The machine's fingerprint.
    pub machine_id: Option<String>,
    /// The client's epoch; with `seq` it orders the results of one machine.
    pub epoch: Option<u64>,
    /// Place in the epoch, drawn when the plugin started.
    pub seq: Option<u64>,
    /// When the plugin started, by the node's clock.
    pub started_at: Option<Timestamp>,
    /// How long it ran.
    pub duration_ms: Option<u64>,
    /// Its exit status, where it had one.
    pub exit: Option<i32>,
    /// The client's digest of the data.
    pub digest: Option<Digest>,
    /// What it printed, or why there is nothing.
    pub payload: Payload,
}

/// What a result brings.
#[derive(Debug, Clone)]
pub enum Payload {
    /// JSON, to be stored as it is.
    Data(Data),
    /// Text that the server reads by the result's format, JSON unless said.
    Output(String),
    /// No data: the plugin failed.
    Failure(Failure),
}

/// Why a plugin brought nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What kind of failure.
    pub kind: FailureKind,
    /// A sentence for a person.
    pub message: String,
    /// The end of what it wrote to standard error.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub stderr: String,
}

impl Failure {
    /// What happened, and the last thing that the plugin said about it.
    pub fn words(&self) -> String {
        failure_words(&self.message, &self.stderr)
    }
}

/// The words of a failure, by its message and what the plugin wrote to standard error.
pub fn failure_words(message: &str, stderr: &str) -> String {
    const SHOWN: usize = 160;
    match stderr.lines().rev().find(|line| !line.trim().is_empty()) {
        Some(line) => format!("{message}: {}", line.trim().chars().take(SHOWN).collect::<String>()),
        None => message.to_owned(),
    }
}

/// The kinds of failure that a record may name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// It exited with a status that is not 0.
    Exit,
    /// A signal ended it.
    Signal,
    /// It ran longer than it may.
    Timeout,
    /// It printed more than it may.
    TooLarge,
    /// What it printed does not fit its format, or cannot be stored.
    BadOutput,
    /// Its program is not there.
    NotFound,
    /// Its program cannot be executed.
    NotExecutable,
    /// The client ended while it ran.
    Interrupted,
    /// Only ever said by the server: the record would be larger than the database takes.
    RecordTooLarge,
}

/// Why a message is no usable result.
#[derive(Debug, thiserror::Error)]
pub enum BadResult {
    /// Not the JSON of a result.
    #[error("the message is no result")]
    Envelope(#[from] serde_json::Error),
    /// A name that cannot be.
    #[error(transparent)]
    Name(#[from] NameError),
    /// `outcome` and what comes with it do not agree.
    #[error("outcome {outcome:?} needs {needs}")]
    Payload {
        /// What the message says.
        outcome: &'static str,
        /// What is then expected.
        needs: &'static str,
    },
    /// Data that cannot be stored.
    #[error("the data cannot be stored")]
    Data(#[from] BadData),
    /// Text that does not fit its format.
    #[error(transparent)]
    Output(#[from] BadOutput),
    /// A header of a plain-text result that is missing.
    #[error("a plain-text result needs the header {0}")]
    Header(&'static str),
    /// A format that there is not.
    #[error(transparent)]
    Format(#[from] UnknownFormat),
    /// More runs than one execution can have answered.
    #[error("a result of {0} runs; one execution answers at most {MOST_RUNS}")]
    TooManyRuns(usize),
    /// A version that this program does not speak.
    #[error("message version {0:?} is unknown; this program speaks version 1")]
    Version(String),
    /// A header with a value that it cannot have.
    #[error("header vogeler-outcome is {0:?}, which is neither ok nor error")]
    Outcome(String),
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Outcome {
    Ok,
    Error,
}

/// The fields as they stand in the JSON.
#[derive(Serialize, Deserialize)]
struct Wire {
    v: Version,
    node: NodeName,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    run: Option<RunId>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    also_runs: Vec<RunId>,
    command: Alias,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<Key>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    format: Option<Format>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    instance: Option<Uuid>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    machine_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    epoch: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    seq: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    started_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    duration_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    exit: Option<i32>,
    outcome: Outcome,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    digest: Option<Digest>,
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    data: Option<Box<RawValue>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    output: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    error: Option<Failure>,
}

/// A plugin may well print `null`, and that is data.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Box<RawValue>>, D::Error> {
    Deserialize::deserialize(deserializer).map(Some)
}

impl CommandResult {
    /// A result of `command` on `node` with nothing else said, as a producer that is no client sends it.
    ///
    /// # Errors
    /// The alias stands for the key, and a reserved field is no key.
    pub fn bare(node: NodeName, command: Alias, payload: Payload) -> Result<Self, NameError> {
        Ok(Self::under(command.as_str().parse()?, node, command, payload))
    }

    fn under(key: Key, node: NodeName, command: Alias, payload: Payload) -> Self {
        Self {
            key,
            node,
            command,
            payload,
            run: None,
            also_runs: Vec::new(),
            format: None,
            instance: None,
            machine_id: None,
            epoch: None,
            seq: None,
            started_at: None,
            duration_ms: None,
            exit: None,
            digest: None,
        }
    }

    /// Every run that this result answers.
    pub fn runs(&self) -> impl Iterator<Item = RunId> {
        self.run.into_iter().chain(self.also_runs.iter().copied())
    }

    /// The result as JSON.
    pub fn encode(&self) -> Vec<u8> {
        let (outcome, data, output, error) = match self.payload.clone() {
            Payload::Data(data) => (Outcome::Ok, Some(data.into_raw()), None, None),
            Payload::Output(output) => (Outcome::Ok, None, Some(output), None),
            Payload::Failure(failure) => (Outcome::Error, None, None, Some(failure)),
        };
        super::encode(&Wire {
            v: Version,
            node: self.node.clone(),
            run: self.run,
            also_runs: self.also_runs.clone(),
            command: self.command.clone(),
            key: Some(self.key.clone()),
            format: self.format,
            instance: self.instance,
            machine_id: self.machine_id.clone(),
            epoch: self.epoch,
            seq: self.seq,
            started_at: self.started_at,
            duration_ms: self.duration_ms,
            exit: self.exit,
            outcome,
            digest: self.digest.clone(),
            data,
            output,
            error,
        })
    }

    /// Reads a result and scans its data.
    ///
    /// # Errors
    /// Anything that could never be stored; see [`BadResult`].
    pub fn decode(body: &[u8]) -> Result<Self, BadResult> {
        let wire: Wire = super::decode(body)?;
        let payload = match (wire.outcome, wire.data, wire.output, wire.error) {
            (Outcome::Ok, Some(data), None, None) => Payload::Data(Data::from_raw(data)?),
            (Outcome::Ok, None, Some(output), None) => Payload::Output(output),
            (Outcome::Error, None, _, Some(failure)) => Payload::Failure(failure),
            (Outcome::Ok, ..) => return Err(BadResult::Payload { outcome: "ok", needs: "either data or output" }),
            (Outcome::Error, ..) => {
                return Err(BadResult::Payload { outcome: "error", needs: "an error and no data" });
            }
        };
        if wire.also_runs.len() > MOST_RUNS {
            return Err(BadResult::TooManyRuns(wire.also_runs.len()));
        }
        let key = wire.key.map_or_else(|| wire.command.as_str().parse(), Ok)?;
        Ok(Self {
            node: wire.node,
            run: wire.run,
            also_runs: wire.also_runs,
            command: wire.command,
            key,
            format: wire.format,
            instance: wire.instance,
            machine_id: wire.machine_id,
            epoch: wire.epoch,
            seq: wire.seq,
            started_at: wire.started_at,
            duration_ms: wire.duration_ms,
            exit: wire.exit,
            digest: wire.digest,
            payload,
        })
    }

    /// Reads a result whose body is itself the output; everything else came as headers.
    ///
    /// # Errors
    /// A header that is missing or wrong, and a body that is no text.
    pub fn decode_text(headers: &TextHeaders<'_>, body: &[u8]) -> Result<Self, BadResult> {
        if let Some(version) = headers.v.filter(|v| *v != "1") {
            return Err(BadResult::Version(version.to_owned()));
        }
        let node = headers.node.ok_or(BadResult::Header("vogeler-node"))?.parse()?;
        let command: Alias = headers.command.ok_or(BadResult::Header("vogeler-command"))?.parse()?;
        let output = std::str::from_utf8(body).map_err(BadOutput::Utf8)?.to_owned();
        let payload = match headers.outcome.unwrap_or("ok") {
            "ok" => Payload::Output(output),
            "error" => Payload::Failure(Failure { kind: FailureKind::Exit, message: output, stderr: String::new() }),
            other => return Err(BadResult::Outcome(other.to_owned())),
        };
        let key = headers.key.unwrap_or(command.as_str()).parse()?;
        let mut result = Self::under(key, node, command, payload);
        result.format = Some(headers.format.map_or(Ok(Format::String), str::parse)?);
        Ok(result)
    }

    /// Turns output that the server is to read into data.
    ///
    /// # Errors
    /// Output that does not fit its format.
    pub fn read_output(mut self) -> Result<Self, BadResult> {
        if let Payload::Output(output) = &self.payload {
            let data = self.format.unwrap_or(Format::Json).read(output.as_bytes())?;
            self.payload = Payload::Data(data);
        }
        Ok(self)
    }
}

/// The headers that stand in for the envelope of a plain-text result.
#[derive(Debug, Clone, Copy, Default)]
pub struct TextHeaders<'a> {
    /// `vogeler-v`; 1 where it is missing.
    pub v: Option<&'a str>,
    /// `vogeler-node`
    pub node: Option<&'a str>,
    /// `vogeler-command`
    pub command: Option<&'a str>,
    /// `vogeler-key`; the command where it is missing.
    pub key: Option<&'a str>,
    /// `vogeler-format`; string where it is missing.
    pub format: Option<&'a str>,
    /// `vogeler-outcome`; ok where it is missing.
    pub outcome: Option<&'a str>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_five_line_script_is_enough() {
        let body = br#"{"v":1,"node":"web01","command":"disk","outcome":"ok","data":{"free":1.50}}"#;
        let result = CommandResult::decode(body).unwrap();
        assert_eq!(result.key.as_str(), "disk");
        assert!(matches!(&result.payload, Payload::Data(data) if data.get() == r#"{"free":1.50}"#));
    }

    #[test]
    fn null_is_data() {
        let body = br#"{"v":1,"node":"a","command":"c","outcome":"ok","data":null}"#;
        let result = CommandResult::decode(body).unwrap();
        let again = CommandResult::decode(&result.encode()).unwrap();
        assert!(matches!(again.payload, Payload::Data(data) if data.get() == "null"));
    }

    #[test]
    fn every_refusal_says_why() {
        for (body, words) in [
            ("", "EOF while parsing"),
            (r#"{"v":2,"node":"a","command":"c","outcome":"ok","data":1}"#, "message version 2 is unknown"),
            (r#"{"v":1,"node":"A b","command":"c","outcome":"ok","data":1}"#, "node name \"A b\""),
            (r#"{"v":1,"node":"a","command":"c","key":"_id","outcome":"ok","data":1}"#, "starts with '_'"),
            (r#"{"v":1,"node":"a","command":"vogeler","outcome":"ok","data":1}"#, "reserved field"),
            (r#"{"v":1,"node":"a","command":"c","outcome":"ok"}"#, "either data or output"),
            (r#"{"v":1,"node":"a","command":"c","outcome":"error","data":1}"#, "an error and no data"),
            (r#"{"v":1,"node":"a","node":"b","command":"c","outcome":"ok","data":1}"#, "duplicate field `node`"),
            (r#"{"v":1,"node":"a","command":"c","outcome":"ok","data":"\ud800"}"#, "unpaired surrogate"),
        ] {
            let error = CommandResult::decode(body.as_bytes()).unwrap_err();
            let sentence = crate::sentence(&error);
            assert!(sentence.contains(words), "{body}: {sentence}");
        }
    }

    #[test]
    fn plain_text_with_headers() {
        let headers = TextHeaders {
            node: Some("web01"),
            command: Some("mounts"),
            format: Some("yaml"),
            ..TextHeaders::default()
        };
        let result = CommandResult::decode_text(&headers, b"- a: \"b\"\n- c\n").unwrap().read_output().unwrap();
        assert!(matches!(&result.payload, Payload::Data(data) if data.get() == r#"[{"a":"b"},"c"]"#));
        let missing = CommandResult::decode_text(&TextHeaders { node: Some("a"), ..TextHeaders::default() }, b"");
        assert!(missing.unwrap_err().to_string().contains("vogeler-command"));
    }
}
