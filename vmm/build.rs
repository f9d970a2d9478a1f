//! Links the unwinder statically where the toolchain has it as an archive, which GCC has had
//! for twenty years: the program then needs the C library and nothing else of the host, and starts
//! with nine system calls less.
//!
//! The standard library asks the linker for `gcc_s`. What it finds first is a script of ours that
//! names the archive instead.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The archive, by a name that the linker finds by itself.
const ARCHIVE: &str = "libgcc_eh.a";
const SCRIPT: &str = "INPUT(-lgcc_eh -lgcc)\n";

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let target = |name: &str| env::var(format!("CARGO_CFG_TARGET_{name}")).unwrap_or_default();
    let native = env::var("HOST").ok() == env::var("TARGET").ok();
    let out = env::var_os("OUT_DIR").map(PathBuf::from);
    if let (true, "linux", "gnu", Some(out)) = (
        native && has_archive(),
        &*target("OS"),
        &*target("ENV"),
        out,
    ) && fs::write(out.join("libgcc_s.so"), SCRIPT).is_ok()
    {
        println!("cargo:rustc-link-search=native={}", out.display());
    }
}

/// Whether the linker's driver knows the archive: else it prints the name as it is.
fn has_archive() -> bool {
    let answer = Command::new("cc")
        .arg(format!("-print-file-name={ARCHIVE}"))
        .output();
    answer.is_ok_and(|answer| {
        let path = String::from_utf8_lossy(&answer.stdout).trim().to_owned();
        Path::new(&path).is_absolute() && Path::new(&path).exists()
    })
}
