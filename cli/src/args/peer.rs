//! Options of `kiwi-ng system boxbuild` that have another meaning here, or none.
//!
//! They are accepted so that existing scripts run. One without effect is reported with a note.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;

use boxbuild_host::arch::Arch;

use super::values;

/// Options of `kiwi-ng system boxbuild` that have another meaning here, or none.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Options of kiwi-ng system boxbuild")]
pub(crate) struct PeerOptions {
    /// List the boxes as kiwi-ng does, in YAML (see 'boxbuild box list').
    #[arg(long)]
    pub(crate) list_boxes: bool,
    /// Console of the box, instead of its own choice.
    #[arg(long, value_name = "TTY")]
    pub(crate) box_console: Option<String>,
    /// Share this folder, too: writable, at the same path in the box.
    #[arg(long, value_name = "DIR")]
    pub(crate) shared_path: Option<PathBuf>,
    /// Install this version of KIWI in the box before the build (published boxes only).
    #[arg(long, value_name = "VERSION")]
    pub(crate) kiwi_version: Option<String>,
    /// Same as --arch x86_64.
    #[arg(long = "x86_64")]
    pub(crate) x86_64: bool,
    /// Same as --arch aarch64.
    #[arg(long)]
    pub(crate) aarch64: bool,
    /// Accepted without effect: folders are shared over virtio-fs.
    #[arg(long = "9p-sharing")]
    pub(crate) p9_sharing: bool,
    /// Accepted; this is how folders are shared.
    #[arg(long)]
    pub(crate) virtiofs_sharing: bool,
    /// Accepted without effect: folders are shared over virtio-fs.
    #[arg(long)]
    pub(crate) sshfs_sharing: bool,
    /// With --ssh-port: the public key for logging in; a file, or a name in ~/.ssh [default: your
    /// own key there].
    #[arg(long, value_name = "FILE")]
    pub(crate) ssh_key: Option<OsString>,
    /// Forward this port of 127.0.0.1 to the sshd of the box while it runs, for root with a key; 0
    /// means any free port. Without this option, no port of this host leads into a box.
    #[arg(long, value_name = "PORT", value_parser = values::number(0..=u16::MAX))]
    pub(crate) ssh_port: Option<u16>,
}

impl PeerOptions {
    /// Returns the architecture that a flag names; of both, the one that counts in kiwi-ng.
    pub(crate) fn arch(&self) -> Option<Arch> {
        match (self.x86_64, self.aarch64) {
            (true, _) => Some(Arch::X86_64),
            (_, true) => Some(Arch::Aarch64),
            _ => None,
        }
    }

    /// Returns notes on options without effect, for the user.
    pub(crate) fn notes(&self) -> Vec<String> {
        [
            ("--9p-sharing", self.p9_sharing),
            ("--sshfs-sharing", self.sshfs_sharing),
        ]
        .into_iter()
        .map(|(option, given)| {
            let text = "folders are shared over virtio-fs, which needs nothing on the host";
            (option, given, text)
        })
        .chain([(
            "--ssh-key",
            self.ssh_key.is_some() && self.ssh_port.is_none(),
            "has no effect without --ssh-port: no port of this host leads into the box, and folders \
             are shared without ssh",
        )])
        .chain([(
            "--aarch64",
            self.x86_64 && self.aarch64,
            "has no effect with --x86_64, as in kiwi-ng",
        )])
        .filter(|(_, given, _)| *given)
        .map(|(option, _, text)| format!("{option}: {text}"))
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_option_without_effect_says_so() {
        let options = PeerOptions {
            p9_sharing: true,
            ssh_key: Some("id_rsa".into()),
            ..PeerOptions::default()
        };
        let notes = options.notes();
        assert_eq!(notes.len(), 2);
        assert!(notes[0].starts_with("--9p-sharing: ") && notes[0].contains("virtio-fs"));
        assert!(notes[1].starts_with("--ssh-key: "));
        assert!(PeerOptions::default().notes().is_empty());
    }
}
