//! The root tree of a box: packages, KIWI, set-up; and the disk made from it.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use boxbuild_firmware::guest;

use super::foreign::Programs;
use super::host::Host;
use super::{CommandError, CreateError, Work, initrd};
use boxbuild_host::arch::Arch;
use boxbuild_host::reaper::Reaper;

/// First byte of the only partition: the usual alignment of 1 MiB.
const PARTITION_START: u64 = 1 << 20;

/// What boots and reaches the network.
const BASE: &[&str] = &[
    "systemd",
    "systemd-sysv",
    "systemd-resolved",
    "udev",
    "dbus",
    "kmod",
    "initramfs-tools",
    "busybox",
    "zstd",
    "iproute2",
    "ca-certificates",
    "openssh-server",
];

/// What KIWI and an apt-based build of archives, containers, squashfs and disk images need.
const BUILD: &[&str] = &[
    "python3",
    "python3-pip",
    "python3-lxml",
    "python3-yaml",
    "python3-requests",
    "python3-simplejson",
    "mmdebstrap",
    "debootstrap",
    "gnupg",
    "gpg",
    "gpgv",
    "debian-archive-keyring",
    "curl",
    "rsync",
    "qemu-utils",
    "e2fsprogs",
    "btrfs-progs",
    "xfsprogs",
    "dosfstools",
    "parted",
    "gdisk",
    "fdisk",
    "kpartx",
    "lvm2",
    "cryptsetup-bin",
    "squashfs-tools",
    "xorriso",
    "mtools",
    "cpio",
    "bzip2",
    "xz-utils",
    "pigz",
    "file",
    "lsof",
    "psmisc",
    "procps",
    "kbd",
    "umoci",
    "skopeo",
    "grub2-common",
];

/// Boot loaders that only some architectures have.
fn boot_loaders(arch: Arch) -> &'static [&'static str] {
    match arch {
        Arch::X86_64 => &["grub-pc-bin", "grub-efi-amd64-bin"],
        Arch::Aarch64 => &["grub-efi-arm64-bin"],
        Arch::Ppc64le => &["grub-ieee1275-bin"],
        Arch::S390x => &["s390-tools"],
    }
}

/// The kernel: the flavour for virtual machines where there is one (virtio-fs is in it).
fn kernel(arch: Arch) -> &'static str {
    match arch {
        Arch::X86_64 => "linux-image-cloud-amd64",
        Arch::Aarch64 => "linux-image-cloud-arm64",
        Arch::Ppc64le => "linux-image-powerpc64le",
        Arch::S390x => "linux-image-s390x",
    }
}

/// Units that a box which runs one build has no use for.
const MASKED: &[&str] = &[
    "systemd-logind.service",
    "systemd-update-utmp.service",
    "systemd-user-sessions.service",
    "systemd-hwdb-update.service",
    "systemd-firstboot.service",
    "systemd-update-done.service",
    "systemd-journal-flush.service",
    "systemd-random-seed.service",
    "systemd-timesyncd.service",
    "systemd-pcrphase.service",
    "systemd-tpm2-setup.service",
    "systemd-tpm2-setup-early.service",
    "ldconfig.service",
    "getty@tty1.service",
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "dpkg-db-backup.timer",
    "fstrim.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "lvm2-monitor.service",
    "kmod-static-nodes.service",
    "console-setup.service",
    "keyboard-setup.service",
    "systemd-binfmt.service",
    "tmp.mount",
];

/// Paths that are not unpacked.
const EXCLUDED: &[&str] = &[
    "path-exclude=/usr/share/man/*",
    "path-exclude=/usr/share/info/*",
    "path-exclude=/usr/share/locale/*",
    "path-exclude=/usr/share/doc/*",
    "path-include=/usr/share/doc/*/copyright",
    "force-unsafe-io",
];

