//! Which package may depend on which.

use cargo_metadata::{DependencyKind, Metadata};

use crate::table::{Exception, Layer};

/// A dependency between two packages of the workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dependency {
    /// The package that depends.
    pub from: String,
    /// The package it depends on.
    pub to: String,
    /// Whether it stands under `[dev-dependencies]`.
    pub dev: bool,
}

/// The packages of a workspace and their dependencies on each other.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Packages {
    /// Their names.
    pub names: Vec<String>,
    /// Each `[dependencies]`, `[build-dependencies]` and `[dev-dependencies]` line that names one
    /// of them.
    pub dependencies: Vec<Dependency>,
}

impl Packages {
    /// Reads the members of the workspace; crates of a registry are left out.
    pub fn of(metadata: &Metadata) -> Self {
        let members = metadata.workspace_packages();
        let mut packages = Self::default();
        for package in &members {
            packages.names.push(package.name.to_string());
            for dependency in &package.dependencies {
                if members.iter().any(|member| *member.name == dependency.name) {
                    packages.dependencies.push(Dependency {
                        from: package.name.to_string(),
                        to: dependency.name.clone(),
                        dev: dependency.kind == DependencyKind::Development,
                    });
                }
            }
        }
        packages
    }

    /// Returns one message for each dependency that does not point downward, each package that has
    /// no place in `layers`, and each line of the table that nothing needs any more.
    pub fn check(&self, layers: &[Layer], exceptions: &[Exception]) -> Vec<String> {
        let mut found = Vec::new();
        for name in &self.names {
            if place(layers, name).is_none() {
                found.push(format!(
                    "package {name} has no layer: enter it in tests/layers/src/table.rs, in the lowest \
                     row that has all it depends on above it"
                ));
            }
        }
        for name in layers.iter().flat_map(|layer| layer.packages) {
            if !self.names.iter().any(|known| known == name) {
                found.push(format!(
                    "tests/layers/src/table.rs has a package {name}, the workspace has none"
                ));
            }
        }
        let excepted = |dependency: &Dependency| {
            dependency.dev
                && exceptions
                    .iter()
                    .any(|e| e.from == dependency.from && e.to == dependency.to)
        };
        for dependency in self
            .dependencies
            .iter()
            .filter(|dependency| !excepted(dependency))
        {
            let Dependency { from, to, .. } = dependency;
            let (Some(lower), Some(upper)) = (place(layers, to), place(layers, from)) else {
                continue;
            };
            if lower >= upper {
                let kind = if dependency.dev {
                    "dev-depends"
                } else {
                    "depends"
                };
                found.push(format!(
                    "{from} (layer \"{}\") {kind} on {to} (layer \"{}\"), which is not below it",
                    layers[upper].name, layers[lower].name
                ));
            }
        }
        for Exception { from, to, .. } in exceptions {
            if !self
                .dependencies
                .iter()
                .any(|d| d.dev && d.from == *from && d.to == *to)
            {
                found.push(format!(
                    "tests/layers/src/table.rs excepts {from} → {to}, which is no dev-dependency"
                ));
            }
        }
        found
    }
}

/// Returns the row of a package, counted from the bottom.
fn place(layers: &[Layer], package: &str) -> Option<usize> {
    layers
        .iter()
        .position(|layer| layer.packages.contains(&package))
}
