//! Options of `boxbuild bench`.

use std::time::Duration;

use boxbuild_engine::EngineChoice;
use clap::Args;

use super::values::{self, parse_duration};

/// Options of `bench`.
#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    /// Box to boot [default: the first that is installed].
    // Not as the build's option: that one is required.
    #[arg(long = "boot-box", value_name = "NAME")]
    pub(crate) boot_box: Option<String>,
    /// What boots it; auto takes kvm if it works here, else qemu.
    #[arg(long = "boot-engine", value_name = "ENGINE", default_value = "auto",
        value_parser = values::engine())]
    pub(crate) boot_engine: EngineChoice,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
    /// Time for each figure of share, disk and network.
    #[arg(long, value_name = "TIME", default_value = "3s", value_parser = parse_duration)]
    pub(crate) time: Duration,
}
