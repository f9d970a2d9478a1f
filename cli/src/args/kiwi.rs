//! The global options of kiwi-ng (KIWI 11.1, `kiwi-ng --help`).
//!
//! They are forwarded to the kiwi-ng in the box, except those that name something of this host:
//! these are carried out here, or refused.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use boxbuild_core::request::KiwiOptions;
use boxbuild_host::arch::Arch;
use clap::Args;
use clap::builder::{OsStringValueParser, TypedValueParser};

/// An architecture that KIWI builds for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TargetArch {
    /// As KIWI calls it.
    name: OsString,
    /// That of a box whose processor runs its programs.
    pub(crate) of_box: Arch,
}

/// Options that kiwi-ng takes before `system`.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "KIWI options")]
pub(crate) struct GlobalOptions {
    /// Select a profile of the description (repeatable).
    #[arg(long, value_name = "NAME")]
    pub(crate) profile: Vec<OsString>,
    /// Select the image type.
    #[arg(long = "type", value_name = "TYPE")]
    pub(crate) image_type: Option<OsString>,
    /// Name of the description file in the --description folder.
    #[arg(long, value_name = "FILE")]
    pub(crate) kiwi_file: Option<OsString>,
    /// Set a variable for KIWI and its scripts (repeatable).
    #[arg(long, value_name = "NAME=VALUE", value_parser = OsStringValueParser::new().try_map(variable))]
    pub(crate) setenv: Vec<OsString>,
    /// Runtime configuration of KIWI: a file of the host, which is copied into the box, or of the box, such
    /// as /description/kiwi.yml.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Log level of KIWI: 10 debug, 20 info, 30 warning, 40 error, 50 critical.
    #[arg(long, value_name = "LEVEL", value_parser = log_level)]
    pub(crate) loglevel: Option<OsString>,
    /// Copy the log of KIWI to this file of the host after the build; --logfile stdout prints it on
    /// standard output while it grows.
    #[arg(long, value_name = "FILE")]
    pub(crate) logfile: Option<PathBuf>,
    /// Send the log of KIWI to this Unix socket of the host while it grows.
    #[arg(long, value_name = "SOCKET")]
    pub(crate) logsocket: Option<PathBuf>,
    /// Let KIWI log debug messages.
    #[arg(long)]
    pub(crate) debug: bool,
    /// Accepted without effect: scripts in the box have no terminal.
    #[arg(long, hide = true)]
    pub(crate) debug_run_scripts_in_screen: bool,
    /// Let KIWI colour its log.
    #[arg(long)]
    pub(crate) color_output: bool,
    /// Architecture to build for: selects the box of this architecture, as --arch does.
    #[arg(long, value_name = "ARCH", value_parser = target_arch)]
    pub(crate) target_arch: Option<TargetArch>,
    /// Folder for temporary files of KIWI; made in the box, with nothing of the host's in it.
    #[arg(long, value_name = "DIR")]
    pub(crate) temp_dir: Option<PathBuf>,
    /// Folder for the package cache of KIWI: one of the host keeps packages for later builds; one that is
    /// not there is made in the box.
    #[arg(long, value_name = "DIR")]
    pub(crate) shared_cache_dir: Option<PathBuf>,
}

impl GlobalOptions {
    /// Leaves out empty values: kiwi-ng asks whether there is a text, not whether there is an option.
    pub(crate) fn drop_empty(&mut self) {
        let text = |word: &OsString| !word.is_empty();
        let path = |path: &PathBuf| !path.as_os_str().is_empty();
        self.profile.retain(text);
        self.setenv.retain(text);
        self.image_type = self.image_type.take().filter(text);
        self.kiwi_file = self.kiwi_file.take().filter(text);
        self.config = self.config.take().filter(path);
    }

    /// Returns what a request has of these options.
    pub(crate) fn request(&self) -> KiwiOptions {
        KiwiOptions {
            forwarded: self.forwarded(),
            config: self.config.clone(),
            temp_dir: self.temp_dir.clone(),
            shared_cache_dir: self.shared_cache_dir.clone(),
            profiles: self.profile.clone(),
            image_type: self.image_type().map(OsStr::to_owned),
            description_file: self.kiwi_file.clone().map(PathBuf::from),
            copy_log_to: self.copy_log_to().map(Path::to_owned),
        }
    }

    /// Returns the words for the kiwi-ng in the box.
    pub(super) fn forwarded(&self) -> Vec<OsString> {
        let mut words: Vec<OsString> = Vec::new();
        let mut option = |name: &str, value: &OsStr| {
            words.push(name.into());
            words.push(value.to_owned());
        };
        for profile in &self.profile {
            option("--profile", profile);
        }
        for variable in &self.setenv {
            option("--setenv", variable);
        }
        for (name, value) in [
            ("--type", self.image_type()),
            ("--kiwi-file", self.kiwi_file.as_deref()),
            ("--loglevel", self.loglevel.as_deref()),
            (
                "--target-arch",
                self.target_arch.as_ref().map(|arch| &*arch.name),
            ),
        ] {
            if let Some(value) = value {
                option(name, value);
            }
        }
        for (name, given) in [
            ("--debug", self.debug),
            ("--color-output", self.color_output),
        ] {
            if given {
                words.push(name.into());
            }
        }
        words
    }

