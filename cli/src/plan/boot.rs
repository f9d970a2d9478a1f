//! How a box is brought up.

use boxbuild_firmware::guest::Init;

use super::PlanError;
use crate::store::{BoxInfo, Guest};

/// How a box is brought up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Boot {
    /// boxbuild's own init in the box's initrd; the box's init system never runs.
    Fast,
    /// The box's own init system and guest script, driven by the kernel command line.
    Compat,
}

/// What `--boot` leaves open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BootChoice {
    /// Only this way.
    Only(Boot),
    /// Fast, and compat where that does not work.
    FastFirst,
}

impl BootChoice {
    /// What `--boot STYLE` means for this box.
    ///
    /// # Errors
    /// If it does not go together with the box.
    pub fn new(style: &str, info: &BoxInfo) -> Result<BootChoice, PlanError> {
        // Boxes without a program for their architecture need shell scripts and what these need.
        let possible = Init::of(info.arch.name()) == Init::Program || info.guest == Guest::Fast;
        match style {
            "auto" if possible => Ok(BootChoice::FastFirst),
            "auto" | "compat" => Ok(BootChoice::Only(Boot::Compat)),
            "fast" if possible => Ok(BootChoice::Only(Boot::Fast)),
            "fast" => Err(PlanError::Option(format!(
                "--boot fast: the box {} for {} can only be booted by its own init on this host: \
                 use --boot compat",
                info.name, info.arch
            ))),
            other => Err(PlanError::Option(format!(
                "--boot {other}: no such boot style (known: auto, fast, compat)"
            ))),
        }
    }

    /// What is tried first.
    pub fn first(self) -> Boot {
        match self {
            BootChoice::Only(boot) => boot,
            BootChoice::FastFirst => Boot::Fast,
        }
    }
}
