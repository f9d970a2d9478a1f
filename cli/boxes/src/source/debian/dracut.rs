//! KIWI's dracut modules as Debian packages, in a repository inside the box.
//!
//! An image whose initial ramdisk resizes, installs or overlays its disk needs them in its own root tree.
//! Debian 13 has no packages of them; those of the build service are called `dracut-kiwi-*`, those of
//! Debian 12 `kiwi-dracut-*`. These here are made of KIWI's source distribution, have the first names and
//! provide the second ones.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use boxbuild_host::arch::Arch;
use boxbuild_host::digest;
use boxbuild_host::error::IoError;

use super::deb;
use super::files::write;
use crate::source::command::Workshop;
use crate::source::error::SourceError;
use crate::store::LocalRepository;

/// Folder of the repository in the box.
const FOLDER: &str = "/usr/share/boxbuild/packages";

/// Folder of the modules in KIWI's source distribution, and in a root tree below `usr/lib`.
const MODULES: &str = "dracut/modules.d";

/// The program of the module `kiwi-verity`, which is in C.
const VERITY_PROGRAM: &str = "kiwi-parse-verity";

/// A package: what follows `dracut-kiwi-`, its modules without `NNkiwi-`, and what it depends on (KIWI
/// 11.1.6, package/python-kiwi-spec-template, and what `install` of each module copies).
struct Package {
    name: &'static str,
    modules: &'static [&'static str],
    depends: &'static str,
    what: &'static str,
}

const PACKAGES: &[Package] = &[
    Package {
        name: "lib",
        modules: &["lib"],
        depends: "dracut, dracut-network, bash, bc, btrfs-progs, coreutils, cryptsetup, curl, dialog, \
                  dmsetup, e2fsprogs, fdisk, gdisk, grep, lvm2, mdadm, pv, sed, util-linux, xfsprogs, \
                  xz-utils",
        what: "functions of the other modules",
    },
    Package {
        name: "oem-repart",
        modules: &["repart"],
        depends: LIB,
        what: "fits a disk image to its disk",
    },
    Package {
        name: "oem-dump",
        modules: &["dump", "dump-reboot"],
        depends: "dracut-kiwi-lib (= VERSION), gawk, kexec-tools, kpartx",
        what: "installs a disk image from a medium or the network",
    },
    Package {
        name: "live",
        modules: &["live"],
        depends: "dracut, dracut-network, bash, cryptsetup-bin, curl, dialog, dmsetup, e2fsprogs, fdisk, \
                  mount, udev, util-linux, xfsprogs",
        what: "boots a live system",
    },
    Package {
        name: "overlay",
        modules: &["overlay"],
        depends: LIB,
        what: "boots a root file system that is never written",
    },
    Package {
        name: "verity",
        modules: &["verity"],
        depends: "dracut-kiwi-lib (= VERSION), cryptsetup-bin",
        what: "boots a root file system with dm-verity",
    },
];

const LIB: &str = "dracut-kiwi-lib (= VERSION)";

/// The repository, in a folder of the host.
pub(super) struct Repository {
    /// What a box says of it.
    pub(super) described: LocalRepository,
    /// What could not be made.
    pub(super) note: Option<String>,
}

