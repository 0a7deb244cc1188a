//! The bad plugins: what each does, and what lands of it.
//!
//! Start at [`gauntlet`]. Every descriptor is taken when the client starts: a program that is
//! missing, or no program at all, shows when it is run, since a plugin may come before the package
//! that it asks.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::{Value, json};
use vogeler_tests::Site;

/// Where the plugins work, in the site's folder.
const SCRATCH: &str = "scratch";

/// A bad plugin.
pub(crate) struct Bad {
    /// What it is registered as, which says what it does.
    pub(crate) alias: &'static str,
    runs: Runs,
    format: &'static str,
    timeout: &'static str,
    max_output: &'static str,
    lands: Lands,
}

enum Runs {
    /// A shell script.
    Script(&'static str),
    /// A file among those that [`prepare`] makes.
    File(&'static str),
}

enum Lands {
    /// This, under its key: it was bad, and still a result.
    Data(Value),
    /// A failure of this kind, under `vogeler.errors`; the message begins so. `{scratch}` stands for
    /// the folder.
    Failure(&'static str, &'static str),
}

impl Bad {
    /// Its descriptor: one line of YAML. A JSON string is one of YAML, too.
    fn descriptor(&self, site: &Site) -> String {
        let scratch = site.path(SCRATCH);
        let (command, shell) = match self.runs {
            Runs::Script(script) => (script.to_owned(), true),
            Runs::File(file) => (scratch.join(file).display().to_string(), false),
        };
        format!(
            "{}: {{command: {}, shell: {shell}, format: {}, timeout: {}, max_output: {}, cwd: {}}}\n",
            self.alias,
            Value::from(command),
            self.format,
            self.timeout,
            self.max_output,
            scratch.display()
        )
    }

    /// The exit status of a runner that asks for it.
    pub(crate) fn exit_status(&self) -> i32 {
        match self.lands {
            Lands::Data(_) => 0,
            Lands::Failure(..) => 2,
        }
    }

    /// What is wrong with that which the record holds of it.
    pub(crate) fn difference(&self, site: &Site, record: &Value) -> Option<String> {
        let (data, error) = (&record[self.alias], &record["vogeler"]["errors"][self.alias]);
        let landed = match &self.lands {
            Lands::Data(expected) => data == expected && error.is_null(),
            Lands::Failure(kind, message) => {
                let message = message.replace("{scratch}", &site.path(SCRATCH).display().to_string());
                let begins = error["message"].as_str().is_some_and(|text| text.starts_with(&message));
                data.is_null() && error["kind"] == *kind && begins
            }
        };
        let data: String = data.to_string().chars().take(200).collect();
        (!landed).then(|| format!("{}: data {data}, error {error}", self.alias))
    }
}

/// The descriptors of these plugins, and the files that some of them name.
pub(crate) fn prepare(site: &Site, plugins: &[Bad]) -> String {
    let with_mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    with_mode(&site.write(&format!("{SCRATCH}/plain"), "#!/bin/sh\necho hi\n"), 0o600);
    site.write(&format!("{SCRATCH}/bad-shebang"), "#!/no/such/interpreter\n");
    fs::create_dir_all(site.path(SCRATCH).join("directory")).unwrap();
    with_mode(&site.path(SCRATCH).join("directory"), 0o755);
    plugins.iter().map(|bad| bad.descriptor(site)).collect()
}

/// The pid that a plugin has left in a file, of a process that it has left.
pub(crate) fn left_by(site: &Site, alias: &str) -> i32 {
    let file = site.path(SCRATCH).join(format!("{alias}.pid"));
    fs::read_to_string(file).unwrap_or_default().trim().parse().expect("the plugin left its pid in a file")
}

/// A script that ends by itself, well or badly.
fn script(alias: &'static str, format: &'static str, script: &'static str, lands: Lands) -> Bad {
    Bad { alias, runs: Runs::Script(script), format, timeout: "30s", max_output: "1MiB", lands }
}

/// A script that has to be ended.
fn endless(alias: &'static str, text: &'static str) -> Bad {
    let lands = Lands::Failure("timeout", "ran longer than 1s");
    Bad { timeout: "1s", ..script(alias, "string", text, lands) }
}

/// A file, which may be no program.
fn file(alias: &'static str, name: &'static str, kind: &'static str, message: &'static str) -> Bad {
    Bad { runs: Runs::File(name), ..script(alias, "string", "", Lands::Failure(kind, message)) }
}

fn bad_output(message: &'static str) -> Lands {
    Lands::Failure("bad_output", message)
}

/// All of them.
pub(crate) fn gauntlet() -> Vec<Bad> {
    [never_end(), leave_processes(), fall_over(), print_too_much(), print_what_is_no_data(), cannot_run()]
        .into_iter()
        .flatten()
        .collect()
}

fn never_end() -> Vec<Bad> {
    vec![
        endless("burns-cpu", "while :; do :; done"),
        endless("sleeps", "exec sleep infinity"),
        endless("ignores-term", "trap '' TERM; while :; do sleep 60; done"),
        endless("drips", "while :; do printf x; sleep 1; done"),
        endless("closes-stdout", "echo hi; exec >&-; exec sleep infinity"),
        endless("closes-everything", "echo hi; exec >&- 2>&-; exec sleep infinity"),
    ]
}

/// They end well, and what they printed counts; what they leave is ended.
fn leave_processes() -> Vec<Bad> {
    let done = || Lands::Data(json!("done"));
    vec![
        script("keeps-stdout-open", "string", "sleep infinity & echo done", done()),
        script(
            "double-forks",
            "string",
            "rm -f double-forks.pid
             (sh -c 'echo $$ >double-forks.pid; exec sleep infinity' &)
             until [ -s double-forks.pid ]; do sleep 0.02; done; echo done",
            done(),
        ),
        daemonises(),
    ]
}

/// A daemon by the book: two forks and a session of its own, and it keeps standard output.
pub(crate) fn daemonises() -> Bad {
    let text = "rm -f daemonises.pid
                (setsid sh -c 'echo $$ >daemonises.pid; exec sleep infinity' &)
                until [ -s daemonises.pid ]; do sleep 0.02; done; echo done";
    script("daemonises", "string", text, Lands::Data(json!("done")))
}

/// The same with an environment that was cleared, so that nothing tells whose it is.
pub(crate) fn disowns() -> Bad {
    let text = "(setsid env -i /bin/sh -c 'echo $$ >disowns.pid; exec sleep 300 >/dev/null 2>&1' &)
                until [ -s disowns.pid ]; do sleep 0.02; done; echo done";
    script("disowns", "string", text, Lands::Data(json!("done")))
}

fn fall_over() -> Vec<Bad> {
    let segfaults = "exec /usr/bin/python3 -c 'import ctypes; ctypes.string_at(0)'";
    let aborts = "exec /usr/bin/python3 -c 'import os; os.abort()'";
    // Under the limit of address space that every plugin has.
    let leaks = r#"exec /usr/bin/python3 -c 'leak = []
while True: leak.append(b"x" * 1048576)'"#;
    vec![
        script("segfaults", "string", segfaults, Lands::Failure("signal", "was ended by signal SIGSEGV")),
        script("aborts", "string", aborts, Lands::Failure("signal", "was ended by signal SIGABRT")),
        script("leaks", "string", leaks, Lands::Failure("exit", "exited with status 1")),
    ]
}

fn print_too_much() -> Vec<Bad> {
    let bomb = r#"exec /usr/bin/python3 -c 'print("a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]")
for n in range(1, 20): print(f"a{n}: &a{n} [" + ", ".join([f"*a{n-1}"] * 9) + "]")'"#;
    vec![
        script(
            "prints-1-gb",
            "string",
            "head -c 1G /dev/zero | tr '\\0' x",
            Lands::Failure("too_large", "printed more than 1048576 bytes"),
        ),
        script(
            "prints-no-newline",
            "lines",
            "head -c 102400 /dev/zero | tr '\\0' x",
            Lands::Data(json!(["x".repeat(102_400)])),
        ),
        script(
            "prints-to-stderr",
            "json",
            "head -c 10M /dev/zero | tr '\\0' x >&2",
            bad_output("output is empty, which is no json"),
        ),
        script(
            "alias-bomb",
            "yaml",
            bomb,
            bad_output(
                "output is no yaml that can be stored: line 7: its aliases, written out, are more than 16777216 bytes",
            ),
        ),
    ]
}

fn print_what_is_no_data() -> Vec<Bad> {
    const NO_JSON: &str = "output is no json that can be stored: not one JSON text: ";
    // What follows is the JSON parser's own.
    let no_json = |alias, text| script(alias, "json", text, bad_output(NO_JSON));
    vec![
        script("binary", "string", r"printf 'ELF\377\376\000\001'", bad_output("output is not UTF-8: ")),
        no_json("half-json", r#"printf '{"a": [1, 2'"#),
        no_json("json-nan", r#"echo '{"load": NaN}'"#),
        no_json("json-infinity", r#"echo '{"load": -Infinity}'"#),
        no_json("json-number-as-key", "echo '{1: 2}'"),
        script(
            "json-beyond-doubles",
            "json",
            r#"echo '{"load": 1e400}'"#,
            bad_output("output is no json that can be stored: a number outside of the range of an IEEE double"),
        ),
        script(
            "yaml-nan",
            "yaml",
            "echo 'load: .nan'",
            bad_output("output is no yaml that can be stored: line 1: .nan is no number that JSON knows"),
        ),
        script(
            "yaml-infinity",
            "yaml",
            "echo 'load: -.inf'",
            bad_output("output is no yaml that can be stored: line 1: -.inf is no number that JSON knows"),
        ),
        script("yaml-number-as-key", "yaml", "echo '1: one'", Lands::Data(json!({ "1": "one" }))),
        script(
            "yaml-list-as-key",
            "yaml",
            "echo '[a, b]: c'",
            bad_output("output is no yaml that can be stored: line 1: a key is no scalar"),
        ),
        script("prints-nothing", "json", ":", bad_output("output is empty, which is no json")),
        script("prints-no-lines", "lines", ":", Lands::Data(json!([]))),
        script("reads-input", "string", "cat; echo the input has ended", Lands::Data(json!("the input has ended"))),
    ]
}

fn cannot_run() -> Vec<Bad> {
    vec![
        file("not-executable", "plain", "not_executable", "{scratch}/plain cannot be executed: Permission denied"),
        file("missing", "missing", "not_found", "{scratch}/missing is not there"),
        file(
            "bad-shebang",
            "bad-shebang",
            "not_executable",
            "{scratch}/bad-shebang: the interpreter in its first line",
        ),
        file("a-directory", "directory", "not_executable", "{scratch}/directory cannot be executed: Permission denied"),
    ]
}

/// Those of which a client holds most while it looks at what they print.
pub(crate) fn hungry() -> Vec<Bad> {
    // All that may be printed, and as JSON six times as much: more than can be sent.
    let nul = script("prints-nul", "string", "head -c 4M /dev/zero", Lands::Failure("too_large", "the result has 25"));
    let mut hungry = print_too_much();
    hungry.push(Bad { max_output: "4MiB", ..nul });
    hungry
}
