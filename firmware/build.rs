//! Builds `boxinit`, process 1 of a guest that is booted fast, for each architecture that it knows: a
//! static program, which `boxbuild_firmware::guest` embeds.
//!
//! It takes a nested build, because a program for the guest needs other settings than one for the
//! host. Its dependencies are dependencies of this package as well, so that it needs no network. All
//! profiles of the outer build share its folder, so that a change of boxinit is compiled once.
//!
//! The one for the architecture that boxbuild is built for must be built. One for another architecture
//! takes a compiler for it, which need not be there: shell scripts are the guest's side then.

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

/// What becomes of other architectures than the program's own: `auto`, which is also meant if it is not
/// set, `required`, or `none`.
const FOREIGN: &str = "BOXBUILD_BOXINIT_FOREIGN";

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
    for variable in [WRAPPER, LINKER, FOREIGN] {
        println!("cargo::rerun-if-env-changed={variable}");
    }
    rerun_with_other_targets();
    let out = PathBuf::from(variable("OUT_DIR"));
    let nested = Nested {
        target_dir: target_dir(&out),
        cargo: variable("CARGO"),
    };
    // clippy runs nothing that it compiles, and checks boxinit as a member of the workspace.
    let is_clippy = env::var(WRAPPER).is_ok_and(|wrapper| wrapper.contains("clippy"));
    for arch in ARCHITECTURES {
        let embedded = out.join(format!("boxinit-{arch}"));
        let program = if is_clippy {
            None
        } else if arch == variable("CARGO_CFG_TARGET_ARCH")
            && variable("CARGO_CFG_TARGET_OS") == "linux"
        {
            Some(own(&nested))
        } else {
            foreign(&nested, arch)
        };
        match program {
            Some(program) => fs::copy(&program, &embedded).map(|_| ()),
            // Without boxinit, shell scripts are the guest's side.
            None => fs::write(&embedded, b""),
        }
        .expect("OUT_DIR can be written to");
    }
}

/// rustup notes in this file which targets the toolchain has.
fn rerun_with_other_targets() {
    let components = libraries(&variable("TARGET"))
        .and_then(|folder| Some(folder.parent()?.parent()?.join("components")));
    if let Some(components) = components.filter(|file| file.is_file()) {
        println!("cargo::rerun-if-changed={}", components.display());
    }
}

/// The program for the architecture that boxbuild is built for.
fn own(nested: &Nested) -> PathBuf {
    let target = Target {
        triple: variable("TARGET"),
        linker: env::var(LINKER).ok(),
    };
    nested.build(&target).unwrap_or_else(|| {
        panic!(
            "boxinit cannot be built. It is linked statically, which takes the C library's static \
             form: libc6-dev (Debian, Ubuntu), glibc-static (Fedora), glibc-devel-static (openSUSE)"
        )
    })
}

/// The program for another architecture, if there is a compiler for that.
fn foreign(nested: &Nested, arch: &str) -> Option<PathBuf> {
    let wanted = env::var(FOREIGN).unwrap_or_default();
    if wanted == "none" {
        return None;
    }
    let found = targets(arch)
        .into_iter()
        .filter(|target| libraries(&target.triple).is_some())
        .find_map(|target| nested.build(&target));
    assert!(
        found.is_some() || wanted != "required",
        "boxinit for {arch} cannot be built: rustup target add {arch}-unknown-linux-musl, or install a \
         cross compiler for C and Rust's library for {arch}-unknown-linux-gnu"
    );
    found
}

/// What a program is built for, and with.
struct Target {
    triple: String,
    /// Other than cargo's own choice.
    linker: Option<String>,
}

/// How a foreign program may be built, the best first: Rust comes with a linker and all of the C library
/// for musl, so that the program is the same wherever it is built. For glibc, both are a distribution's.
fn targets(arch: &str) -> [Target; 2] {
    let gnu = format!("{arch}-unknown-linux-gnu");
    let configured = format!("CARGO_TARGET_{}_LINKER", shouted(&gnu));
    let linker = match env::var(configured) {
        Ok(linker) => linker,
        Err(_) if variable("HOST").starts_with(arch) => String::from("cc"),
        Err(_) => format!("{arch}-linux-gnu-gcc"),
    };
    [
        Target {
            triple: format!("{arch}-unknown-linux-musl"),
            linker: Some(String::from("rust-lld")),
        },
        Target {
            triple: gnu,
            linker: Some(linker),
        },
    ]
}

/// The folder of Rust's standard library for a target, if that is installed.
fn libraries(triple: &str) -> Option<PathBuf> {
    let output = Command::new(variable("RUSTC"))
        .args(["--print", "target-libdir", "--target", triple])
        .output()
        .ok()?;
    let path = PathBuf::from(String::from_utf8(output.stdout).ok()?.trim_end());
    path.is_dir().then_some(path)
}

/// The folder of the nested build: beside the profiles in cargo's target directory, which has a tag
/// (bford.info/cachedir). In a layout without one, each profile has its own.
fn target_dir(out: &Path) -> PathBuf {
    out.ancestors()
        .find(|folder| folder.join("CACHEDIR.TAG").is_file())
        .unwrap_or(out)
        .join("boxinit-build")
}

/// Builds of boxinit.
struct Nested {
    target_dir: PathBuf,
    cargo: String,
}

impl Nested {
    /// The program for a target, if it can be built.
    fn build(&self, target: &Target) -> Option<PathBuf> {
        let mut command = Command::new(&self.cargo);
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
        if let Some(linker) = &target.linker {
            let variable = format!("CARGO_TARGET_{}_LINKER", shouted(&target.triple));
            command.env(variable, linker);
        }
        let status = command
            .env("CARGO_ENCODED_RUSTFLAGS", flags().join(SEPARATOR))
            .args(["build", "--quiet", "--locked", "--offline"])
            .args(["--bin", "boxinit", "--profile", PROFILE])
            .args(["--target", &target.triple])
            .arg("--manifest-path")
            .arg(Path::new(&variable("CARGO_MANIFEST_DIR")).join("boxinit/Cargo.toml"))
            .arg("--target-dir")
            .arg(&self.target_dir)
            .status()
            .expect("cargo can be run");
        let program = [&target.triple, PROFILE, "boxinit"]
            .iter()
            .collect::<PathBuf>();
        status.success().then(|| self.target_dir.join(program))
    }
}

/// A triple as it is written in the names of variables.
fn shouted(triple: &str) -> String {
    triple.replace(['-', '.'], "_").to_uppercase()
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