/// Makes the repository below `root`, a part of the box's root tree, of KIWI's source distribution in
/// the folder `source`. Returns nothing if this KIWI has no modules.
///
/// # Errors
/// Fails if a program fails.
pub(super) fn make(
    workshop: &Workshop<'_>,
    source: &Path,
    version: &str,
    arch: Arch,
    root: &Path,
) -> Result<Option<Repository>, SourceError> {
    let modules = modules(&source.join(MODULES));
    if modules.is_empty() {
        return Ok(None);
    }
    let folder = root.join(FOLDER.trim_start_matches('/'));
    fs::create_dir_all(&folder).map_err(IoError::on("write", &folder))?;
    let mut index = String::new();
    let mut names = Vec::new();
    let mut note = None;
    for package in PACKAGES {
        let of_package = |module: &&PathBuf| package.modules.iter().any(|name| is(module, name));
        let modules: Vec<&PathBuf> = modules.iter().filter(of_package).collect();
        if modules.is_empty() {
            continue;
        }
        let tree = workshop.dir.join(format!("dracut-{}", package.name));
        for module in &modules {
            if let Err(problem) = copy(workshop, module, &tree, arch)? {
                note = Some(format!(
                    "the box has no dracut-kiwi-{}, which only images with embed_verity_metadata use: \
                     {problem}",
                    package.name
                ));
            }
        }
        if note.is_some() && package.name == "verity" {
            continue;
        }
        let control = package.control(version, arch);
        let file = format!("dracut-kiwi-{}_{version}-1.deb", package.name);
        deb::build(workshop, &tree, &control, &folder.join(&file))?;
        index += &entry(&control, &folder, &file)?;
        names.extend([
            format!("dracut-kiwi-{}", package.name),
            format!("kiwi-dracut-{}", package.name),
        ]);
    }
    write_index(&folder, &index)?;
    Ok(Some(Repository {
        described: LocalRepository {
            path: FOLDER.to_owned(),
            packages: names,
        },
        note,
    }))
}

/// Returns the folders of modules in `folder`, in the order of their names.
fn modules(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    let mut modules: Vec<PathBuf> = entries
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .filter(|path| path.join("module-setup.sh").is_file())
        .collect();
    modules.sort();
    modules
}

/// Whether a folder is that of the module `name`: `NNkiwi-NAME`.
fn is(module: &Path, name: &str) -> bool {
    let file = module.file_name().unwrap_or_default().to_string_lossy();
    let bare = file.trim_start_matches(|c: char| c.is_ascii_digit());
    bare.strip_prefix("kiwi-") == Some(name)
}

/// Copies the files of a module into `tree`, and compiles what is in C. The inner error says why that
/// cannot be done.
fn copy(
    workshop: &Workshop<'_>,
    module: &Path,
    tree: &Path,
    arch: Arch,
) -> Result<Result<(), String>, SourceError> {
    let name = module.file_name().unwrap_or_default();
    let to = tree.join("usr/lib").join(MODULES).join(name);
    let entries = fs::read_dir(module).map_err(IoError::on("read", module))?;
    for entry in entries.filter_map(Result::ok) {
        let file = entry.file_name();
        let text = file.to_string_lossy();
        let path = entry.path();
        if text.ends_with(".sh") && path.is_file() {
            let content = fs::read_to_string(&path).map_err(IoError::on("read", &path))?;
            write(&to, &text, 0o755, &content).map_err(IoError::on("write", &to))?;
        }
    }
    let code = module.join(format!("{VERITY_PROGRAM}.c"));
    if !code.is_file() {
        return Ok(Ok(()));
    }
    if arch != Arch::host() {
        return Ok(Err(format!(
            "its program is compiled for {arch} on {arch} only"
        )));
    }
    if workshop.host.find("cc").is_none() {
        return Ok(Err(String::from(
            "this host has no C compiler (gcc, libc6-dev)",
        )));
    }
    let program = tree.join("usr/bin").join(VERITY_PROGRAM);
    let parent = tree.join("usr/bin");
    fs::create_dir_all(&parent).map_err(IoError::on("write", &parent))?;
    // Static: images have other C libraries than this host.
    let mut args = ["-O2", "-static", "-s", "-o"].map(OsString::from).to_vec();
    args.extend([program.into(), code.into()]);
    Ok(workshop
        .run("cc", args, &[])
        .map_err(|error| error.to_string()))
}

impl Package {
    /// Returns the fields of the package.
    fn control(&self, version: &str, arch: Arch) -> String {
        let Package { name, what, .. } = self;
        let full = format!("{version}-1");
        let depends = self.depends.replace("VERSION", &full);
        let arch = if *name == "verity" {
            arch.debian_name()
        } else {
            "all"
        };
        format!(
            "Package: dracut-kiwi-{name}\nVersion: {full}\nArchitecture: {arch}\n\
             Maintainer: boxbuild\nSection: utils\nPriority: optional\nDepends: {depends}\n\
             Provides: kiwi-dracut-{name} (= {full})\nConflicts: kiwi-dracut-{name}\n\
             Replaces: kiwi-dracut-{name}\nHomepage: https://osinside.github.io/kiwi\n\
             Description: KIWI - dracut module: {what}\n Made of KIWI's source distribution.\n"
        )
    }
}

