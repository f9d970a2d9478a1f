//! The host's loop devices, which disk images are built on.

use std::fs;
use std::path::Path;

use super::container::Mode;
use crate::unusable::Unusable;

/// What there is of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Loops {
    /// Device nodes.
    all: usize,
    /// Those that nothing is attached to.
    free: usize,
    /// The kernel makes new ones when they are asked for (`/dev/loop-control`).
    growing: bool,
    /// Names of free ones that still have partitions, of a disk that is gone: the next disk's
    /// cannot be added.
    stale: Vec<String>,
}

impl Loops {
    /// Counts them.
    pub(super) fn count() -> Loops {
        Loops::below(Path::new("/"))
    }

    fn below(root: &Path) -> Loops {
        let mut loops = Loops {
            all: 0,
            free: 0,
            growing: root.join("dev/loop-control").exists(),
            stale: Vec::new(),
        };
        let names = |folder: &Path| {
            let entries = fs::read_dir(folder).into_iter().flatten();
            let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
            names.collect::<Vec<_>>()
        };
        let is_number =
            |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        for name in names(&root.join("dev")) {
            if !name.strip_prefix("loop").is_some_and(is_number) {
                continue;
            }
            loops.all += 1;
            let device = root.join("sys/block").join(&name);
            if device.join("loop/backing_file").exists() {
                continue;
            }
            loops.free += 1;
            let partition = format!("{name}p");
            if names(&device)
                .iter()
                .any(|entry| entry.strip_prefix(&partition).is_some_and(is_number))
            {
                loops.stale.push(name);
            }
        }
        loops.stale.sort();
        loops
    }

    /// How they are, with the number of builds that they allow; one build of a disk image takes
    /// one at a time.
    ///
    /// # Errors
    /// Fails if no disk image can be built; the text says what to do.
    pub(super) fn examine(&self) -> Result<String, Unusable> {
        if let Some(device) = self.stale.first() {
            return Err(Unusable(format!(
                "/dev/{device} is free, but still has the partitions of a disk that is gone, \
                 which collide with those of the next one: remove them with \
                 'sudo partx --delete --nr 1: /dev/{device}'"
            )));
        }
        if self.free == 0 && !self.growing {
            return Err(Unusable(format!(
                "none of {} loop devices is free: load the module with 'sudo modprobe loop \
                 max_loop=64', or detach unused ones (losetup --list, losetup --detach)",
                self.all
            )));
        }
        let counted = format!("{} of {} are free", self.free, self.all);
        Ok(if self.growing {
            format!(
                "{counted}, and the kernel creates more on demand: they do not limit the number \
                 of builds"
            )
        } else {
            format!("{counted}: {} disk images can be built at once", self.free)
        })
    }
}

/// Refuses an image type that needs a loop device where none can be had.
pub(super) fn check(mode: Mode, image_type: &str) -> Result<(), Unusable> {
    if mode == Mode::Rootless {
        return Err(Unusable(format!(
            "the image type {image_type} needs loop devices, which a rootless container cannot \
             have: leave out --rootless, or build in a virtual machine (leave out --container)"
        )));
    }
    Loops::count().examine().map(drop).map_err(|Unusable(why)| {
        Unusable(format!(
            "the image type {image_type} needs a loop device: {why}"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loop_devices_are_counted() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        fs::create_dir_all(root.join("dev/loopx")).unwrap();
        for name in ["loop0", "loop1", "loop10", "loop1p1", "null"] {
            fs::write(root.join("dev").join(name), "").unwrap();
        }
        let attach = |name: &str| {
            let device = root.join("sys/block").join(name);
            fs::create_dir_all(device.join("loop")).unwrap();
            fs::write(device.join("loop/backing_file"), "/x\n").unwrap();
            fs::create_dir_all(device.join(format!("{name}p1"))).unwrap();
        };
        attach("loop1");
        let loops = Loops::below(root);
        let text = loops.examine().unwrap();
        assert!(
            text.contains("2 of 3") && text.contains("2 disk images"),
            "{text}"
        );
        attach("loop0");
        attach("loop10");
        let Unusable(text) = Loops::below(root).examine().unwrap_err();
        assert!(text.contains("none of 3"), "{text}");
        fs::write(root.join("dev/loop-control"), "").unwrap();
        let text = Loops::below(root).examine().unwrap();
        assert!(text.contains("creates more"), "{text}");
        // Detached without its partitions.
        fs::remove_file(root.join("sys/block/loop10/loop/backing_file")).unwrap();
        let Unusable(text) = Loops::below(root).examine().unwrap_err();
        assert!(text.contains("--nr 1: /dev/loop10"), "{text}");
    }

    #[test]
    fn a_disk_image_is_refused_without_root() {
        let Unusable(text) = check(Mode::Rootless, "oem").unwrap_err();
        assert!(
            text.contains("oem") && text.contains("leave out --rootless"),
            "{text}"
        );
    }
}
