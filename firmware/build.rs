//! Builds `boxinit`, process 1 of a box that is booted fast, for the architecture that boxbuild
//! is built for: a static program, which [`boxbuild_firmware::guest`] embeds.
//!
//! It is a build of its own, with a folder of its own below `OUT_DIR`, because a program for the
//! guest wants other settings than the one for the host. What it depends on is what this package
//! depends on, so that it needs no network.

#![allow(clippy::expect_used, clippy::panic, reason = "it fails the build")]

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Architectures that boxinit has a seccomp filter for (boxinit/src/seccomp.rs).
const ARCHITECTURES: [&str; 2] = ["x86_64", "aarch64"];

/// The profile in the workspace's Cargo.toml.
const PROFILE: &str = "boxinit";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=boxinit/src");
    println!("cargo::rerun-if-changed=boxinit/Cargo.toml");
    println!("cargo::rerun-if-changed=../Cargo.lock");
    let out = PathBuf::from(variable("OUT_DIR"));
    let embedded = out.join("boxinit");
    let known = ARCHITECTURES.contains(&variable("CARGO_CFG_TARGET_ARCH").as_str())
        && variable("CARGO_CFG_TARGET_OS") == "linux";
    if known {
        let program = build(&out.join("boxinit-target"));
        fs::copy(&program, &embedded).expect("boxinit can be copied");
    } else {
        // The guest's side is the shell scripts then.
        fs::write(&embedded, b"").expect("OUT_DIR can be written to");
    }
}

fn build(target_dir: &Path) -> PathBuf {
    let target = variable("TARGET");
    let mut command = Command::new(variable("CARGO"));
    // What is meant for the host's program: its flags, and clippy in place of the compiler.
    for name in [
        "CARGO_ENCODED_RUSTFLAGS",
        "RUSTC_WORKSPACE_WRAPPER",
        "CARGO_BUILD_TARGET",
        "CARGO_BUILD_TARGET_DIR",
        "CARGO_TARGET_DIR",
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
