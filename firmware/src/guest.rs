//! The guest side of a build (docs/guest-contract.md).

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use boxbuild_protocol::job::Job;
use boxbuild_protocol::paths::{self, INITRD_FILES, INITRD_INIT, INITRD_JOB};
use boxbuild_protocol::share::SharedFolder;
use boxinit::{host_xz, kiwi_patch};

use crate::cpio::Archive;

/// A file that a box needs for the contract of the published boxes.
#[derive(Debug, Clone, Copy)]
pub struct BoxFile {
    /// Absolute path in the box.
    pub path: &'static str,
    /// Permission bits.
    pub mode: u32,
    /// The text in it.
    pub content: &'static str,
}

/// The program that checks a description with the box's kiwi, to be written to [`paths::PROGRAM`].
pub const CHECK: &str = include_str!("../guest/check.py");

/// The program that takes a description over into a root tree, to be written to [`paths::TAKE_OVER`].
const TAKE_OVER: &str = include_str!("../guest/take_over.py");

/// Name of the systemd unit that runs a build. It must be enabled in the box.
pub const UNIT: &str = "boxbuild-kiwi.service";

/// The files that let a box's own init system run a build.
pub const BOX_FILES: &[BoxFile] = &[
    BoxFile {
        path: "/usr/lib/boxbuild/run-kiwi",
        mode: 0o755,
        content: include_str!("../guest/run-kiwi"),
    },
    BoxFile {
        path: "/usr/lib/systemd/system/boxbuild-kiwi.service",
        mode: 0o644,
        content: include_str!("../guest/boxbuild-kiwi.service"),
    },
];

/// The program `boxinit` for each architecture that it knows; empty where it was not built
/// (build.rs).
const BOXINIT: [(&str, &[u8]); 2] = [
    (
        "x86_64",
        include_bytes!(concat!(env!("OUT_DIR"), "/boxinit-x86_64")),
    ),
    (
        "aarch64",
        include_bytes!(concat!(env!("OUT_DIR"), "/boxinit-aarch64")),
    ),
];

/// What boots a box in place of its own init.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Init {
    /// The program `boxinit`, this one; boots any box.
    Program(&'static [u8]),
    /// Shell scripts; they need busybox, modprobe and all virtio modules in the box's ramdisk.
    Scripts,
}

impl Init {
    /// The init for boxes of the architecture `arch`.
    pub fn of(arch: &str) -> Init {
        BOXINIT
            .into_iter()
            .find(|(known, program)| *known == arch && !program.is_empty())
            .map_or(Init::Scripts, |(_, program)| Init::Program(program))
    }

    /// Architectures whose boxes `boxinit` could boot, but that this boxbuild was built without.
    pub fn left_out() -> impl Iterator<Item = &'static str> {
        BOXINIT
            .into_iter()
            .filter(|(_, program)| program.is_empty())
            .map(|(arch, _)| arch)
    }

    /// Whether it is `boxinit`.
    pub fn is_program(self) -> bool {
        matches!(self, Init::Program(_))
    }

    /// A hash that distinguishes it from the inits of other versions of boxbuild.
    pub fn fingerprint(self) -> u64 {
        let bytes = match self {
            Init::Program(program) => program,
            Init::Scripts => include_bytes!("../guest/init"),
        };
        // FNV-1a with 64 bits: it need not resist attacks.
        bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        })
    }
}

impl fmt::Debug for Init {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Init::Program(_) => "Program",
            Init::Scripts => "Scripts",
        })
    }
}

/// A build in a box that boxbuild's own init boots. The box holds nothing for it: everything comes
/// with each boot, as a part of the initial ramdisk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FastBoot {
    /// Words after `kiwi-ng`, up to `--description`; any bytes but NUL, any number.
    pub args: Vec<OsString>,
    /// Words after `kiwi-ng` of `system create`, up to `--target-dir`, if the build goes on after kiwi's
    /// `prepare`.
    pub create: Vec<OsString>,
    /// Packages to install in the box first.
    pub box_packages: Vec<OsString>,
    /// Environment of kiwi: names of shell variables, any values.
    pub environment: Vec<(String, OsString)>,
    /// The machine has a network interface.
    pub network: bool,
    /// The host wants to know where the packages came from.
    pub observe: bool,
    /// Shared folders besides the description and the bundle.
    pub folders: Vec<SharedFolder>,
    /// Files to write before the build: absolute path and content.
    pub files: Vec<(PathBuf, Vec<u8>)>,
    /// Folders to make before the build, absolute.
    pub made: Vec<PathBuf>,
    /// Version of kiwi to install first (with [`Init::Program`] only).
    pub kiwi_version: Option<OsString>,
    /// Who may log in as root while the box runs: a line of an `authorized_keys` file. If given, the
    /// box's sshd is started.
    pub ssh_key: Option<String>,
    /// The host's time, in seconds since the epoch; 0 to leave the guest's clock alone.
    pub time: u64,
    /// The guest keeps that time.
    pub hold_clock: bool,
    /// Entropy for the guest's kernel: random hexadecimal digits.
    pub seed: String,
}

