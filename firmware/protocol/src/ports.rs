//! Names of the virtio-console ports (virtio 1.2, section 5.3.6.2, `VIRTIO_CONSOLE_PORT_NAME`).

/// Carries [reports](crate::report) to the host and [messages](crate::host_message) to the guest.
pub const CONTROL: &str = "org.boxbuild.control";

/// Carries [frames](crate::xz) both ways. A machine that has it has a host that compresses.
pub const XZ: &str = "org.boxbuild.xz";
