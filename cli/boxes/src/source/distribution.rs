//! Distributions that `box create` makes boxes from.

use std::path::PathBuf;

use boxbuild_host::arch::Arch;

use super::box_source::BoxSource;
use super::error::SourceError;

/// The version of KIWI that boxes get by default.
pub const KIWI_VERSION: &str = "11.1.6";

/// A distribution that boxes can be made from.
#[derive(Debug, Clone, Copy)]
pub struct Distribution {
    /// Its name in `--from NAME:RELEASE`.
    pub name: &'static str,
    /// The releases that boxes can be made from, the oldest first.
    pub releases: &'static [&'static str],
    /// Creates the source of a box of one of its releases.
    pub source: fn(&CreateOptions) -> Result<Box<dyn BoxSource>, SourceError>,
}

/// Checks that `name` can be the name of a package (Debian policy 5.6.1), and is nothing else for apt.
///
/// # Errors
/// Fails with the reason.
pub fn check_package(name: &str) -> Result<(), String> {
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let is_name = name.len() > 1
        && name.len() <= 200
        && name.starts_with(good)
        && !name.ends_with('-')
        && name.chars().all(|c| good(c) || "+-.".contains(c));
    if is_name {
        return Ok(());
    }
    let hint = if name.contains([',', ' ']) {
        ": the option is repeated for each package"
    } else {
        ""
    };
    Err(format!("it is no name of a package{hint}"))
}

/// Options of a box that is made from a distribution's packages.
#[derive(Debug, Clone)]
pub struct CreateOptions {
    /// Name of the new box, without the architecture.
    pub name: String,
    /// Distribution and release, e.g. `debian:trixie`.
    pub from: String,
    /// Architecture of the box.
    pub arch: Arch,
    /// Address of the package mirror; the host's own one if `None`.
    pub mirror: Option<String>,
    /// File with public keys of the packages; that of the distribution's package if `None`.
    pub keyring: Option<PathBuf>,
    /// Virtual size of the disk in bytes.
    pub disk_size: u64,
    /// Version of KIWI; [`KIWI_VERSION`] if `None`.
    pub kiwi_version: Option<String>,
    /// More packages for the box, each a name that [`check_package`] accepts.
    pub with: Vec<String>,
}
