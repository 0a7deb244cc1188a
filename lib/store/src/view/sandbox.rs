//! A JavaScript engine that runs other people's functions: no files, no network, no timers, and an end to patience.
//!
//! Start at [`Sandbox`]. What its functions find is what CouchDB's query server gives to a map or a reduce; the names
//! that are for shows and lists alone are not there. As in CouchDB every function has globals of its own, so that it
//! cannot spoil another's, while documents, `emit` and `JSON` come from elsewhere: `doc.list instanceof Array` is false,
//! `isArray(doc.list)` is true. Nothing of a document can be changed.
//!
//! CouchDB's QuickJS is Bellard's, this one is QuickJS-NG; they differ in the wording of errors and in a few newer
//! built-ins.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rquickjs::context::{EvalOptions, intrinsic};
use rquickjs::function::This;
use rquickjs::{CatchResultExt, CaughtError, Context, Ctx, Function, Object, Persistent, Runtime, Value};

use super::prelude::PRELUDE;

/// What one call of a function may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// How long it may run. CouchDB's `os_process_timeout` is 5 s.
    pub time: Duration,
    /// How many bytes the engine may hold, the document included.
    pub memory: usize,
    /// How many bytes of stack; the calling thread has to have more.
    pub stack: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { time: Duration::from_secs(5), memory: 64 << 20, stack: 512 << 10 }
    }
}

/// What went wrong in a function.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// It threw something that CouchDB notes in its log, to go on without.
    #[error("{message}")]
    Thrown {
        /// What, in words.
        message: String,
        /// The line of the function, counted from one, where the engine knows it.
        line: Option<usize>,
    },
    /// It threw what CouchDB stops over, or made something that is no JSON.
    #[error("{message}")]
    Fatal {
        /// What, in words.
        message: String,
        /// The line of the function, counted from one, where the engine knows it.
        line: Option<usize>,
    },
    /// It did not come to an end.
    #[error("it ran for more than {time:?}")]
    TooLong {
        /// How long it was given.
        time: Duration,
    },
    /// It took too much memory.
    #[error("it took more than {} MiB of memory", memory >> 20)]
    TooMuch {
        /// How many bytes it was given.
        memory: usize,
    },
    /// It called itself too often.
    #[error("it called itself too often: the stack is full")]
    TooDeep,
}

impl Failure {
    /// Whether CouchDB answers no question to the view any more, rather than leave this one document out.
    pub fn spoils_the_view(&self) -> bool {
        !matches!(self, Self::Thrown { .. })
    }

    /// The line of the function, counted from one, where the engine knows it.
    pub fn line(&self) -> Option<usize> {
        match self {
            Self::Thrown { line, .. } | Self::Fatal { line, .. } => *line,
            Self::TooLong { .. } | Self::TooMuch { .. } | Self::TooDeep => None,
        }
    }
}

/// Base objects apart, what CouchDB's query server puts into a context.
type Intrinsics = (
    intrinsic::Eval,
    intrinsic::Json,
    intrinsic::RegExpCompiler,
    intrinsic::RegExp,
    intrinsic::MapSet,
    intrinsic::Date,
);

/// The file name of a function in stack traces.
const SCRIPT: &str = "function.js";

/// Functions, compiled, with what they need. After a [`Failure`] that is neither thrown nor fatal it is of no use any
/// more.
pub(super) struct Sandbox {
    // In the order in which they have to go: values before their contexts, contexts before the runtime.
    functions: Vec<Persistent<Function<'static>>>,
    prelude: Persistent<Object<'static>>,
    contexts: Vec<Context>,
    main: Context,
    _runtime: Runtime,
    alarm: Arc<Alarm>,
    limits: Limits,
}

