//! How a box may be brought up.

use boxbuild_firmware::guest::Init;

use super::error::PlanError;
use crate::boot::{Boot, BootStyle, boxinit_is_missing};
use boxbuild_boxes::store::{BoxInfo, Guest};

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
    /// Fails if the box cannot be booted like that.
    pub fn new(style: BootStyle, info: &BoxInfo) -> Result<BootChoice, PlanError> {
        // Without boxinit for the architecture, a box needs what the shell scripts need.
        let possible = Init::of(info.arch.name()).is_program() || info.guest == Guest::Fast;
        match style {
            BootStyle::Auto if possible => Ok(BootChoice::FastFirst),
            BootStyle::Auto | BootStyle::Compat => Ok(BootChoice::Only(Boot::Compat)),
            BootStyle::Fast if possible => Ok(BootChoice::Only(Boot::Fast)),
            BootStyle::Fast => Err(PlanError::Option(format!(
                "--boot fast: the box {} for {} can only be booted by its own init on this host\
                 {}: use --boot compat",
                info.name,
                info.arch,
                boxinit_is_missing(info.arch)
                    .map_or_else(String::new, |why| format!(", because {why}"))
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