    /// Returns the image type. `vmx` is the old name of `oem` (dropped by KIWI 9.17).
    fn image_type(&self) -> Option<&OsStr> {
        self.image_type
            .as_deref()
            .map(|name| if name == "vmx" { "oem".as_ref() } else { name })
    }

    /// Returns where a copy of the log goes.
    fn copy_log_to(&self) -> Option<&Path> {
        self.logfile
            .as_deref()
            .filter(|path| *path != Path::new("stdout"))
    }

    /// Returns whether the log is shown live.
    pub(crate) fn log_to_stdout(&self) -> bool {
        self.logfile.as_deref() == Some(Path::new("stdout"))
    }

    /// Returns the socket that the log is sent to, if there is one.
    pub(crate) fn log_socket(&self) -> Option<&Path> {
        let path = self.logsocket.as_deref()?;
        let kind = std::fs::metadata(path).ok()?.file_type();
        kind.is_socket().then_some(path)
    }

    /// Returns what the user should know about these options.
    pub(crate) fn notes(&self) -> Vec<String> {
        let mut notes: Vec<String> = self
            .setenv
            .iter()
            .map(|word| word.to_string_lossy())
            .filter(|word| !word.contains('='))
            .map(|word| format!("--setenv {word}: has no value: kiwi sets it to None (NAME=VALUE)"))
            .collect();
        if let Some(path) = &self.logsocket
            && self.log_socket().is_none()
        {
            notes.push(format!(
                "--logsocket {}: is not a socket: the log is not sent there",
                path.display()
            ));
        }
        let screen = self.debug_run_scripts_in_screen.then(|| {
            String::from(
                "--debug-run-scripts-in-screen: no effect: scripts in the box have no terminal; \
                 --debug --verbose shows what they write, --box-debug opens a shell after the build",
            )
        });
        notes.extend(screen);
        notes
    }
}

/// Checks a variable: Python fails on one without a name.
fn variable(word: OsString) -> Result<OsString, &'static str> {
    if word.as_bytes().starts_with(b"=") {
        return Err("it has no name: NAME=VALUE is expected");
    }
    Ok(word)
}

/// Parses a level of Python's `logging`, which kiwi expects: any integer.
fn log_level(text: &str) -> Result<OsString, String> {
    match text.trim().parse::<i64>() {
        Ok(level) => Ok(level.to_string().into()),
        Err(_) => Err(String::from(
            "expected a number: 10 debug, 20 info, 30 warning, 40 error",
        )),
    }
}

/// Parses the name of an architecture; those of 32 bits are built in a box of 64 bits.
fn target_arch(text: &str) -> Result<TargetArch, String> {
    let of_box = match text {
        "i386" | "i486" | "i586" | "i686" | "ix86" => Ok(Arch::X86_64),
        "armv6l" | "armv6hl" | "armv7l" | "armv7hl" | "armhf" => Ok(Arch::Aarch64),
        _ => text.parse::<Arch>().map_err(|error| error.to_string()),
    }?;
    // Debian's names are not KIWI's.
    let name = if text == of_box.debian_name() {
        of_box.name()
    } else {
        text
    };
    Ok(TargetArch {
        name: name.into(),
        of_box,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_old_name_of_a_type_is_translated() {
        let options = GlobalOptions {
            image_type: Some("vmx".into()),
            ..GlobalOptions::default()
        };
        assert_eq!(options.forwarded(), ["--type", "oem"]);
    }

    #[test]
    fn what_only_the_host_has_is_not_forwarded() {
        let to_file = GlobalOptions {
            logfile: Some("/tmp/log".into()),
            ..GlobalOptions::default()
        };
        assert_eq!(to_file.forwarded(), [] as [&str; 0]);
        assert_eq!(to_file.copy_log_to(), Some(Path::new("/tmp/log")));
        assert!(!to_file.log_to_stdout());
        let to_stdout = GlobalOptions {
            logfile: Some("stdout".into()),
            ..GlobalOptions::default()
        };
        assert_eq!(to_stdout.copy_log_to(), None);
        assert!(to_stdout.log_to_stdout());
    }

    #[test]
    fn log_levels() {
        for (text, level) in [("10", "10"), ("60", "60"), ("-5", "-5"), ("+20", "20")] {
            assert_eq!(log_level(text).unwrap(), level);
        }
        for bad in ["debug", "", "1.5"] {
            assert!(log_level(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_architecture_to_build_for_has_a_box() {
        let all = Arch::ALL.map(|arch| {
            let names = [arch.name(), arch.debian_name()];
            names.map(|text| (text, arch.name(), arch))
        });
        let of_32_bits = [
            ("i686", "i686", Arch::X86_64),
            ("armv7l", "armv7l", Arch::Aarch64),
        ];
        for (text, name, of_box) in all.into_iter().flatten().chain(of_32_bits) {
            let arch = target_arch(text).unwrap();
            assert_eq!((arch.name.to_str(), arch.of_box), (Some(name), of_box));
        }
        assert!(
            target_arch("riscv64")
                .unwrap_err()
                .contains("known: x86_64")
        );
    }
}
