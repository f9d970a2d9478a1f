//! The job: what boxbuild on the host asks process 1 of the box to do.
//!
//! A file of fields that end with a NUL each: the name of an entry, then as many values as that
//! entry has. Values are any bytes but NUL, which no argument, path or variable can have.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

/// Where everything that comes with the boot is, in the initial ramdisk.
pub const PLACE: &str = "/boxbuild";
/// Name of the job's file there.
pub const FILE: &str = "job";
/// Folder there with the contents of [`Job::files`], by their number.
pub const FILES: &str = "files";
/// Name of the virtio-console port for reports.
pub const CONTROL_PORT: &str = "org.boxbuild.control";

/// Columns and rows, if `line` (without its end) is the host's word on its terminal:
/// `boxbuild 1 size COLUMNS ROWS`.
pub fn terminal_size(line: &[u8]) -> Option<(u16, u16)> {
    let text = std::str::from_utf8(line).ok()?;
    let (columns, rows) = text.strip_prefix("boxbuild 1 size ")?.split_once(' ')?;
    Some((columns.parse().ok()?, rows.trim_end().parse().ok()?))
}

/// What to do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Job {
    /// Words after `kiwi-ng`, up to `--description`.
    pub args: Vec<OsString>,
    /// Environment of kiwi.
    pub environment: Vec<(OsString, OsString)>,
    /// Folders of the host besides the description and the bundle.
    pub folders: Vec<Folder>,
    /// Paths of the files to write before the build.
    pub files: Vec<PathBuf>,
    /// The machine has a network interface.
    pub network: bool,
    /// Version of kiwi to install first.
    pub kiwi_version: Option<OsString>,
    /// Who may log in as root while the box runs: a line of an `authorized_keys` file.
    pub ssh_key: Option<OsString>,
    /// The host's time when the job was made, in seconds since the epoch; 0 if it is not told.
    pub time: u64,
    /// Random bytes for the kernel, as text.
    pub seed: OsString,
}

/// A folder of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folder {
    /// virtio-fs tag.
    pub tag: OsString,
    /// Absolute path in the box.
    pub path: PathBuf,
    /// The mount is read-only.
    pub read_only: bool,
}

/// The file is no job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Malformed(String);

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the job cannot be read: {}", self.0)
    }
}

impl std::error::Error for Malformed {}

impl Job {
    /// The file.
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
        for (name, value) in &self.environment {
            entry("env", &[name, value]);
        }
        for folder in &self.folders {
            let how = if folder.read_only { "ro" } else { "rw" };
            entry(
                "folder",
                &[&folder.tag, OsStr::new(how), folder.path.as_os_str()],
            );
        }
        for path in &self.files {
            entry("file", &[path.as_os_str()]);
        }
        if self.network {
            entry("network", &[]);
        }
        if let Some(version) = &self.kiwi_version {
            entry("kiwi-version", &[version]);
        }
        if let Some(key) = &self.ssh_key {
            entry("ssh-key", &[key]);
        }
        entry("time", &[OsStr::new(&self.time.to_string())]);
        entry("seed", &[&self.seed]);
        out
    }

    /// Reads the file.
    ///
    /// # Errors
    /// If it ends in the middle, or has an entry that this version does not know.
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
                || next()?.ok_or_else(|| Malformed(String::from("it ends behind a name")));
            match name.to_str() {
                Some("arg") => job.args.push(value()?),
                Some("env") => job.environment.push((value()?, value()?)),
                Some("folder") => {
                    let (tag, how) = (value()?, value()?);
                    job.folders.push(Folder {
                        tag,
                        path: value()?.into(),
                        read_only: how != "rw",
                    });
                }
                Some("file") => job.files.push(value()?.into()),
                Some("network") => job.network = true,
                Some("kiwi-version") => job.kiwi_version = Some(value()?),
                Some("ssh-key") => job.ssh_key = Some(value()?),
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

    #[test]
    fn the_terminals_size_is_columns_and_rows() {
        assert_eq!(terminal_size(b"boxbuild 1 size 100 30"), Some((100, 30)));
        for other in ["", "boxbuild 1 size 100", "boxbuild 1 size 1 70000", "x"] {
            assert_eq!(terminal_size(other.as_bytes()), None);
        }
    }

    fn job() -> Job {
        Job {
            args: ["--type", "", "it's \"x\" $y\nz"]
                .map(OsString::from)
                .into_iter()
                .chain([OsString::from_vec(b"raw \xff".to_vec())])
                .collect(),
            environment: vec![("http_proxy".into(), "p q".into()), ("E".into(), "".into())],
            folders: vec![
                Folder {
                    tag: "host0".into(),
                    path: "/srv/a b".into(),
                    read_only: true,
                },
                Folder {
                    tag: "custom".into(),
                    path: "/x\ny".into(),
                    read_only: false,
                },
            ],
            files: vec!["/a b/key".into(), "/etc/x".into()],
            network: true,
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
    }
}