impl Sandbox {
    /// Compiles functions; which of them cannot be, and why.
    pub(super) fn new<'s>(
        sources: impl IntoIterator<Item = &'s str>,
        limits: Limits,
    ) -> Result<Self, (usize, Failure)> {
        let broken = |error: rquickjs::Error| {
            (0, Failure::Fatal { message: format!("no JavaScript engine: {error}"), line: None })
        };
        let runtime = Runtime::new().map_err(broken)?;
        runtime.set_memory_limit(limits.memory);
        runtime.set_max_stack_size(limits.stack);
        let alarm = Arc::new(Alarm::new());
        let bell = Arc::clone(&alarm);
        runtime.set_interrupt_handler(Some(Box::new(move || bell.rings())));
        let main = Context::custom::<Intrinsics>(&runtime).map_err(broken)?;
        let prelude = main.with(|ctx| {
            let prelude: Object = ctx.eval(PRELUDE)?;
            let log = Function::new(ctx.clone(), |line: String| tracing::debug!(line, "a view function logged"))?;
            prelude.set("note", log)?;
            Ok(Persistent::save(&ctx, prelude))
        });
        let prelude = prelude.map_err(broken)?;
        let mut sandbox =
            Self { functions: Vec::new(), prelude, contexts: Vec::new(), main, _runtime: runtime, alarm, limits };
        for (index, source) in sources.into_iter().enumerate() {
            sandbox.add(source).map_err(|failure| (index, failure))?;
        }
        Ok(sandbox)
    }

    fn add(&mut self, source: &str) -> Result<(), Failure> {
        let broken =
            |error: rquickjs::Error| Failure::Fatal { message: format!("no JavaScript engine: {error}"), line: None };
        let context = Context::custom::<Intrinsics>(self.main.runtime()).map_err(broken)?;
        self.alarm.set(self.limits.time);
        let function = context.with(|ctx| {
            let prelude = self.prelude.clone().restore(&ctx).map_err(broken)?;
            let given: Object = prelude.get("given").map_err(broken)?;
            for property in given.props::<String, Value>() {
                let (name, value) = property.map_err(broken)?;
                ctx.globals().set(name, value).map_err(broken)?;
            }
            Ok(Persistent::save(&ctx, self.compile(&ctx, source)?))
        });
        self.alarm.clear();
        self.functions.push(function?);
        self.contexts.push(context);
        Ok(())
    }

    /// As CouchDB: what evaluates to a function as it stands; or a function expression. A named function by itself is a
    /// declaration and evaluates to nothing.
    fn compile<'js>(&self, ctx: &Ctx<'js>, source: &str) -> Result<Function<'js>, Failure> {
        let eval = |text: String| {
            let mut options = EvalOptions::default();
            options.strict = false;
            options.filename = Some(SCRIPT.to_owned());
            ctx.eval_with_options::<Value, _>(text, options).catch(ctx)
        };
        let is_syntax = |error: &CaughtError| match error {
            CaughtError::Exception(exception) => {
                exception.as_object().get::<_, String>("name").is_ok_and(|name| name == "SyntaxError")
            }
            CaughtError::Value(_) | CaughtError::Error(_) => false,
        };
        let value = match eval(source.to_owned()) {
            // Opened on the same line, so that lines count as in the source.
            Err(error) if is_syntax(&error) => eval(format!("({}\n)", source.trim_end().trim_end_matches(';'))),
            other => other,
        };
        match value {
            Ok(value) => value.into_function().ok_or_else(|| Failure::Fatal {
                message: "Expression does not eval to a function.".to_owned(),
                line: None,
            }),
            Err(error) => Err(self.uncaught(error)),
        }
    }

    /// Makes a document the one that functions are called with.
    pub(super) fn open(&mut self, document: &str) -> Result<(), Failure> {
        self.ask(|ctx, prelude| prelude.get::<_, Function>("open")?.call((This(prelude), ctx.json_parse(document)?)))
    }

    /// Calls one function with the open document: the rows that it emitted, as JSON.
    pub(super) fn map(&mut self, index: usize) -> Result<String, Failure> {
        let function = self.function(index)?;
        let outcome =
            self.ask(|ctx, prelude| prelude.get::<_, Function>("map")?.call((This(prelude), function.restore(ctx)?)))?;
        self.judge(outcome)
    }

    /// Calls one function with keys, values and whether the values were reduced already, all JSON: what it returned, as
    /// JSON.
    pub(super) fn reduce(&mut self, index: usize, keys: &str, values: &str, again: bool) -> Result<String, Failure> {
        let function = self.function(index)?;
        let outcome = self.ask(|ctx, prelude| {
            let arguments = (function.restore(ctx)?, ctx.json_parse(keys)?, ctx.json_parse(values)?, again);
            prelude.get::<_, Function>("reduce")?.call((
                This(prelude),
                arguments.0,
                arguments.1,
                arguments.2,
                arguments.3,
            ))
        })?;
        self.judge(outcome)
    }

    fn function(&self, index: usize) -> Result<Persistent<Function<'static>>, Failure> {
        let missing = || Failure::Fatal { message: format!("there is no function {index}"), line: None };
        self.functions.get(index).cloned().ok_or_else(missing)
    }

    /// Runs something of the prelude within the limits.
    fn ask<T>(
        &mut self,
        act: impl for<'js> FnOnce(&Ctx<'js>, Object<'js>) -> rquickjs::Result<T>,
    ) -> Result<T, Failure> {
        self.alarm.set(self.limits.time);
        let result = self.main.with(|ctx| {
            let prelude = self.prelude.clone().restore(&ctx);
            prelude.and_then(|prelude| act(&ctx, prelude)).catch(&ctx).map_err(|error| self.uncaught(error))
        });
        self.alarm.clear();
        result
    }

    /// The prelude answers with a kind, words or JSON, and a stack trace.
    fn judge(&self, outcome: Vec<String>) -> Result<String, Failure> {
        let mut outcome = outcome.into_iter();
        let mut next = || outcome.next().unwrap_or_default();
        let (kind, message, stack) = (next(), next(), next());
        let line = line_in(&stack);
        match kind.as_str() {
            "done" => Ok(mended(message)),
            "thrown" => Err(Failure::Thrown { message, line }),
            "memory" => Err(Failure::TooMuch { memory: self.limits.memory }),
            "stack" => Err(Failure::TooDeep),
            _ => Err(Failure::Fatal { message, line }),
        }
    }

    /// What nothing in the engine has caught: mostly what cannot be caught.
    fn uncaught(&self, error: CaughtError) -> Failure {
        if self.alarm.rang() {
            return Failure::TooLong { time: self.limits.time };
        }
        match error {
            CaughtError::Exception(exception) => {
                let name: String = exception.as_object().get("name").unwrap_or_default();
                let message = exception.message().unwrap_or_default();
                if message == "out of memory" {
                    return Failure::TooMuch { memory: self.limits.memory };
                }
                if name == "RangeError" && message.contains("call stack") {
                    return Failure::TooDeep;
                }
                let line = line_in(&exception.stack().unwrap_or_default());
                Failure::Fatal { message: format!("{name}: {message}"), line }
            }
            // Not even room for an error.
            CaughtError::Value(value) if value.is_null() => Failure::TooMuch { memory: self.limits.memory },
            CaughtError::Error(rquickjs::Error::Allocation) => Failure::TooMuch { memory: self.limits.memory },
            other => Failure::Fatal { message: other.to_string(), line: None },
        }
    }
}

