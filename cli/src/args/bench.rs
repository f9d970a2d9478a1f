//! Options of `boxbuild bench`.

use std::time::Duration;

use boxbuild_engine::EngineChoice;
use clap::Args;

use super::values::{self, parse_positive_duration};

/// Options of `boxbuild bench`.
#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    /// Box to boot [default: the first one that is installed].
    // Not --box: that option is required for a build.
    #[arg(long = "boot-box", value_name = "NAME")]
    pub(crate) boot_box: Option<String>,
    /// Engine that boots it; auto means kvm if it works on this host, else qemu.
    #[arg(long = "boot-engine", value_name = "ENGINE", default_value = "auto",
        value_parser = values::engine())]
    pub(crate) boot_engine: EngineChoice,
    /// Print the figures as JSON.
    #[arg(long)]
    pub(crate) json: bool,
    /// Time for each measurement of share, disk and network.
    #[arg(long, value_name = "TIME", default_value = "3s", value_parser = parse_positive_duration)]
    pub(crate) time: Duration,
}
