//! Environments of processes.

use std::ffi::OsString;

/// Names and values. Of several values of a variable, the last one counts.
pub(super) type Environment = Vec<(OsString, OsString)>;

/// The environment of everything that runs in the box.
pub(super) fn base() -> Environment {
    [
        (
            "PATH",
            "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        ),
        ("HOME", "/root"),
        ("LANG", "C.UTF-8"),
    ]
    .map(|(name, value)| (name.into(), value.into()))
    .into()
}