/// Returns a package's entry in the list of packages.
fn entry(control: &str, folder: &Path, file: &str) -> Result<String, SourceError> {
    let path = folder.join(file);
    let bytes = fs::read(&path).map_err(IoError::on("read", &path))?;
    Ok(format!(
        "{control}Filename: ./{file}\nSize: {}\nSHA256: {}\n\n",
        bytes.len(),
        sha256(&bytes)?
    ))
}

/// Writes the lists of a flat repository. Its packages are taken only where no other repository has one
/// of that name (apt_preferences(5): `NotAutomatic` with `ButAutomaticUpgrades` has priority 100), so
/// that those of the build service stay what they are.
fn write_index(folder: &Path, index: &str) -> Result<(), SourceError> {
    // apt wants a date; nothing is told by it.
    let release = format!(
        "Origin: boxbuild\nLabel: boxbuild\nDescription: KIWI's dracut modules\n\
         Date: Sat, 01 Jan 2000 00:00:00 UTC\n\
         NotAutomatic: yes\nButAutomaticUpgrades: yes\nSHA256:\n {} {} Packages\n",
        sha256(index.as_bytes())?,
        index.len()
    );
    for (name, content) in [("Packages", index), ("Release", release.as_str())] {
        write(folder, name, 0o644, content).map_err(IoError::on("write", folder))?;
    }
    Ok(())
}

