//! The names of kiwi-ng's options (KIWI 11.1, `kiwi-ng --help`, `kiwi-ng system boxbuild --help`).

/// Options that kiwi-ng takes before `system`.
pub(super) const GLOBAL: &[&str] = &[
    "color-output",
    "config",
    "debug",
    "debug-run-scripts-in-screen",
    "kiwi-file",
    "logfile",
    "loglevel",
    "logsocket",
    "profile",
    "setenv",
    "shared-cache-dir",
    "target-arch",
    "temp-dir",
    "type",
];

/// Options of `kiwi-ng system boxbuild`.
pub(super) const BOXBUILD: &[&str] = &[
    "9p-sharing",
    "aarch64",
    "box",
    "box-console",
    "box-debug",
    "box-memory",
    "box-smp-cpus",
    "container",
    "cpu",
    "kiwi-version",
    "list-boxes",
    "machine",
    "no-accel",
    "no-snapshot",
    "no-update-check",
    "shared-path",
    "ssh-key",
    "ssh-port",
    "sshfs-sharing",
    "virtiofs-sharing",
    "x86_64",
];

/// Returns the options of kiwi-ng whose names begin with `name`: after `system boxbuild` those of this
/// command, if there are any.
pub(super) fn candidates(after_boxbuild: bool, name: &str) -> Vec<&'static str> {
    let named = |options: &[&'static str]| -> Vec<&'static str> {
        let found = options.iter().filter(|option| option.starts_with(name));
        found.copied().filter(|_| !name.is_empty()).collect()
    };
    let mut found = named(BOXBUILD);
    if !after_boxbuild || found.is_empty() {
        found.extend(named(GLOBAL));
    }
    found
}
