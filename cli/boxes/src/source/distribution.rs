//! Distributions that `box create` makes boxes from.

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
    /// Virtual size of the disk in bytes.
    pub disk_size: u64,
    /// Version of KIWI; [`KIWI_VERSION`] if `None`.
    pub kiwi_version: Option<String>,
}