/// Files of the box's own configuration.
const FILES: &[(&str, &str)] = &[
    ("etc/fstab", "/dev/vda1 / ext4 defaults,noatime 0 0\n"),
    ("etc/hostname", "boxbuild\n"),
    ("etc/machine-id", ""),
    (
        "etc/systemd/network/10-lan0.link",
        "[Match]\nDriver=virtio_net\n\n[Link]\nName=lan0\n",
    ),
    (
        "etc/systemd/network/10-lan0.network",
        "[Match]\nName=lan0 eth0\n\n[Network]\nDHCP=yes\nLinkLocalAddressing=no\nIPv6AcceptRA=no\n",
    ),
    (
        "etc/systemd/journald.conf.d/boxbuild.conf",
        "[Journal]\nStorage=volatile\nRuntimeMaxUse=16M\n",
    ),
    (
        // For --box-debug: who can type into the console owns the machine anyway.
        "etc/systemd/system/serial-getty@hvc0.service.d/boxbuild.conf",
        "[Service]\nExecStart=\nExecStart=-/sbin/agetty --autologin root --noclear %I $TERM\n",
    ),
];

/// Platform tags of wheels that run on the suites of Debian here, without the architecture:
/// PEP 600, and its name before that (PEP 599) for glibc 2.17.
const WHEEL_PLATFORMS: &[&str] = &[
    "manylinux_2_34",
    "manylinux_2_28",
    "manylinux_2_17",
    "manylinux2014",
    "linux",
];

/// Fetches KIWI and what it needs from the Python package index, through the host's own pip.
pub(super) fn fetch_kiwi(
    work: &Work<'_>,
    version: &str,
    python: &str,
    arch: Arch,
) -> Result<(), CreateError> {
    let wheels = work.dir.join("wheels");
    let words = |line: &str| line.split(' ').map(OsString::from).collect::<Vec<_>>();
    let mut args = words("-m pip wheel --quiet --no-deps --wheel-dir");
    args.extend([wheels.clone().into(), format!("kiwi=={version}").into()]);
    work.runner
        .run("python3", args, &[])
        .map_err(|error| pip_hint(error, version))?;

    let kiwi = fs::read_dir(&wheels)
        .ok()
        .into_iter()
        .flatten()
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|extension| extension == "whl"))
        .ok_or(CreateError::Host(format!(
            "pip made no wheel of kiwi {version}"
        )))?;
    let mut args = words("-m pip download --quiet --only-binary=:all: --python-version");
    args.extend([python.into(), "--dest".into(), wheels.into(), kiwi.into()]);
    if arch != Arch::host() {
        args.extend(WHEEL_PLATFORMS.iter().flat_map(|platform| {
            let platform = format!("{platform}_{arch}");
            [OsString::from("--platform"), platform.into()]
        }));
    }
    Ok(work.runner.run("python3", args, &[])?)
}

fn pip_hint(error: CommandError, version: &str) -> CreateError {
    match &error {
        CommandError::Failed { output, .. }
            if output
                .iter()
                .any(|line| line.contains("No matching distribution")) =>
        {
            CreateError::Option(format!(
                "--kiwi-version {version}: the Python package index has no such version of kiwi"
            ))
        }
        CommandError::Failed { output, .. }
            if output
                .iter()
                .any(|line| line.contains("No module named pip")) =>
        {
            CreateError::Host(String::from(
                "python3 has no pip; on Debian and Ubuntu: sudo apt-get install python3-pip",
            ))
        }
        _ => error.into(),
    }
}

/// What goes into the root tree.
#[derive(Debug)]
pub(super) struct Rootfs<'a> {
    pub(super) suite: &'a str,
    pub(super) mirror: &'a str,
    pub(super) arch: Arch,
    pub(super) kiwi: &'a str,
}

