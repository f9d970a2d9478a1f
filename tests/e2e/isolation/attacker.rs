//! The program for the guest that does what its shell cannot (`attacker.c`).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use boxbuild_tests::env::{self, ATTACKER};
use boxbuild_tests::{cross, skip};

use super::guest::Guest;

/// Returns the program, which is compiled once, unless [`ATTACKER`] names it.
///
/// # Errors
/// If it cannot be compiled here.
pub(crate) fn program() -> Result<&'static Path, String> {
    static PROGRAM: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let program = PROGRAM.get_or_init(|| match std::env::var_os(ATTACKER) {
        Some(path) => Ok(path.into()),
        None => compile(),
    });
    program.as_deref().map_err(String::clone)
}

fn compile() -> Result<PathBuf, String> {
    let arch = env::foreign_arch();
    let words = ["tmp/attacker"].into_iter().chain(arch.as_deref());
    let folder = env::target().join(words.collect::<Vec<_>>().join("-"));
    let compiled = || -> std::io::Result<bool> {
        fs::create_dir_all(&folder)?;
        let work = tempfile::tempdir_in(&folder)?;
        let new = work.path().join("attacker");
        let mut gcc = match &arch {
            Some(arch) => {
                let mut gcc = cross::toolchain(arch, &folder);
                gcc.arg(format!("{arch}-linux-gnu-gcc"));
                gcc
            }
            None => Command::new("gcc"),
        };
        gcc.args(["-O2", "-Wall", "-Wextra", "-static", "-o"]);
        gcc.arg(&new);
        gcc.arg(env::tests().join("e2e/isolation/attacker.c"));
        let good = gcc.status()?.success();
        if good {
            fs::rename(new, folder.join("attacker"))?;
        }
        Ok(good)
    };
    match compiled() {
        Ok(true) => Ok(folder.join("attacker")),
        Ok(false) => Err("gcc cannot compile attacker.c (is libc6-dev installed?)".to_owned()),
        Err(error) => Err(format!("gcc: {error}")),
    }
}

/// Gives the guest the program, as `$attacker` of the scripts that begin with [`FIND`]. Returns whether
/// there is one; if not, `test` is skipped.
pub(super) fn bring(guest: &Guest, test: &str) -> bool {
    match program() {
        Ok(program) => {
            fs::copy(program, guest.description().join("attacker")).unwrap();
            true
        }
        Err(reason) => {
            skip(test, &reason);
            false
        }
    }
}

/// The beginning of a script that uses the program.
pub(super) const FIND: &str = "attacker=/description/attacker\n";
