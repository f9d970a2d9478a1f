//! Rust's and C's compilers for another architecture than the host's (tests/setup/toolchain).

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::env;

/// Exit code of tests/setup/toolchain where there is no compiler.
pub const NO_COMPILER: i32 = 77;

/// Rust's name of the target.
pub fn triple(arch: &str) -> String {
    format!("{arch}-unknown-linux-gnu")
}

/// A command that has these compilers. It writes to `folder`.
pub fn toolchain(arch: &str, folder: &Path) -> Command {
    let mut toolchain = Command::new(env::tests().join("setup/toolchain"));
    toolchain.current_dir(env::top());
    toolchain.arg(arch).arg("--folder").arg(folder);
    toolchain
}

/// Builds with cargo for `arch`, and returns the programs that cargo names.
///
/// # Errors
/// If there is no compiler, or cargo fails.
pub fn cargo(arch: &str, words: &[&str]) -> Result<Vec<PathBuf>, String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = toolchain(arch, &env::target())
        .arg(cargo)
        .args(words)
        .args(["--quiet", "--target", &triple(arch)])
        .arg("--message-format=json-render-diagnostics")
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("tests/setup/toolchain: {error}"))?;
    match output.status.code() {
        Some(0) => {}
        Some(NO_COMPILER) => return Err(format!("no compiler for {arch}")),
        _ => return Err(format!("cargo {}: {}", words.join(" "), output.status)),
    }
    let lines = output.stdout.split(|byte| *byte == b'\n');
    Ok(lines
        .filter_map(|line| serde_json::from_slice::<serde_json::Value>(line).ok())
        .filter_map(|message| message.get("executable")?.as_str().map(PathBuf::from))
        .collect())
}
