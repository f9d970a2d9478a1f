//! Programs that a test makes and then runs.
//!
//! A file that is open for writing cannot be run (ETXTBSY), and each program that another test starts
//! meanwhile has the descriptor from its fork to its exec. So another process writes the file.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

/// Makes an executable file with this text.
pub fn script(path: &Path, text: &str) {
    written(path, Stdio::piped(), text.as_bytes());
}

/// Makes an executable copy of a program.
pub fn copy(from: &Path, to: &Path) {
    written(to, File::open(from).unwrap().into(), &[]);
}

fn written(path: &Path, input: Stdio, bytes: &[u8]) {
    let script = "cat >\"$0\" && chmod 755 \"$0\"";
    let mut child = Command::new("sh")
        .args(["-c", script])
        .arg(
            fs::canonicalize(path.parent().unwrap())
                .unwrap()
                .join(path.file_name().unwrap()),
        )
        .stdin(input)
        .spawn()
        .unwrap();
    if let Some(mut input) = child.stdin.take() {
        input.write_all(bytes).unwrap();
    }
    assert!(child.wait().unwrap().success(), "{}", path.display());
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    /// One run in some hundred failed with "Text file busy".
    #[test]
    fn a_new_script_runs_while_others_start_programs() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("script");
        let ended = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while !ended.load(Ordering::Relaxed) {
                        assert!(Command::new("true").status().unwrap().success());
                    }
                });
            }
            for _ in 0..200 {
                script(&path, "#!/bin/sh\nexit 7\n");
                let status = Command::new(&path).status().map(|status| status.code());
                ended.store(status.is_err(), Ordering::Relaxed);
                assert_eq!(status.unwrap(), Some(7));
            }
            ended.store(true, Ordering::Relaxed);
        });
    }
}