impl FastBoot {
    /// The archive to append to the box's own initial ramdisk, at a multiple of four bytes.
    pub fn initrd_part(&self, init: Init) -> Vec<u8> {
        let take_over = (!self.create.is_empty()).then(|| {
            (
                PathBuf::from(paths::TAKE_OVER),
                TAKE_OVER.as_bytes().to_vec(),
            )
        });
        if let Some(program) = take_over {
            let mut whole = self.clone();
            whole.files.push(program);
            return whole.archive(init);
        }
        self.archive(init)
    }

    fn archive(&self, init: Init) -> Vec<u8> {
        let mut archive = Archive::new();
        archive.directory(paths::INITRD, 0o755);
        match init {
            Init::Program(program) => self.add_program(program, &mut archive),
            Init::Scripts => self.add_scripts(&mut archive),
        }
        if !self.files.is_empty() {
            archive.directory(INITRD_FILES, 0o700);
        }
        for (index, (_, content)) in self.files.iter().enumerate() {
            archive.file(&format!("{INITRD_FILES}/{index}"), 0o600, content);
        }
        archive.finish()
    }

    fn add_program(&self, program: &[u8], archive: &mut Archive) {
        // If the console has no driver yet, the kernel opens no standard streams for process 1;
        // Rust's runtime then opens /dev/null.
        archive
            .directory("dev", 0o755)
            .device("dev/console", 0o600, (5, 1))
            .device("dev/null", 0o666, (1, 3))
            .file(INITRD_INIT, 0o755, program)
            .file(INITRD_JOB, 0o600, &self.job().encode());
    }

    fn add_scripts(&self, archive: &mut Archive) {
        archive
            .file(INITRD_INIT, 0o755, include_bytes!("../guest/init"))
            .file("boxbuild/run", 0o755, include_bytes!("../guest/run"))
            .file("boxbuild/nosync", 0o644, include_bytes!("../guest/nosync"))
            .file(
                &format!("boxbuild/{}", kiwi_patch::FILE),
                0o644,
                kiwi_patch::PROGRAM.as_bytes(),
            )
            .directory("boxbuild/bin", 0o755)
            .file("boxbuild/bin/xz", 0o755, host_xz::PROGRAM.as_bytes())
            .file("boxbuild/args", 0o600, &args_file(&self.args))
            .file("boxbuild/env", 0o600, &env_file(&self.environment))
            .file("boxbuild/host", 0o600, &self.host_file());
        if !self.create.is_empty() {
            archive.file("boxbuild/create", 0o600, &args_file(&self.create));
        }
        if !self.box_packages.is_empty() {
            archive.file(
                "boxbuild/box-packages",
                0o600,
                &args_file(&self.box_packages),
            );
        }
        if let Some(key) = &self.ssh_key {
            archive.file("boxbuild/authorized_keys", 0o600, key.as_bytes());
        }
        if self.network {
            archive.file("boxbuild/network", 0o644, b"");
        }
    }

    fn job(&self) -> Job {
        Job {
            args: self.args.clone(),
            create: self.create.clone(),
            box_packages: self.box_packages.clone(),
            environment: self
                .environment
                .iter()
                .map(|(name, value)| (name.into(), value.clone()))
                .collect(),
            folders: self.folders.clone(),
            files: self.files.iter().map(|(path, _)| path.clone()).collect(),
            made: self.made.clone(),
            network: self.network,
            observe: self.observe,
            kiwi_version: self.kiwi_version.clone(),
            ssh_key: self.ssh_key.clone().map(Into::into),
            time: self.time,
            hold_clock: self.hold_clock,
            seed: self.seed.clone().into(),
        }
    }

    /// A script that mounts the shared folders and writes the files.
    fn host_file(&self) -> Vec<u8> {
        let mut script = Vec::new();
        for folder in &self.folders {
            script.extend_from_slice(b"mount_share ");
            quote(OsStr::new(&folder.tag), &mut script);
            script.push(b' ');
            quote(folder.path.as_os_str(), &mut script);
            script.extend_from_slice(format!(" {}\n", folder.access.mount_option()).as_bytes());
        }
        for (index, (path, _)) in self.files.iter().enumerate() {
            script.extend_from_slice(format!("write_file {index} ").as_bytes());
            quote(path.as_os_str(), &mut script);
            script.push(b'\n');
        }
        script.extend(made_file(&self.made));
        script
    }
}

