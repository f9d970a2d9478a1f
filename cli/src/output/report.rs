//! What is said of a build that has run: in words, and as JSON (docs/json.md).

use std::fs::File;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::exit_code::{HostContext, Result};
use crate::output::json::emit;
use crate::output::print::print_line;
use boxbuild_core::plan::Plan;
use boxbuild_core::run::{Failure, Reason, Run};
use boxbuild_host::digest::sha256;
use boxbuild_host::units::{seconds, size};

/// A result file. A folder or a link has no checksum.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ResultFile {
    path: PathBuf,
    bytes: u64,
    sha256: Option<String>,
}

/// Looks at the result files.
///
/// # Errors
/// If one cannot be read.
pub(crate) fn look_at(files: &[PathBuf]) -> Result<Vec<ResultFile>> {
    files.iter().map(|path| ResultFile::of(path)).collect()
}

impl ResultFile {
    fn of(path: &Path) -> Result<ResultFile> {
        let cannot = || format!("cannot read {}", path.display());
        let metadata = path.symlink_metadata().host_context(cannot)?;
        let sha256 = metadata
            .is_file()
            .then(|| sha256(&mut File::open(path)?).map(|(_, hash)| hash))
            .transpose()
            .host_context(cannot)?;
        Ok(ResultFile {
            path: path.to_owned(),
            bytes: metadata.len(),
            sha256,
        })
    }
}

/// What was built, in words.
pub(crate) fn built(run: &Run, files: &[ResultFile]) -> String {
    let mut text = String::new();
    for file in files {
        text += &format!("{}  {}\n", file.path.display(), size(file.bytes));
        if let Some(hash) = &file.sha256 {
            text += &format!("  sha256 {hash}\n");
        }
    }
    let phases: Vec<String> = run
        .phases
        .iter()
        .map(|(phase, time)| format!("{} {}", phase.name(), seconds(*time)))
        .collect();
    text += &format!("built in {} ({})", seconds(run.total), phases.join(", "));
    if let Some(memory) = run.peak_memory {
        text += &format!(", peak memory {}", size(memory));
    }
    text.push('\n');
    text
}

/// What was built, as JSON.
pub(crate) fn built_json(run: &Run, files: &[ResultFile]) {
    let files: Vec<Value> = files
        .iter()
        .map(|file| {
            json!({"path": file.path.to_string_lossy(), "bytes": file.bytes,
                "sha256": file.sha256})
        })
        .collect();
    let mut result = about(run, "built");
    result["files"] = Value::from(files);
    emit(&result);
}

/// Why there is nothing, as JSON.
pub(crate) fn failed_json(run: &Run, failure: &Failure) {
    let mut result = about(run, "failed");
    result["reason"] = Value::from(failure.reason.word());
    result["message"] = Value::from(failure.reason.to_string());
    result["last_lines"] = Value::from(failure.last_lines.clone());
    result["log"] = json!(failure.log.as_ref().map(|log| log.to_string_lossy()));
    result["kept"] = json!(
        failure
            .kept
            .as_ref()
            .map(|kept| json!({"id": kept.id, "bytes": kept.bytes}))
    );
    emit(&result);
}

fn about(run: &Run, status: &str) -> Value {
    let phases: Vec<Value> = run
        .phases
        .iter()
        .map(|(phase, time)| json!({"phase": phase.name(), "seconds": time.as_secs_f64()}))
        .collect();
    json!({
        "event": "result",
        "status": status,
        "seconds": run.total.as_secs_f64(),
        "phases": phases,
        "peak_memory_bytes": run.peak_memory,
    })
}

/// Why there is nothing, in words on standard error.
pub(crate) fn failed(failure: &Failure, plan: &Plan) {
    for line in &failure.last_lines {
        print_line(&format!("  | {line}"));
    }
    print_line(&format!("boxbuild: {}", failure.reason));
    if let Some(log) = &failure.log {
        print_line(&format!("  the log is {}", log.display()));
    }
    if let Some(kept) = &failure.kept {
        let id = &kept.id;
        print_line(&format!(
            "  it is kept ({}): boxbuild shell {id}, boxbuild logs {id}, boxbuild prune {id}",
            size(kept.bytes)
        ));
    }
    let hint = match failure.reason {
        Reason::EarlyPowerOff
        | Reason::Hung(_)
        | Reason::Panic(_)
        | Reason::Reset
        | Reason::TripleFault(_) => Some(format!(
            "see the box's whole console with --verbose; give it more memory than {} MiB with \
             --box-memory if it ran out",
            plan.memory_mib
        )),
        _ => None,
    };
    if let Some(hint) = hint {
        print_line(&format!("  hint: {hint}"));
    }
}
