//! The host's kernel, which a container builds images with: what it can mount and map.

use std::fs;
use std::path::{Path, PathBuf};

use crate::unusable::Unusable;

/// What the kernel must have to build an image, each with the part of the description that asks for it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KernelNeeds {
    /// The image type.
    pub image_type: String,
    /// File systems that it mounts, by the kernel's names.
    pub filesystems: Vec<(String, String)>,
    /// What is between them and the disk.
    pub features: Vec<(KernelFeature, String)>,
}

/// What is between a file system and the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KernelFeature {
    /// Logical volumes.
    Volumes,
    /// LUKS.
    Encryption,
    /// Checksums of blocks.
    Integrity,
    /// RAID 1.
    Mirror,
    /// RAID 0.
    Stripes,
}

impl KernelFeature {
    /// Its name for the user, and its module's.
    fn names(self) -> (&'static str, &'static str) {
        match self {
            KernelFeature::Volumes => ("the device mapper", "dm-mod"),
            KernelFeature::Encryption => ("encryption", "dm-crypt"),
            KernelFeature::Integrity => ("integrity", "dm-integrity"),
            KernelFeature::Mirror => ("mirrors", "raid1"),
            KernelFeature::Stripes => ("stripes", "raid0"),
        }
    }
}

impl KernelNeeds {
    /// Checks the kernel of this host.
    ///
    /// # Errors
    /// Fails if it certainly lacks something: what it may load as a module is left to it.
    pub fn check(&self) -> Result<(), Unusable> {
        self.check_below(Path::new("/"))
    }

    fn check_below(&self, root: &Path) -> Result<(), Unusable> {
        let kernel = Kernel::below(root);
        let filesystems = self.filesystems.iter();
        let mut missing: Vec<String> = filesystems
            .filter(|(name, _)| !kernel.may_mount(name))
            .map(|(name, why)| format!("the file system {name} ({why})"))
            .collect();
        let features = self.features.iter();
        missing.extend(
            features
                .filter(|(feature, _)| !kernel.may_have(*feature))
                .map(|(feature, why)| {
                    let (name, module) = feature.names();
                    format!("{name} ({module}, for {why})")
                }),
        );
        if missing.is_empty() {
            return Ok(());
        }
        Err(Unusable(format!(
            "the image type {} needs {}, which the kernel of this host has neither built in nor as a \
             module: build in a virtual machine (leave out --container)",
            self.image_type,
            missing.join(" and ")
        )))
    }
}

/// What is known of the running kernel.
struct Kernel {
    filesystems: String,
    /// Lists of modules, built in or not; `None` if there may be modules that cannot be seen from here.
    modules: Option<String>,
    has_mapper: bool,
    /// `/proc/mdstat`, whose first line has the levels that are there.
    raid: Option<String>,
    /// Names of modules that are loaded, or built in and have parameters.
    loaded: Vec<String>,
}

impl Kernel {
    fn below(root: &Path) -> Kernel {
        let read = |path: &str| fs::read_to_string(root.join(path)).ok();
        let release = read("proc/sys/kernel/osrelease").unwrap_or_default();
        let folders = [
            "lib/modules",
            "usr/lib/modules",
            "run/booted-system/kernel-modules/lib/modules",
        ];
        let folders = folders.map(|folder| root.join(folder).join(release.trim()));
        let lists: Vec<String> = folders
            .iter()
            .flat_map(|folder| ["modules.dep", "modules.builtin"].map(|name| folder.join(name)))
            .filter_map(|path: PathBuf| fs::read_to_string(path).ok())
            .collect();
        // A kernel without modules has no such file.
        let takes_modules = root.join("proc/modules").exists();
        let modules = if takes_modules && lists.is_empty() {
            None
        } else {
            Some(lists.concat())
        };
        Kernel {
            filesystems: read("proc/filesystems").unwrap_or_default(),
            modules,
            has_mapper: root.join("sys/module/dm_mod").exists()
                || read("proc/misc").is_some_and(|text| text.contains("device-mapper")),
            raid: read("proc/mdstat"),
            loaded: fs::read_dir(root.join("sys/module"))
                .into_iter()
                .flatten()
                .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
                .collect(),
        }
    }

    fn may_mount(&self, name: &str) -> bool {
        self.filesystems.is_empty()
            || self
                .filesystems
                .lines()
                .any(|line| line.split_ascii_whitespace().last() == Some(name))
            || self.may_load(name)
    }