impl Rootfs<'_> {
    /// Makes `root.tar` in the work folder.
    pub(super) fn build(
        &self,
        work: &Work<'_>,
        host: &Host,
        programs: &Programs,
    ) -> Result<(), CreateError> {
        let early = work.dir.join("early");
        initrd::write_early(&early).map_err(io_error(&early))?;
        pack(work, &early, "early.tar")?;
        let files = work.dir.join("files");
        self.write_files(&files).map_err(io_error(&files))?;
        pack(work, &files, "files.tar")?;

        let temp = Scratch::new(host)?;
        let name = "mmdebstrap";
        let program = host.find(name).unwrap_or_else(|| name.into());
        let mut command = programs.command(host, &program);
        // In a namespace made here, the caller is root already, and cannot make device nodes.
        let unshare = programs.in_namespace() || !host.is_root();
        command
            .args(self.args(work, host, unshare))
            .env("TMPDIR", temp.path());
        let result = work.runner.run_command(name, command);
        drop(temp);
        Ok(result?)
    }

    fn args(&self, work: &Work<'_>, host: &Host, unshare: bool) -> Vec<OsString> {
        let include = [BASE, BUILD, boot_loaders(self.arch), &[kernel(self.arch)]]
            .concat()
            .join(",");
        let mut args: Vec<OsString> = vec![
            if unshare {
                "--mode=unshare"
            } else {
                "--mode=root"
            }
            .into(),
            "--variant=minbase".into(),
            "--format=tar".into(),
            format!("--architectures={}", self.arch.debian_name()).into(),
            "--aptopt=Apt::Install-Recommends \"false\"".into(),
            "--aptopt=Acquire::Retries \"3\"".into(),
            "--aptopt=Acquire::Languages \"none\"".into(),
            format!("--include={include}").into(),
        ];
        args.extend(
            host_apt_options(host)
                .into_iter()
                .map(|line| format!("--aptopt={line}").into()),
        );
        args.extend(
            EXCLUDED
                .iter()
                .map(|line| format!("--dpkgopt={line}").into()),
        );
        let mut hook = |stage: &str, command: &str| {
            args.push(format!("--{stage}-hook={command}").into());
        };
        let place = |name: &str| quoted(&work.dir.join(name));
        hook("essential", &format!("tar-in {} /", place("early.tar")));
        hook("customize", &format!("tar-in {} /", place("files.tar")));
        hook("customize", &format!("copy-in {} /opt", place("wheels")));
        // mmdebstrap sets back the times of new files: Python would find its compiled modules out of
        // date and compile them again in each build. With this variable it compares contents
        // instead (docs.python.org, py_compile.PycInvalidationMode).
        hook(
            "customize",
            &format!(
                "chroot \"$1\" env SOURCE_DATE_EPOCH=\"$(date +%s)\" python3 -m pip install --quiet \
                 --no-index --find-links /opt/wheels --break-system-packages --root-user-action=ignore kiwi=={}",
                self.kiwi
            ),
        );
        hook(
            "customize",
            "rm -rf \"$1/opt/wheels\" \"$1/var/lib/apt/lists\" \"$1/var/cache/apt\"",
        );
        hook(
            "customize",
            "mkdir -p \"$1/var/lib/apt/lists/partial\" \"$1/var/cache/apt/archives/partial\"",
        );
        hook(
            "customize",
            &format!(
                "chroot \"$1\" systemctl --quiet enable systemd-networkd systemd-resolved {}",
                guest::UNIT
            ),
        );
        hook(
            "customize",
            &format!("chroot \"$1\" systemctl --quiet mask {}", MASKED.join(" ")),
        );
        // It runs when somebody asks for it (--ssh-port), with keys of that run.
        hook(
            "customize",
            "chroot \"$1\" sh -c 'for unit in ssh.service ssh.socket; do systemctl --quiet disable \
             $unit 2>/dev/null; done; rm -f /etc/ssh/ssh_host_*'",
        );
        args.extend([
            self.suite.into(),
            work.dir.join("root.tar").into(),
            format!("deb {} {} main", self.mirror, self.suite).into(),
            format!("deb {} {}-updates main", self.mirror, self.suite).into(),
        ]);
        args
    }

    /// The box's own configuration and guest side.
    fn write_files(&self, dir: &Path) -> std::io::Result<()> {
        for (path, content) in FILES {
            write(dir, path, 0o644, content)?;
        }
        for file in guest::BOX_FILES {
            write(
                dir,
                file.path.trim_start_matches('/'),
                file.mode,
                file.content,
            )?;
        }
        fs::create_dir_all(dir.join("etc"))?;
        symlink(
            "/run/systemd/resolve/stub-resolv.conf",
            dir.join("etc/resolv.conf"),
        )
    }
}

