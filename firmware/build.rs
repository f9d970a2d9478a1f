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
    println!("cargo::rerun-if-env-changed={WRAPPER}");
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
        "CARGO_ENCODED_RUSTFLAGS",
        WRAPPER,
        "CARGO_BUILD_TARGET",
        "CARGO_BUILD_TARGET_DIR",
        "CARGO_TARGET_DIR",
        "CARGO_BUILD_BUILD_DIR",
    ] {
        command.env_remove(name);
    }
    let status = command
        .env(
            "RUSTFLAGS",
            "-C target-feature=+crt-static -C relocation-model=static",
        )
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

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| panic!("cargo sets {name}"))
}
