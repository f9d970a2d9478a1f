//! A guest's root tree, by mmdebstrap.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::Result;
use boxbuild_tests::command::{command, logged, output};
use boxbuild_tests::debian::{self, KEYRING};

use super::owner::{Folder, Owner};
use super::spec::{Fs, Initrd, Options};

/// Makes `root.tar`, the guest's root tree.
pub(super) fn bootstrap(options: &Options, owner: Owner, work: &Path) -> Result<()> {
    let suite = options.suite.name();
    // Subordinate ids must reach mmdebstrap's own tree, so it cannot be below a home folder.
    let scratch = Folder::new(owner, "boxbuild-guest.", Path::new("/var/tmp"))?;
    fs::set_permissions(&scratch.path, fs::Permissions::from_mode(0o711))?;
    let mode = match owner {
        Owner::Root => "root",
        Owner::Namespace => "unshare",
    };
    let mut mmdebstrap = command("mmdebstrap");
    mmdebstrap
        .env("TMPDIR", &scratch.path)
        .arg(format!("--mode={mode}"))
        .args(["--variant=minbase", "--format=tar", "--architectures=amd64"])
        .arg(format!("--include={}", packages(options).join(",")));
    for option in [
        "Apt::Install-Recommends \"false\"",
        "Acquire::Retries \"3\"",
        "Acquire::Languages \"none\"",
    ] {
        mmdebstrap.arg(format!("--aptopt={option}"));
    }
    for option in proxies()? {
        mmdebstrap.arg(format!("--aptopt={option}"));
    }
    mmdebstrap.arg("--dpkgopt=force-unsafe-io");
    for path in ["man", "locale", "doc"] {
        mmdebstrap.arg(format!("--dpkgopt=path-exclude=/usr/share/{path}/*"));
    }
    for (when, hook) in hooks(&options.fs.device()) {
        mmdebstrap.arg(format!("--{when}-hook={hook}"));
    }
    mmdebstrap
        .arg(suite)
        .arg(work.join("root.tar"))
        .arg(format!(
            "deb [signed-by={KEYRING}] {} {suite} main",
            debian::mirror()?
        ));
    logged(&mut mmdebstrap, &work.join("log"))
}

fn packages(options: &Options) -> Vec<String> {
    let mut packages: Vec<String> =
        "systemd systemd-sysv systemd-resolved udev dbus kmod login iproute2"
            .split(' ')
            .map(str::to_owned)
            .collect();
    packages.push(format!("linux-image-{}", options.flavour.name()));
    packages.push(options.initrd.package().to_owned());
    // Initrds need zstd, dracut's module for a root on btrfs the tool.
    packages.push(String::from("zstd"));
    if options.fs == Fs::Btrfs {
        packages.push(String::from("btrfs-progs"));
    }
    if options.initrd == Initrd::Dracut {
        packages.push(String::from("dracut-network"));
    }
    packages
}

/// The host's proxies and certificates, as apt's options.
fn proxies() -> Result<Vec<String>> {
    let text = output(command("apt-config").arg("dump"))?;
    let wanted = |line: &&str| {
        let Some(rest) = line
            .strip_prefix("Acquire::http::")
            .or_else(|| line.strip_prefix("Acquire::https::"))
        else {
            return false;
        };
        let named = ["Proxy", "CaInfo"].iter().any(|name| {
            rest.strip_prefix(name)
                .is_some_and(|rest| rest.starts_with([':', ' ']))
        });
        named && !rest.contains("\"\"")
    };
    Ok(text.lines().filter(wanted).map(str::to_owned).collect())
}

/// Hooks of mmdebstrap: shell commands that get the root tree as their argument.
fn hooks(device: &str) -> Vec<(&'static str, String)> {
    let files = guest_files().display().to_string();
    let customize = |hook: &str| ("customize", hook.to_owned());
    vec![
        ("essential", format!("copy-in {files}/etc /")),
        (
            "essential",
            format!("echo '{device} / auto defaults 0 0' >\"$1/etc/fstab\""),
        ),
        customize(&format!("copy-in {files}/usr {files}/etc /")),
        customize(
            "chroot \"$1\" systemctl --quiet enable systemd-networkd systemd-resolved kiwi.service",
        ),
        customize("chroot \"$1\" passwd -qd root"),
        customize("ln -sf /run/systemd/resolve/stub-resolv.conf \"$1/etc/resolv.conf\""),
        customize(
            "rm -rf \"$1\"/var/lib/apt/lists/* \"$1\"/var/cache/apt/* \"$1\"/usr/share/i18n \
             \"$1\"/usr/share/zoneinfo",
        ),
    ]
}

/// What is in the guest besides packages.
pub(super) fn guest_files() -> PathBuf {
    debian::tests_folder().join("lab/guest-files")
}
