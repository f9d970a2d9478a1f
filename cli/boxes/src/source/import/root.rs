//! A disk from a root tree or a container image.

use std::fs::{self, File};
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use super::layers::Tree;
use super::{Found, ImportError, ImportOptions, Material, io_error, oci};
use crate::source::debian::DiskMaker;
use crate::store::Staging;
use boxbuild_host::interrupt::Interrupt;
use boxbuild_host::reporter::Reporter;

/// Makes a raw disk of the root tree at `path`; says where it and the kernel are.
pub(super) fn make(
    options: &ImportOptions,
    path: &Path,
    staging: &Staging,
    interrupt: &Interrupt,
    progress: &mut dyn Reporter,
) -> Result<(Found, PathBuf), ImportError> {
    fs::metadata(path).map_err(io_error("read", path))?;
    let maker = DiskMaker::new(interrupt)?;
    let dir = staging.path().join("work");
    fs::create_dir(&dir).map_err(io_error("create", &dir))?;

    progress.begin("read the root tree");
    let is_image = matches!(options.material, Material::Oci(_));
    let layers = if is_image {
        oci::layers(path, options.arch, &dir.join("image"))?
    } else if path.is_dir() {
        let archive = dir.join("folder.tar");
        maker.pack_folder(path, &archive)?;
        vec![archive]
    } else {
        vec![path.to_owned()]
    };
    let tree = Tree::read(layers, is_image)?;
    let kernel = options.kernel.is_none().then(|| newest(&tree, is_kernel));
    let initrd = options.initrd.is_none().then(|| newest(&tree, is_initrd));
    if let Some(None) = kernel {
        return Err(ImportError::Option(format!(
            "there is no kernel in {} (boot/vmlinuz-*, usr/lib/modules/*/vmlinuz): name one with \
             --kernel",
            path.display()
        )));
    }
    let (kernel, initrd) = (kernel.flatten(), initrd.flatten());
    let (kernel_copy, initrd_copy) = (dir.join("kernel"), dir.join("initrd"));
    let mut copies = Vec::new();
    copies.extend(kernel.as_deref().map(|name| (name, kernel_copy.as_path())));
    copies.extend(initrd.as_deref().map(|name| (name, initrd_copy.as_path())));
    let tar = dir.join("root.tar");
    let out = File::create(&tar).map_err(io_error("create", &tar))?;
    tree.write(BufWriter::with_capacity(1 << 20, out), &copies)?;

    progress.begin("make the disk");
    maker.make_disk(&dir, options.disk_size)?;
    let found = Found {
        kernel: options.kernel.clone().unwrap_or(kernel_copy),
        initrd: options
            .initrd
            .clone()
            .or_else(|| initrd.is_some().then_some(initrd_copy)),
        root: Some("/dev/vda1"),
        work: Some(dir.clone()),
    };
    Ok((found, dir.join("disk.raw")))
}

/// The file that `wanted` is true of, of the newest version if there are several.
fn newest(tree: &Tree, wanted: fn(&str) -> bool) -> Option<Vec<u8>> {
    tree.files()
        .filter_map(|name| std::str::from_utf8(name).ok())
        .filter(|name| wanted(name))
        .max_by_key(|name| version(name))
        .map(|name| name.as_bytes().to_vec())
}

/// Kernels of Debian, Fedora, SUSE and Arch; on aarch64 and s390x they are called `Image`, `image`.
fn is_kernel(name: &str) -> bool {
    let boot = name.strip_prefix("boot/").is_some_and(|name| {
        !name.contains('/')
            && ["vmlinuz", "vmlinux-", "Image", "image"]
                .iter()
                .any(|begin| name.starts_with(begin))
            && ![".hmac", ".gz", ".old"]
                .iter()
                .any(|end| name.ends_with(end))
    });
    let modules = ["usr/lib/modules/", "lib/modules/"].iter().any(|begin| {
        name.strip_prefix(begin)
            .and_then(|rest| rest.split_once('/'))
            .is_some_and(|(_, file)| ["vmlinuz", "Image", "image"].contains(&file))
    });
    boot || modules
}

fn is_initrd(name: &str) -> bool {
    name.strip_prefix("boot/").is_some_and(|name| {
        !name.contains('/')
            && ["initrd", "initramfs"]
                .iter()
                .any(|begin| name.starts_with(begin))
            && !name.contains("kdump")
            && !name.contains("fallback")
            && !name.contains("rescue")
            && !name.ends_with(".old")
    })
}

/// The numbers in a name, by which versions are compared.
fn version(name: &str) -> Vec<u64> {
    name.split(|c: char| !c.is_ascii_digit())
        .filter_map(|number| number.parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_and_initrds() {
        for name in [
            "boot/vmlinuz-6.12.9-amd64",
            "boot/vmlinuz",
            "boot/Image-6.4.0-default",
            "usr/lib/modules/6.11.4-301.fc41.x86_64/vmlinuz",
        ] {
            assert!(is_kernel(name), "{name}");
        }
        for name in [
            "boot/config-6.1",
            "boot/x/vmlinuz-1",
            "boot/vmlinuz-1.hmac",
            "vmlinuz",
        ] {
            assert!(!is_kernel(name), "{name}");
        }
        assert!(is_initrd("boot/initrd.img-6.12.9-amd64"));
        assert!(is_initrd("boot/initramfs-6.11.4.img"));
        assert!(!is_initrd("boot/initrd-6.4.0-default-kdump"));
        assert!(version("boot/vmlinuz-6.12.9") > version("boot/vmlinuz-6.9.12"));
    }
}