/// The line in a function of the first entry of a stack trace that is in one, `at map (function.js:3:5)`.
fn line_in(stack: &str) -> Option<usize> {
    let (_, place) = stack.split_once(&format!("{SCRIPT}:"))?;
    place.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// JSON without halves of surrogate pairs, which no UTF-8 can hold: each becomes U+FFFD, as in CouchDB. The engine
/// writes such halves as escapes and nothing else in that range.
fn mended(json: String) -> String {
    if !json.contains("\\ud") {
        return json;
    }
    let mut mended = String::with_capacity(json.len());
    let mut rest = json.as_str();
    while let Some(at) = rest.find('\\') {
        let half = rest[at..].starts_with("\\ud") && rest.as_bytes().get(at + 3).is_some_and(|digit| *digit >= b'8');
        let length = if half { 6 } else { 2 };
        mended.push_str(&rest[..at]);
        mended.push_str(if half { "\\ufffd" } else { &rest[at..at + length] });
        rest = &rest[at + length..];
    }
    mended + rest
}

/// Tells the engine when to stop.
struct Alarm {
    start: Instant,
    /// In milliseconds after the start.
    due: AtomicU64,
    rang: AtomicBool,
}

impl Alarm {
    fn new() -> Self {
        Self { start: Instant::now(), due: AtomicU64::new(u64::MAX), rang: AtomicBool::new(false) }
    }

    fn set(&self, time: Duration) {
        let due = u64::try_from((self.start.elapsed() + time).as_millis()).unwrap_or(u64::MAX);
        self.rang.store(false, Ordering::Relaxed);
        self.due.store(due, Ordering::Relaxed);
    }

    fn clear(&self) {
        self.due.store(u64::MAX, Ordering::Relaxed);
    }

    fn rings(&self) -> bool {
        let late = self.start.elapsed().as_millis() >= u128::from(self.due.load(Ordering::Relaxed));
        if late {
            self.rang.store(true, Ordering::Relaxed);
        }
        late
    }

    fn rang(&self) -> bool {
        self.rang.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_of_surrogate_pairs_are_replaced_and_nothing_else() {
        for (json, expected) in [
            (r#"["\ud800","x\udc00y"]"#, r#"["\ufffd","x\ufffdy"]"#),
            (r#"["\\ud800","\\\ud800","\n"]"#, r#"["\\ud800","\\\ufffd","\n"]"#),
            (r#"["\ud7ff"]"#, r#"["\ud7ff"]"#),
            (r#"["😀"]"#, r#"["😀"]"#),
        ] {
            assert_eq!(mended(json.to_owned()), expected);
        }
    }

    #[test]
    fn the_line_of_a_stack_trace() {
        assert_eq!(line_in("    at emit (<input>:3:1)\n    at <anonymous> (function.js:12:5)\n"), Some(12));
        assert_eq!(line_in("    at native\n"), None);
    }
}