/// Returns the SHA-256 of bytes in lower-case hex.
fn sha256(mut bytes: &[u8]) -> Result<String, SourceError> {
    let (_, hash) =
        digest::sha256(&mut bytes).map_err(IoError::on("read", Path::new("Packages")))?;
    Ok(hash)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use boxbuild_host::interrupt::Interrupt;

    use super::*;
    use crate::source::host::Host;

    /// Makes the repository of a source distribution with these modules.
    fn made(modules: &[&str]) -> Option<(tempfile::TempDir, Option<Repository>)> {
        let host = Host::check(&[]).unwrap();
        if host.find("dpkg-deb").is_none() {
            eprintln!("skipped: made: dpkg-deb is not installed");
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let source = dir.path().join("source");
        for module in modules {
            let folder = source.join(MODULES).join(module);
            fs::create_dir_all(&folder).unwrap();
            for file in ["module-setup.sh", "kiwi-x.sh", "Makefile"] {
                fs::write(folder.join(file), "#!/bin/sh\n").unwrap();
            }
        }
        let interrupt = Interrupt::default();
        let workshop = Workshop::new(dir.path().to_owned(), &host, &interrupt);
        let root = dir.path().join("root");
        let made = make(&workshop, &source, "11.1.6", Arch::host(), &root).unwrap();
        Some((dir, made))
    }

    /// A trixie image with `dracut-kiwi-*` or `kiwi-dracut-*` could not be built without the build
    /// service.
    #[test]
    fn modules_of_the_source_become_packages_of_both_names() {
        let modules = ["55kiwi-dump", "59kiwi-dump-reboot", "99kiwi-lib", "90other"];
        let Some((dir, made)) = made(&modules) else {
            return;
        };
        let described = made.unwrap().described;
        assert_eq!(
            described.packages,
            [
                "dracut-kiwi-lib",
                "kiwi-dracut-lib",
                "dracut-kiwi-oem-dump",
                "kiwi-dracut-oem-dump"
            ]
        );
        let folder = dir.path().join("root/usr/share/boxbuild/packages");
        let list = Command::new("dpkg-deb")
            .args(["--contents", "dracut-kiwi-oem-dump_11.1.6-1.deb"])
            .current_dir(&folder)
            .output()
            .unwrap();
        let list = String::from_utf8(list.stdout).unwrap();
        for file in [
            "./usr/lib/dracut/modules.d/55kiwi-dump/module-setup.sh",
            "./usr/lib/dracut/modules.d/59kiwi-dump-reboot/kiwi-x.sh",
        ] {
            let line = list.lines().find(|line| line.ends_with(file)).unwrap();
            assert!(line.starts_with("-rwxr-xr-x root/root"), "{line}");
        }
        assert!(!list.contains("Makefile"), "{list}");
        let index = fs::read_to_string(folder.join("Packages")).unwrap();
        assert!(index.contains("Provides: kiwi-dracut-lib (= 11.1.6-1)\n"));
        assert!(index.contains("Depends: dracut-kiwi-lib (= 11.1.6-1), gawk"));
        let release = fs::read_to_string(folder.join("Release")).unwrap();
        assert!(release.contains("NotAutomatic: yes\nButAutomaticUpgrades: yes\n"));
    }

    /// apt takes the repository as kiwi has it: a flat one, trusted.
    #[test]
    fn apt_reads_the_repository() {
        let Some((dir, _)) = made(&["59kiwi-lib", "55kiwi-repart"]) else {
            return;
        };
        let top = dir.path();
        if Command::new("apt-get").arg("--version").output().is_err() {
            eprintln!("skipped: apt_reads_the_repository: apt-get is not installed");
            return;
        }
        for folder in ["lists/partial", "cache/archives/partial", "parts"] {
            fs::create_dir_all(top.join(folder)).unwrap();
        }
        fs::write(top.join("status"), "").unwrap();
        let folder = top.join("root/usr/share/boxbuild/packages");
        let line = format!("deb [trusted=yes] file:{} ./\n", folder.display());
        fs::write(top.join("list"), line).unwrap();
        let config = format!(
            "Dir::Etc::sourcelist \"{0}/list\";\nDir::Etc::sourceparts \"{0}/parts\";\n\
             Dir::State::Lists \"{0}/lists\";\nDir::State::status \"{0}/status\";\n\
             Dir::Cache \"{0}/cache\";\nAPT::Sandbox::User \"root\";\n",
            top.display()
        );
        fs::write(top.join("config"), config).unwrap();
        let run = |program: &str, args: &[&str]| {
            let output = Command::new(program)
                .args(args)
                .env("APT_CONFIG", top.join("config"))
                .output()
                .unwrap();
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            let error = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success(), "{text}{error}");
            text
        };
        run("apt-get", &["update"]);
        let policy = run("apt-cache", &["policy", "dracut-kiwi-oem-repart"]);
        assert!(
            policy.contains("Candidate: 11.1.6-1") && policy.contains(" 100\n"),
            "{policy}"
        );
        let provided = run("apt-cache", &["showpkg", "kiwi-dracut-oem-repart"]);
        assert!(
            provided.contains("dracut-kiwi-oem-repart 11.1.6-1"),
            "{provided}"
        );
    }

    #[test]
    fn a_kiwi_without_modules_has_no_repository() {
        let Some((dir, made)) = made(&[]) else {
            return;
        };
        assert!(made.is_none() && !dir.path().join("root").exists());
    }

    #[test]
    fn the_verity_module_is_compiled_or_left_out_with_a_note() {
        let host = Host::check(&[]).unwrap();
        if host.find("dpkg-deb").is_none() {
            eprintln!(
                "skipped: the_verity_module_is_compiled_or_left_out_with_a_note: no dpkg-deb"
            );
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let folder = dir
            .path()
            .join("source")
            .join(MODULES)
            .join("50kiwi-verity");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("module-setup.sh"), "#!/bin/sh\n").unwrap();
        fs::write(folder.join("kiwi-parse-verity.c"), "not C").unwrap();
        let interrupt = Interrupt::default();
        let workshop = Workshop::new(dir.path().to_owned(), &host, &interrupt);
        let root = dir.path().join("root");
        let source = dir.path().join("source");
        let made = make(&workshop, &source, "11.1.6", Arch::host(), &root).unwrap();
        let made = made.unwrap();
        assert!(made.described.packages.is_empty());
        assert!(made.note.unwrap().contains("dracut-kiwi-verity"));
    }
}