/// Makes the container image from `root.tar`: the same tree without what only a machine needs.
/// mmdebstrap's tar has the right owners, and GNU tar copies its members without unpacking them.
pub(super) fn make_container(work: &Work<'_>, image: &Path) -> Result<(), CreateError> {
    // podman lays its own files over /dev and /etc/resolv.conf.
    let script = "set -e; cd \"$1\"; cp root.tar container.tar; \
         tar --delete --wildcards -f container.tar './boot/*' './usr/lib/modules/*' './dev/*' \
         ./etc/resolv.conf; gzip -1 -n <container.tar >\"$2\"; rm container.tar";
    let args: [OsString; 5] = [
        "-c".into(),
        script.into(),
        "sh".into(),
        work.dir.clone().into(),
        image.into(),
    ];
    Ok(work.runner.run("sh", args, &[])?)
}

/// Makes `disk.raw`, `kernel` and `initrd` in the work folder from `root.tar`.
pub(super) fn make_disk(
    work: &Work<'_>,
    host: &Host,
    size: u64,
    suite: &str,
) -> Result<(), CreateError> {
    let kernel = "for kernel in tree/boot/vmlinuz-* tree/boot/vmlinux-*; do \
         [ ! -e \"$kernel\" ] || cp \"$kernel\" kernel; done; \
         for initrd in tree/boot/initrd.img-*; do [ ! -e \"$initrd\" ] || cp \"$initrd\" initrd; \
         done; chmod 0644 kernel initrd || :;";
    format_disk(work, host, size, kernel)?;
    for what in ["kernel", "initrd"] {
        if !work.dir.join(what).is_file() {
            return Err(CreateError::Incomplete {
                suite: suite.to_owned(),
                what,
            });
        }
    }
    Ok(())
}

/// Makes `disk.raw` in the work folder from `root.tar`: one partition with all of it. Shell
/// commands in `more` see the folder `tree`.
pub(super) fn format_disk(
    work: &Work<'_>,
    host: &Host,
    size: u64,
    more: &str,
) -> Result<(), CreateError> {
    let disk = work.dir.join("disk.raw");
    fs::File::create(&disk)
        .and_then(|file| file.set_len(size))
        .map_err(io_error(&disk))?;
    let layout = work.dir.join("layout");
    fs::write(&layout, "label: dos\nstart=2048, type=83, bootable\n").map_err(io_error(&layout))?;
    // In a user namespace the caller is root of the tree, so that its owners are right.
    let script = format!(
        "set -e; cd \"$1\"; mkdir tree; tar -C tree --numeric-owner --xattrs --xattrs-include='*' \
         --exclude='./dev/*' -xpf root.tar; rm root.tar; \
         sfdisk --quiet disk.raw <layout; \
         mke2fs -q -F -t ext4 -d tree -L boxbuild -m 0 -O ^has_journal,^metadata_csum \
         -E offset={PARTITION_START},lazy_itable_init=1,nodiscard,root_owner=0:0 disk.raw {}k; \
         {more} rm -rf tree",
        (size - PARTITION_START) >> 10
    );
    let mut args: Vec<OsString> = namespace(host);
    args.extend([
        "sh".into(),
        "-c".into(),
        script.into(),
        "sh".into(),
        work.dir.clone().into(),
    ]);
    let program = args.remove(0).to_string_lossy().into_owned();
    // Whatever ends this: what belongs to other owners goes.
    let tree = work.dir.join("tree");
    let mut remove = namespace(host);
    remove.extend(["rm", "-rf"].map(OsString::from));
    let _reaper = Reaper::watch_tree(&tree, &remove).map_err(io_error(&tree))?;
    Ok(work.runner.run(&program, args, &[])?)
}