    fn may_have(&self, feature: KernelFeature) -> bool {
        let (_, module) = feature.names();
        if self.may_load(module) || self.loaded.contains(&module.replace('-', "_")) {
            return true;
        }
        match feature {
            KernelFeature::Volumes => self.has_mapper,
            // Without lists of modules, it is not known what is built in.
            KernelFeature::Encryption | KernelFeature::Integrity => {
                self.has_mapper && self.modules.as_deref() == Some("")
            }
            KernelFeature::Mirror | KernelFeature::Stripes => {
                let level = format!("[{module}]");
                self.raid.as_ref().is_some_and(|text| text.contains(&level))
            }
        }
    }

    fn may_load(&self, module: &str) -> bool {
        let Some(modules) = &self.modules else {
            return true;
        };
        let file = format!("/{module}.ko");
        modules.lines().any(|line| {
            let path = line.split(':').next().unwrap_or_default();
            path.rsplit_once(&file)
                .is_some_and(|(_, rest)| rest.is_empty() || rest.starts_with('.'))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root(filesystems: &str, with_modules: bool) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("proc/sys/kernel/osrelease", "6.1\n");
        write("proc/filesystems", filesystems);
        if with_modules {
            write("proc/modules", "");
        }
        root
    }

    fn needs(names: &[&str], features: &[KernelFeature]) -> KernelNeeds {
        let with = |text: &str| (text.to_owned(), String::from("filesystem=\"x\""));
        KernelNeeds {
            image_type: String::from("oem"),
            filesystems: names.iter().map(|name| with(name)).collect(),
            features: features
                .iter()
                .map(|feature| (*feature, String::from("luks")))
                .collect(),
        }
    }

    /// Builds of disks failed after ten minutes where the kernel had no vfat.
    #[test]
    fn a_file_system_that_the_kernel_lacks_is_named() {
        let root = root("nodev\tproc\n\text4\n", false);
        let check = |names: &[&str], features: &[KernelFeature]| {
            needs(names, features).check_below(root.path())
        };
        assert!(check(&["ext4"], &[]).is_ok());
        let Unusable(text) = check(&["ext4", "vfat"], &[KernelFeature::Volumes]).unwrap_err();
        for word in [
            "oem",
            "the file system vfat (filesystem=\"x\") and the device mapper (dm-mod, for luks)",
            "--container",
        ] {
            assert!(text.contains(word), "{text}");
        }
        assert!(!text.contains("ext4"), "{text}");
    }

    #[test]
    fn a_module_counts_and_doubt_does_too() {
        let root = root("\text4\n", true);
        // The modules are somewhere else, as in a container.
        let volumes = [KernelFeature::Volumes];
        assert!(needs(&["vfat"], &volumes).check_below(root.path()).is_ok());
        let folder = root.path().join("lib/modules/6.1");
        fs::create_dir_all(&folder).unwrap();
        fs::write(
            folder.join("modules.dep"),
            "kernel/fs/fat/vfat.ko.xz: kernel/fs/fat/fat.ko.xz\nkernel/drivers/md/dm-mod.ko:\n",
        )
        .unwrap();
        fs::write(folder.join("modules.builtin"), "kernel/fs/xfs/xfs.ko\n").unwrap();
        assert!(
            needs(&["vfat", "xfs"], &volumes)
                .check_below(root.path())
                .is_ok()
        );
        assert!(needs(&["btrfs"], &[]).check_below(root.path()).is_err());
        assert!(needs(&["fat"], &[]).check_below(root.path()).is_err());
    }
    /// A kernel with the device mapper, but without dm-crypt or a level of md, failed in kiwi.
    #[test]
    fn what_is_between_file_system_and_disk_counts() {
        use KernelFeature::{Encryption, Integrity, Mirror, Stripes, Volumes};
        let root = root("\text4\n", false);
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let has = |feature| needs(&[], &[feature]).check_below(root.path()).is_ok();
        let all = [Volumes, Encryption, Integrity, Mirror, Stripes];
        assert_eq!(all.map(has), [false; 5]);
        // All is built in, and what else is, is not known.
        write("proc/misc", "236 device-mapper\n");
        write("proc/mdstat", "Personalities : [raid1] [raid10]\n");
        assert_eq!(all.map(has), [true, true, true, true, false]);
        // It is known.
        write("proc/modules", "");
        write(
            "lib/modules/6.1/modules.builtin",
            "kernel/drivers/md/dm-mod.ko\n",
        );
        write(
            "lib/modules/6.1/modules.dep",
            "kernel/drivers/md/raid0.ko.xz:\n",
        );
        assert_eq!(all.map(has), [true, false, false, true, true]);
        write("sys/module/dm_crypt/version", "");
        assert!(has(Encryption));
    }
}
