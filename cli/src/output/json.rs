//! What programs read: one JSON object a line on standard output (docs/json.md).

use std::io::{self, Write};

use crate::exit_code::ExitCode;
use serde_json::{Value, json};

/// Writes one object. A reader that has gone away is no reason to end a build.
pub(crate) fn emit(object: &Value) {
    let mut stdout = io::stdout().lock();
    let _ = writeln!(stdout, "{object}").and_then(|()| stdout.flush());
}

/// The last line of a run.
pub(crate) fn exit(code: ExitCode) {
    emit(&json!({"event": "exit", "code": code.number()}));
}

/// An error that ended it, with its causes.
pub(crate) fn error(message: &str, causes: &[String]) {
    emit(&json!({"event": "error", "message": message, "causes": causes}));
}