/// The words in front of a command that works on a tree with all its owners.
pub(super) fn namespace(host: &Host) -> Vec<OsString> {
    if host.is_root() {
        vec!["env".into()]
    } else {
        ["unshare", "--map-root-user", "--map-auto", "--"]
            .map(OsString::from)
            .into()
    }
}

/// A folder for mmdebstrap's own tree: subordinate ids must reach it, so it cannot be below
/// a home folder.
struct Scratch {
    /// Removes it with the owners that its files have.
    _reaper: Reaper,
    dir: tempfile::TempDir,
}

impl Scratch {
    fn new(host: &Host) -> Result<Scratch, CreateError> {
        let place = Path::new("/var/tmp");
        host.check_space(place, super::NEEDED_SPACE / 3)?;
        let dir = tempfile::Builder::new()
            .prefix("boxbuild-")
            .permissions(fs::Permissions::from_mode(0o711))
            .tempdir_in(place)
            .map_err(io_error(place))?;
        // Where mounts are not mmdebstrap's own, they are not entered.
        let mut remove = namespace(host);
        remove.extend(["rm", "-rf", "--one-file-system"].map(OsString::from));
        let reaper = Reaper::watch_tree(dir.path(), &remove).map_err(io_error(dir.path()))?;
        Ok(Scratch {
            _reaper: reaper,
            dir,
        })
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }
}

/// Proxies and certificates of the host's apt, as apt.conf(5) lines.
fn host_apt_options(host: &Host) -> Vec<String> {
    let output = Command::new("apt-config")
        .args(["dump", "Acquire::http", "Acquire::https"])
        .env("PATH", host.path())
        .output();
    let Ok(output) = output else {
        return Vec::new();
    };
    transport_options(&String::from_utf8_lossy(&output.stdout))
}

fn transport_options(dump: &str) -> Vec<String> {
    const KEYS: [&str; 6] = [
        "::Proxy",
        "::CAInfo",
        "::CAPath",
        "::SslCert",
        "::SslKey",
        "::Verify-Peer",
    ];
    dump.lines()
        .filter_map(|line| line.trim().strip_suffix("\";")?.split_once(" \""))
        .filter(|(key, value)| !value.is_empty() && KEYS.iter().any(|known| key.contains(known)))
        .map(|(key, value)| format!("{key} \"{value}\""))
        .collect()
}

/// A tar file whose entries all belong to root.
fn pack(work: &Work<'_>, dir: &Path, name: &str) -> Result<(), CreateError> {
    let args = ["--owner=0", "--group=0", "--numeric-owner", "-C"].map(OsString::from);
    let rest: [OsString; 4] = [
        dir.into(),
        "-cf".into(),
        work.dir.join(name).into(),
        ".".into(),
    ];
    Ok(work.runner.run("tar", args.into_iter().chain(rest), &[])?)
}

pub(super) fn write(dir: &Path, path: &str, mode: u32, content: &str) -> std::io::Result<()> {
    let path = dir.join(path);
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::write(&path, content)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(mode))
}

fn io_error(path: &Path) -> impl FnOnce(std::io::Error) -> CreateError {
    let path = path.to_owned();
    move |source| CreateError::Io { path, source }
}

/// A path for the shell that mmdebstrap runs hooks with.
fn quoted(path: &Path) -> String {
    shell_words::quote(&path.to_string_lossy()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_transport_of_the_hosts_apt_is_taken_over() {
        let dump = "Acquire \"\";\nAcquire::http \"\";\n\
                    Acquire::http::Proxy \"http://proxy.example:3142\";\n\
                    Acquire::http::Proxy::mirror.example \"DIRECT\";\n\
                    Acquire::https::CAInfo \"/etc/ca.pem\";\nAcquire::http::Timeout \"9\";\n";
        assert_eq!(
            transport_options(dump),
            [
                "Acquire::http::Proxy \"http://proxy.example:3142\"",
                "Acquire::http::Proxy::mirror.example \"DIRECT\"",
                "Acquire::https::CAInfo \"/etc/ca.pem\"",
            ]
        );
    }
}
