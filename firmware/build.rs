//! Builds `boxinit`, process 1 of a guest that is booted fast, for the architecture that boxbuild is
//! built for: a static program, which `boxbuild_firmware::guest` embeds.
//!
//! It takes a nested build, because a program for the guest needs other settings than one for the
//! host. Its dependencies are dependencies of this package as well, so that it needs no network. All
//! profiles of the outer build share its folder, so that a change of boxinit is compiled once.

#![allow(clippy::expect_used, clippy::panic, reason = "it fails the build")]

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Architectures that boxinit has a seccomp filter for (boxinit/src/seccomp.rs).
const ARCHITECTURES: [&str; 2] = ["x86_64", "aarch64"];

/// The profile in the workspace's Cargo.toml.
const PROFILE: &str = "boxinit";

/// Between the flags in `CARGO_ENCODED_RUSTFLAGS`.
const SEPARATOR: &str = "\x1f";

/// A linker for boxinit, where that of the host's program cannot link statically: zig, for one, has
/// glibc in its shared form only.
const LINKER: &str = "BOXBUILD_BOXINIT_LINKER";

/// Set by `cargo clippy`.
const WRAPPER: &str = "RUSTC_WORKSPACE_WRAPPER";

fn main() {
    for input in [
        "build.rs",
        "boxinit/src",
        "boxinit/Cargo.toml",
        "protocol/src",
        "protocol/Cargo.toml",
        "../Cargo.toml",
        "../Cargo.lock",
    ] {
        println!("cargo::rerun-if-changed={input}");
    }
    for variable in [WRAPPER, LINKER] {
        println!("cargo::rerun-if-env-changed={variable}");
    }
    let out = PathBuf::from(variable("OUT_DIR"));
    let embedded = out.join("boxinit");
    let known = ARCHITECTURES.contains(&variable("CARGO_CFG_TARGET_ARCH").as_str())
        && variable("CARGO_CFG_TARGET_OS") == "linux";
    // clippy runs nothing that it compiles, and checks boxinit as a member of the workspace.
    let is_clippy = env::var(WRAPPER).is_ok_and(|wrapper| wrapper.contains("clippy"));
    if known && !is_clippy {
        let program = build(&target_dir(&out));
        fs::copy(&program, &embedded).expect("boxinit can be copied");
    } else {
        // Without boxinit, the shell scripts are the guest's side.
        fs::write(&embedded, b"").expect("OUT_DIR can be written to");
    }
}

/// The folder of the nested build: beside the profiles in cargo's target directory, which has a tag
/// (bford.info/cachedir). In a layout without one, each profile has its own.
fn target_dir(out: &Path) -> PathBuf {
    out.ancestors()
        .find(|folder| folder.join("CACHEDIR.TAG").is_file())
        .unwrap_or(out)
        .join("boxinit-build")
}

fn build(target_dir: &Path) -> PathBuf {
    let target = variable("TARGET");
    let mut command = Command::new(variable("CARGO"));
    // These are meant for the host's program.
    for name in [
        "RUSTFLAGS",
        WRAPPER,
        "CARGO_BUILD_TARGET",
        "CARGO_BUILD_TARGET_DIR",
        "CARGO_TARGET_DIR",
        "CARGO_BUILD_BUILD_DIR",
    ] {
        command.env_remove(name);
    }
    if let Some(linker) = env::var_os(LINKER) {
        let target = target.replace(['-', '.'], "_").to_uppercase();
        command.env(format!("CARGO_TARGET_{target}_LINKER"), linker);
    }
    let status = command
        .env("CARGO_ENCODED_RUSTFLAGS", flags().join(SEPARATOR))
        .args(["build", "--quiet", "--locked", "--offline"])
        .args([
            "--bin",
            "boxinit",
            "--profile",
            PROFILE,
            "--target",
            &target,
        ])
        .arg("--manifest-path")
        .arg(Path::new(&variable("CARGO_MANIFEST_DIR")).join("boxinit/Cargo.toml"))
        .arg("--target-dir")
        .arg(target_dir)
        .status()
        .expect("cargo can be run");
    assert!(
        status.success(),
        "boxinit cannot be built. It is linked statically, which takes the C library's static \
         form: libc6-dev (Debian, Ubuntu), glibc-static (Fedora), glibc-devel-static (openSUSE)"
    );
    target_dir.join(target).join(PROFILE).join("boxinit")
}

/// The flags of the compiler: what a program for the guest takes, and the outer build's names for
/// folders of this host.
fn flags() -> Vec<String> {
    let outer = env::var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default();
    let mut flags: Vec<String> = outer
        .split(SEPARATOR)
        .filter(|flag| flag.starts_with("--remap-path-prefix="))
        .map(str::to_owned)
        .collect();
    flags.extend(["-Ctarget-feature=+crt-static", "-Crelocation-model=static"].map(String::from));
    flags
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| panic!("cargo sets {name}"))
}
