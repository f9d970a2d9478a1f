//! The configuration of initramfs-tools, which makes the box's initial ramdisk.

use std::path::Path;

use super::files::write;

/// Modules in the initial ramdisk: the devices of boxbuild's machines.
const INITRD_MODULES: &[&str] = &[
    "virtio_pci",
    "virtio_blk",
    "virtio_net",
    "virtio_console",
    "virtio_rng",
    "virtio_balloon",
    "virtiofs",
    "ext4",
    "crc32c_generic",
    "9pnet_virtio",
    "9p",
];

/// Configuration that must be in place before the kernel package makes the initial ramdisk.
const INITRAMFS_CONF: &str =
    "MODULES=list\nBUSYBOX=y\nCOMPRESS=zstd\nCOMPRESSLEVEL=3\nFSTYPE=ext4\nRESUME=none\n";

/// Script that the initial ramdisk's /init sources before anything else. The console's driver is a
/// module, so the kernel starts /init without an open file, and no device would ever be found
/// (docs/vmm.md, "A console that comes late"). `exec` would end the shell if it failed, so it is
/// tried in another one first.
const CONSOLE_FIRST: &str = "\
modprobe -q virtio_pci
modprobe -q virtio_console
stdio=/dev/null
for try in 1 2 3 4 5 6 7 8 9 10; do
    if (: </dev/console) 2>/dev/null; then
        stdio=/dev/console
        break
    fi
    sleep 0.1
done
exec <$stdio >$stdio 2>&1
";

/// Writes the files that must be in place before packages are configured to the folder `dir`.
pub(super) fn write_early(dir: &Path) -> std::io::Result<()> {
    write(
        dir,
        "etc/initramfs-tools/conf.d/boxbuild",
        0o644,
        INITRAMFS_CONF,
    )?;
    let hook = format!(
        "#!/bin/sh\n[ \"$1\" != prereqs ] || exit 0\n. /usr/share/initramfs-tools/hook-functions\n\
         manual_add_modules {}\n\
         mkdir -p \"$DESTDIR/conf/conf.d\"\n\
         cat >\"$DESTDIR/conf/conf.d/boxbuild-console\" <<'END'\n{CONSOLE_FIRST}END\n",
        INITRD_MODULES.join(" ")
    );
    write(dir, "etc/initramfs-tools/hooks/boxbuild", 0o755, &hook)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn the_shell_parses_the_scripts() {
        let dir = tempfile::tempdir().unwrap();
        write_early(dir.path()).unwrap();
        let hook = dir.path().join("etc/initramfs-tools/hooks/boxbuild");
        let part = dir.path().join("part");
        std::fs::write(&part, CONSOLE_FIRST).unwrap();
        for script in [hook, part] {
            let status = Command::new("sh").arg("-n").arg(script).status().unwrap();
            assert!(status.success());
        }
    }
}
