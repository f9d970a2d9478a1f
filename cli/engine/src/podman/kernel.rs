//! The host's kernel, which a container builds images with: the file systems that it can mount.

use std::fs;
use std::path::{Path, PathBuf};

use crate::unusable::Unusable;

/// What the kernel must have to build an image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KernelNeeds {
    /// The image type.
    pub image_type: String,
    /// File systems that it mounts, by the kernel's names.
    pub filesystems: Vec<String>,
    /// Volumes or encryption.
    pub device_mapper: bool,
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
        let mut missing: Vec<String> = self
            .filesystems
            .iter()
            .filter(|name| !kernel.may_mount(name))
            .map(|name| format!("the file system {name}"))
            .collect();
        if self.device_mapper && !kernel.may_map() {
            missing.push(String::from("the device mapper (dm_mod)"));
        }
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

    fn may_map(&self) -> bool {
        self.has_mapper || self.may_load("dm-mod")
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

    fn needs(names: &[&str], device_mapper: bool) -> KernelNeeds {
        KernelNeeds {
            image_type: String::from("oem"),
            filesystems: names.iter().map(|name| (*name).to_owned()).collect(),
            device_mapper,
        }
    }

    /// Builds of disks failed after ten minutes where the kernel had no vfat.
    #[test]
    fn a_file_system_that_the_kernel_lacks_is_named() {
        let root = root("nodev\tproc\n\text4\n", false);
        let check = |names: &[&str], mapper| needs(names, mapper).check_below(root.path());
        assert!(check(&["ext4"], false).is_ok());
        let Unusable(text) = check(&["ext4", "vfat"], true).unwrap_err();
        for word in [
            "oem",
            "the file system vfat and the device mapper",
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
        assert!(needs(&["vfat"], true).check_below(root.path()).is_ok());
        let folder = root.path().join("lib/modules/6.1");
        fs::create_dir_all(&folder).unwrap();
        fs::write(
            folder.join("modules.dep"),
            "kernel/fs/fat/vfat.ko.xz: kernel/fs/fat/fat.ko.xz\nkernel/drivers/md/dm-mod.ko:\n",
        )
        .unwrap();
        fs::write(folder.join("modules.builtin"), "kernel/fs/xfs/xfs.ko\n").unwrap();
        assert!(
            needs(&["vfat", "xfs"], true)
                .check_below(root.path())
                .is_ok()
        );
        assert!(needs(&["btrfs"], false).check_below(root.path()).is_err());
        assert!(needs(&["fat"], false).check_below(root.path()).is_err());
    }
}
