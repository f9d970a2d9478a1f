//! What a figure depends on besides the code that is measured.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// Names and versions.
pub type Versions = BTreeMap<String, String>;

/// The folder of the repository that this program was built from.
///
/// # Errors
/// If it is not there any more.
pub fn repository() -> Result<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    root.canonicalize().with_context(|| {
        format!(
            "{} is gone: run the bench where it was built",
            root.display()
        )
    })
}

/// Returns the first line that a program prints, or `None` if it cannot be run.
pub fn first_line(program: impl AsRef<Path>, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program.as_ref())
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .ok()?;
    // Some print it on standard error.
    [output.stdout, output.stderr].iter().find_map(|text| {
        let text = String::from_utf8_lossy(text);
        let line = text.lines().map(str::trim).find(|line| !line.is_empty())?;
        Some(line.to_owned())
    })
}

/// Where a program is: a path of its own, or a name to be found in `PATH`, `/usr/sbin` or
/// `/usr/libexec`.
pub fn find(program: &str) -> Option<PathBuf> {
    let executable = |path: &PathBuf| {
        use std::os::unix::fs::PermissionsExt;
        fs::metadata(path)
            .is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
    };
    if program.contains('/') {
        return Some(PathBuf::from(program)).filter(executable);
    }
    let paths = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&paths)
        .chain(["/usr/sbin", "/usr/libexec"].map(PathBuf::from))
        .map(|folder| folder.join(program))
        .find(executable)
}

/// `PATH` with a folder in front.
///
/// # Errors
/// If the folder's name has a colon.
pub fn search_path_with(folder: &Path) -> Result<OsString> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::iter::once(folder.to_owned()).chain(std::env::split_paths(&path));
    std::env::join_paths(folders).with_context(|| format!("{} in PATH", folder.display()))
}

/// Where a peer's program is: `variable` of the environment names it, or it is in `PATH`.
pub fn peer(variable: &str, program: &str) -> Option<PathBuf> {
    match std::env::var(variable) {
        Ok(named) => find(&named),
        Err(_) => find(program),
    }
}

/// The compiler of this program's neighbours.
///
/// # Errors
/// If there is none.
pub fn rustc() -> Result<String> {
    first_line("rustc", &["--version"]).context("rustc is not in PATH")
}

/// The level of the host's x86-64 processor, which decides what the C library's string
/// functions execute ("x86-64-v3"; System V ABI, AMD64 supplement, section 3.1.1).
pub fn cpu_level() -> String {
    // One feature of each level is enough: processors have all of a level or none.
    #[cfg(target_arch = "x86_64")]
    let level = if is_x86_feature_detected!("avx512vl") {
        "x86-64-v4"
    } else if is_x86_feature_detected!("avx2") {
        "x86-64-v3"
    } else if is_x86_feature_detected!("sse4.2") {
        "x86-64-v2"
    } else {
        "x86-64"
    };
    #[cfg(not(target_arch = "x86_64"))]
    let level = std::env::consts::ARCH;
    String::from(level)
}

/// The C library.
pub fn libc() -> String {
    first_line("ldd", &["--version"]).unwrap_or_else(|| String::from("unknown"))
}

/// Runs a command and returns its standard output.
///
/// # Errors
/// If it cannot be started or fails, with the last lines of its standard error.
pub fn output(command: &mut Command) -> Result<String> {
    let name = command.get_program().display().to_string();
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start {name}"))?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr);
        let words: Vec<&str> = words.lines().rev().take(5).collect();
        let words: Vec<&str> = words.into_iter().rev().collect();
        bail!("{name} ended with {}: {}", output.status, words.join("; "));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
