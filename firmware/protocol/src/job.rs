//! The job: what the host asks boxbuild's init to do.
//!
//! The file is a sequence of fields that end with a NUL each: the name of an entry, then as many
//! values as that entry has. A value is any bytes but NUL, which no argument, path or variable can
//! hold.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use crate::share::{Access, SharedFolder};

/// A job. [`Job::encode`] and [`Job::decode`] are each other's inverse.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Job {
    /// Words after `kiwi-ng`, up to `--description`.
    pub args: Vec<OsString>,
    /// Words after `kiwi-ng` of `system create`, up to `--target-dir`, if the build goes on after
    /// kiwi's `prepare`. The disk has the root tree then.
    pub create: Vec<OsString>,
    /// Packages to install in the box first.
    pub box_packages: Vec<OsString>,
    /// Environment of kiwi: names and values.
    pub environment: Vec<(OsString, OsString)>,
    /// Shared folders besides the description and the bundle.
    pub folders: Vec<SharedFolder>,
    /// Absolute paths of the files to write before the build. Their contents are the files
    /// [`INITRD_FILES`](crate::paths::INITRD_FILES)`/INDEX`.
    pub files: Vec<PathBuf>,
    /// Absolute paths of the folders to make before the build.
    pub made: Vec<PathBuf>,
    /// The machine has a network interface.
    pub network: bool,
    /// The host wants to know where the packages came from ([`OBSERVED`](crate::paths::OBSERVED)).
    pub observe: bool,
    /// Version of kiwi to install first.
    pub kiwi_version: Option<OsString>,
    /// Who may log in as root while the box runs: a line of an `authorized_keys` file.
    pub ssh_key: Option<OsString>,
    /// The host's time when the job was made, in seconds since the epoch; 0 if unknown.
    pub time: u64,
    /// The guest's clock stands still at `time`.
    pub hold_clock: bool,
    /// Entropy for the kernel: random hexadecimal digits.
    pub seed: OsString,
}

/// A file that is not a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Malformed(String);

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the job cannot be read: {}", self.0)
    }
}

impl std::error::Error for Malformed {}

impl Job {
    /// The file's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let mut entry = |name: &str, values: &[&OsStr]| {
            for field in [OsStr::new(name)].iter().chain(values) {
                out.extend_from_slice(field.as_bytes());
                out.push(0);
            }
        };
        for arg in &self.args {
            entry("arg", &[arg]);
        }
        for arg in &self.create {
            entry("create", &[arg]);
        }
        for package in &self.box_packages {
            entry("box-package", &[package]);
        }
        for (name, value) in &self.environment {
            entry("env", &[name, value]);
        }
        for folder in &self.folders {
            let option = folder.access.mount_option();
            entry(
                "folder",
                &[
                    OsStr::new(&folder.tag),
                    OsStr::new(option),
                    folder.path.as_os_str(),
                ],
            );
        }
        for path in &self.files {
            entry("file", &[path.as_os_str()]);
        }
        for path in &self.made {
            entry("make", &[path.as_os_str()]);
        }
        if self.network {
            entry("network", &[]);
        }
        if self.observe {
            entry("observe", &[]);
        }
        if let Some(version) = &self.kiwi_version {
            entry("kiwi-version", &[version]);
        }
        if let Some(key) = &self.ssh_key {
            entry("ssh-key", &[key]);
        }
        entry("time", &[OsStr::new(&self.time.to_string())]);
        if self.hold_clock {
            entry("hold-clock", &[]);
        }
        entry("seed", &[&self.seed]);
        out
    }

    /// Reads a file.
    ///
    /// # Errors
    /// If it ends within an entry, or has an entry that this version does not know.
    pub fn decode(bytes: &[u8]) -> Result<Job, Malformed> {
        let mut fields = bytes
            .split_inclusive(|byte| *byte == 0)
            .map(|field| field.strip_suffix(b"\0"));
        let mut next = || match fields.next() {
            None => Ok(None),
            Some(Some(field)) => Ok(Some(OsString::from_vec(field.to_vec()))),
            Some(None) => Err(Malformed(String::from("it ends in the middle of a field"))),
        };
        let mut job = Job::default();
        while let Some(name) = next()? {
            let mut value =
                || next()?.ok_or_else(|| Malformed(String::from("it ends after a name")));
            match name.to_str() {
                Some("arg") => job.args.push(value()?),
                Some("create") => job.create.push(value()?),
                Some("box-package") => job.box_packages.push(value()?),
                Some("env") => job.environment.push((value()?, value()?)),
                Some("folder") => {
                    let (tag, option) = (value()?, value()?);
                    job.folders.push(SharedFolder {
                        tag: tag
                            .into_string()
                            .map_err(|tag| Malformed(format!("the tag {tag:?}")))?,
                        access: match option.to_str() {
                            Some("ro") => Access::ReadOnly,
                            Some("rw") => Access::ReadWrite,
                            _ => return Err(Malformed(format!("the mount option {option:?}"))),
                        },
                        path: value()?.into(),
                    });
                }
                Some("file") => job.files.push(value()?.into()),
                Some("make") => job.made.push(value()?.into()),
                Some("network") => job.network = true,
                Some("observe") => job.observe = true,
                Some("kiwi-version") => job.kiwi_version = Some(value()?),
                Some("ssh-key") => job.ssh_key = Some(value()?),
                Some("hold-clock") => job.hold_clock = true,
                Some("time") => {
                    let text = value()?;
                    let time = text.to_str().and_then(|text| text.parse().ok());
                    job.time = time.ok_or_else(|| Malformed(format!("the time {text:?}")))?;
                }
                Some("seed") => job.seed = value()?,
                _ => return Err(Malformed(format!("an entry {name:?}"))),
            }
        }
        Ok(job)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job() -> Job {
        Job {
            args: ["--type", "", "it's \"x\" $y\nz"]
                .map(OsString::from)
                .into_iter()
                .chain([OsString::from_vec(b"raw \xff".to_vec())])
                .collect(),
            create: vec!["system".into(), "create".into()],
            box_packages: vec!["binutils".into()],
            environment: vec![("http_proxy".into(), "p q".into()), ("E".into(), "".into())],
            folders: vec![
                SharedFolder {
                    tag: "host0".into(),
                    path: "/srv/a b".into(),
                    access: Access::ReadOnly,
                },
                SharedFolder {
                    tag: "custom".into(),
                    path: "/x\ny".into(),
                    access: Access::ReadWrite,
                },
            ],
            files: vec!["/a b/key".into(), "/etc/x".into()],
            made: vec!["/a b/tmp".into()],
            network: true,
            hold_clock: true,
            observe: true,
            kiwi_version: Some("10.2.1".into()),
            ssh_key: Some("ssh-ed25519 AAAA\n".into()),
            time: 1_700_000_000,
            seed: "0123".into(),
        }
    }

    #[test]
    fn any_bytes_arrive() {
        assert_eq!(Job::decode(&job().encode()), Ok(job()));
        assert_eq!(Job::decode(&Job::default().encode()), Ok(Job::default()));
    }

    #[test]
    fn half_a_job_is_refused() {
        let whole = job().encode();
        for cut in [whole.len() - 1, whole.len() - 5] {
            assert!(Job::decode(&whole[..cut]).is_err(), "{cut}");
        }
        assert!(Job::decode(b"time\0soon\0").is_err());
        assert!(Job::decode(b"reboot\0").is_err());
        assert!(Job::decode(b"folder\0host0\0exec\0/x\0").is_err());
    }
}
