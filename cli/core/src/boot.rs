//! How a box is brought up.

use boxbuild_engine::podman::Mode;

/// How a box is brought up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Boot {
    /// boxbuild's own init in the box's initrd; the box's init system never runs.
    Fast,
    /// The box's own init system and guest script, driven by the kernel command line.
    Compat,
}

/// How a box is to be brought up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum BootStyle {
    /// Fast, and by its own init where that does not work.
    #[default]
    Auto,
    /// Only by boxbuild's init.
    Fast,
    /// Only by its own init.
    Compat,
}

impl BootStyle {
    /// All of them, with the names users select them by.
    pub const ALL: [(&str, BootStyle); 3] = [
        ("auto", BootStyle::Auto),
        ("fast", BootStyle::Fast),
        ("compat", BootStyle::Compat),
    ];
}

/// What a box runs as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunsAs {
    /// A virtual machine, brought up like this.
    Machine(Boot),
    /// A container.
    Container(Mode),
}

impl RunsAs {
    /// Whether it is a container.
    pub fn is_container(self) -> bool {
        matches!(self, RunsAs::Container(_))
    }
}
