//! The layer check, a step of `make lint`. Exit code 1: something points the wrong way.

#![allow(
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "a program for the terminal"
)]

use std::collections::BTreeSet;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use boxbuild_layers::circles::Arrows;
use boxbuild_layers::modules::Tree;
use boxbuild_layers::packages::Packages;
use boxbuild_layers::table::{EXCEPTIONS, LAYERS};
use cargo_metadata::{MetadataCommand, TargetKind};

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("layers: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<bool> {
    let metadata = MetadataCommand::new().no_deps().exec()?;
    let root = metadata.workspace_root.as_std_path();
    let packages = Packages::of(&metadata);
    let upward = packages.check(LAYERS, EXCEPTIONS);
    for message in &upward {
        eprintln!("layers: {message}");
    }

    let shipped = |name: &str| {
        LAYERS
            .iter()
            .any(|l| l.shipped && l.packages.contains(&name))
    };
    let (mut files, mut circles) = (0, 0);
    for package in metadata.workspace_packages() {
        if !shipped(&package.name) {
            continue;
        }
        let mut read = BTreeSet::new();
        for target in &package.targets {
            if target
                .kind
                .iter()
                .any(|kind| matches!(kind, TargetKind::Lib | TargetKind::Bin))
            {
                let tree = Tree::read(Path::new(&target.src_path))?;
                for circle in Arrows::of(&tree).circles(root) {
                    circles += 1;
                    eprintln!("layers: {}: {circle}", package.name);
                }
                read.extend(tree.files);
            }
        }
        files += read.len();
    }
    println!(
        "layers: {} packages, {} upward; {files} files, {circles} circles",
        packages.names.len(),
        upward.len(),
    );
    Ok(upward.is_empty() && circles == 0)
}
