//! How a box is brought up.

use boxbuild_engine::podman::Mode;
use boxbuild_firmware::guest::Init;
use boxbuild_host::arch::Arch;

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

/// Why boxes of this architecture are booted without boxinit, if this boxbuild could have had that for
/// them.
pub fn boxinit_is_missing(arch: Arch) -> Option<String> {
    Init::left_out()
        .any(|left_out| left_out == arch.name())
        .then(|| {
            format!(
                "this boxbuild was built without boxinit for {arch} (rustup target add \
                 {arch}-unknown-linux-musl, and build it again; releases have it)"
            )
        })
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
