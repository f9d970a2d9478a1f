//! The commands on boxes, as typed.

use clap::Subcommand;

use crate::arch::Arch;
use crate::args::CreateArgs;

/// Commands on boxes.
#[derive(Debug, Subcommand)]
pub enum BoxCommand {
    /// Make a box from a distribution's own packages.
    Create(CreateArgs),
    /// List the boxes on this machine and the published ones.
    List {
        /// As JSON, for programs.
        #[arg(long)]
        json: bool,
    },
    /// Show everything known about a box.
    Info {
        /// Name of the box.
        name: String,
        /// Architecture of the box.
        #[arg(long, value_name = "ARCH")]
        arch: Option<Arch>,
    },
    /// Remove a box from this machine.
    Rm {
        /// Name of the box.
        name: String,
    },
}