/// The program `boxinit` for the architecture of this host, whatever the container's is.
fn own_boxinit() -> Option<&'static [u8]> {
    match Init::of(std::env::consts::ARCH) {
        Init::Program(program) => Some(program),
        Init::Scripts => None,
    }
}

/// A build in a container, run by boxbuild's own process 1. The box holds nothing for it: the host
/// mounts the files at [`ContainerBuild::FOLDER`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerBuild {
    /// Words after `kiwi-ng`, up to `--description`; any bytes but NUL, any number.
    pub args: Vec<OsString>,
    /// Packages to install in the container first.
    pub box_packages: Vec<OsString>,
    /// Environment of kiwi: names of shell variables, any values.
    pub environment: Vec<(String, OsString)>,
    /// Folders to make before the build, absolute.
    pub made: Vec<PathBuf>,
    /// Name of the container: unique on the host, letters, digits and hyphens.
    pub name: String,
    /// User and group of the results, as IDs in the container's user namespace.
    pub owner: (u32, u32),
    /// The description is only checked: [`CHECK`] runs in the place of kiwi.
    pub check_only: bool,
    /// The container stays after the build until it is told to end.
    pub shell: bool,
    /// The container has no network until the host gives it one: ports of its loopback that lead to those of
    /// the host's ([`boxbuild_protocol::container_network`]).
    pub loopback: Option<Vec<u16>>,
}

impl ContainerBuild {
    /// Name of the socket that the host listens on if there is [`ContainerBuild::loopback`], among the files.
    pub const SOCKET: &'static str = "network.socket";

    /// Whether the host can give a container its network: it takes the program `boxinit`.
    pub fn can_be_connected() -> bool {
        own_boxinit().is_some()
    }

    /// Mount point of the files in the container.
    pub const FOLDER: &'static str = paths::RUN;

    /// Name of the script that runs as process 1, among the files.
    pub const SCRIPT: &'static str = "container";

    /// Names and contents of the files.
    pub fn files(&self) -> Vec<(&'static str, Vec<u8>)> {
        let (uid, gid) = self.owner;
        let shell = self.shell.then(|| ("shell", Vec::new()));
        let files = vec![
            (Self::SCRIPT, include_bytes!("../guest/container").to_vec()),
            ("nosync", include_bytes!("../guest/nosync").to_vec()),
            (kiwi_patch::FILE, kiwi_patch::PROGRAM.as_bytes().to_vec()),
            ("args", args_file(&self.args)),
            ("env", env_file(&self.environment)),
            ("host", made_file(&self.made)),
            ("name", format!("{}\n", self.name).into_bytes()),
            ("owner", format!("{uid}:{gid}\n").into_bytes()),
        ];
        let program = self
            .check_only
            .then(|| ("program", CHECK.as_bytes().to_vec()));
        let packages = (!self.box_packages.is_empty())
            .then(|| ("box-packages", args_file(&self.box_packages)));
        let connect = self.loopback.as_ref().map(|ports| {
            let words: Vec<OsString> = ports.iter().map(|port| port.to_string().into()).collect();
            [
                ("boxinit", own_boxinit().unwrap_or_default().to_vec()),
                ("network", args_file(&words)),
            ]
        });
        let more = [shell, program, packages].into_iter().flatten();
        let more = more.chain(connect.into_iter().flatten());
        files.into_iter().chain(more).collect()
    }
}

/// A script that makes folders.
fn made_file(folders: &[PathBuf]) -> Vec<u8> {
    let mut script = Vec::new();
    for folder in folders {
        script.extend_from_slice(b"make_folder ");
        quote(folder.as_os_str(), &mut script);
        script.push(b'\n');
    }
    script
}

/// A script that sets the positional parameters.
fn args_file(words: &[OsString]) -> Vec<u8> {
    let mut script = b"set --".to_vec();
    for word in words {
        script.push(b' ');
        quote(word, &mut script);
    }
    script.push(b'\n');
    script
}

/// A script of assignments. Names that are not valid for shell variables are left out.
fn env_file(environment: &[(String, OsString)]) -> Vec<u8> {
    let mut script = Vec::new();
    for (name, value) in environment.iter().filter(|(name, _)| is_variable(name)) {
        script.extend_from_slice(name.as_bytes());
        script.push(b'=');
        quote(value, &mut script);
        script.push(b'\n');
    }
    script
}

/// Appends a word, quoted for a POSIX shell: within single quotes everything but the quote itself is
/// literal.
fn quote(word: &OsStr, out: &mut Vec<u8>) {
    out.push(b'\'');
    for byte in word.as_bytes() {
        if *byte == b'\'' {
            out.extend_from_slice(b"'\\''");
        } else {
            out.push(*byte);
        }
    }
    out.push(b'\'');
}

fn is_variable(name: &str) -> bool {
    name.bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && name
            .bytes()
            .next()
            .is_some_and(|byte| !byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt;
    use std::process::Command;

    use boxbuild_protocol::share::Access;

    use super::*;

    /// A real shell reads the quoted words.
    #[test]
    fn any_bytes_reach_kiwi() {
        let words = [
            "",
            "a b",
            "it's",
            "$(touch x)`y`",
            "\"",
            "two\nlines",
            "\\",
            "*",
        ]
        .map(OsString::from)
        .into_iter()
        .chain([OsString::from_vec(b"raw \xff".to_vec())]);
        for word in words {
            let mut script = b"set -- ".to_vec();
            quote(&word, &mut script);
            script.extend_from_slice(b"\nprintf '%s.' \"$@\"");
            let output = Command::new("sh")
                .arg("-c")
                .arg(OsString::from_vec(script))
                .output()
                .expect("sh must be there");
            let mut expected = word.as_bytes().to_vec();
            expected.push(b'.');
            assert_eq!(output.stdout, expected);
        }
    }

    /// The fields of an ELF header: gABI, "ELF Header".
    #[test]
    fn each_program_is_one_of_its_architecture() {
        let machine = |arch| match arch {
            "x86_64" => 62_u16,
            "aarch64" => 183,
            other => panic!("{other}"),
        };
        for (arch, program) in BOXINIT {
            match Init::of(arch) {
                Init::Program(found) => {
                    assert_eq!(found, program);
                    assert!(found.starts_with(b"\x7fELF\x02\x01"), "{arch}");
                    assert_eq!(found[18..20], machine(arch).to_le_bytes(), "{arch}");
                }
                Init::Scripts => {
                    assert!(Init::left_out().any(|left_out| left_out == arch), "{arch}");
                    assert_ne!(arch, std::env::consts::ARCH, "its own is a must");
                    println!("skipped: boxinit for {arch}: it was not built (docs/packaging.md)");
                }
            }
        }
        assert_eq!(Init::of("s390x"), Init::Scripts);
        assert!(Init::left_out().all(|arch| arch != "s390x"));
    }

    #[test]
    fn both_inits_get_the_build() {
        let boot = FastBoot {
            args: vec![],
            create: vec!["system".into(), "create".into()],
            box_packages: vec!["binutils".into(), "it's".into()],
            environment: vec![
                ("a b;reboot".into(), "x".into()),
                ("http_proxy".into(), "p".into()),
            ],
            network: true,
            folders: vec![SharedFolder {
                tag: "host0".into(),
                path: "/srv/it's".into(),
                access: Access::ReadOnly,
            }],
            files: vec![("/a b/key".into(), b"secret".to_vec())],
            made: vec!["/a b/tmp".into()],
            observe: true,
            kiwi_version: None,
            ssh_key: Some("ssh-ed25519 AAAA\n".into()),
            time: 0,
            hold_clock: true,
            seed: String::new(),
        };
        let part = boot.initrd_part(Init::Scripts);
        let text = String::from_utf8_lossy(&part);
        assert!(text.contains("http_proxy='p'"));
        assert!(!text.contains("reboot"), "not a name of a variable");
        let script = "mount_share 'host0' '/srv/it'\\''s' ro\nwrite_file 0 '/a b/key'\n\
                      write_file 1 '/run/boxbuild/take-over'\nmake_folder '/a b/tmp'\n";
        assert!(text.contains(script));
        assert!(text.contains("boxbuild/files/0\0") && text.contains("secret"));
        assert!(text.contains("set -- 'system' 'create'\n"));
        assert!(text.contains("set -- 'binutils' 'it'\\''s'\n"));
        assert!(text.contains("write_file 1 '/run/boxbuild/take-over'"));
        assert!(text.contains("boxbuild/authorized_keys\0"));
        assert_eq!(part.len() % 4, 0);

        let part = boot.initrd_part(Init::Program(b"boxinit"));
        let mut job = boot.job();
        job.files.push(paths::TAKE_OVER.into());
        let job = job.encode();
        assert!(part.windows(job.len()).any(|window| window == job));
        assert!(String::from_utf8_lossy(&part).contains("boxbuild/files/0\0"));
    }
}
