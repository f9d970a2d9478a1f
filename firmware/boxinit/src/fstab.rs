//! The box's own `/etc/fstab` (fstab(5)): file systems that belong to its root.

/// A mount that belongs to the box's system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// What to mount, in the form of `root=` ([`Root::parse`](crate::root::Root::parse)).
    pub source: String,
    /// Absolute path.
    pub target: String,
    /// Options of the file system, e.g. `subvol=@/var`.
    pub data: String,
}

/// Types of file systems that boxbuild's init mounts.
const TYPES: [&str; 7] = ["ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs", "auto"];

/// Options that mount(8) and systemd interpret, but no file system does.
const USER_SPACE_OPTIONS: [&str; 16] = [
    "defaults", "rw", "ro", "auto", "noauto", "nofail", "user", "nouser", "users", "exec", "suid",
    "dev", "async", "atime", "noatime", "relatime",
];

/// Mounts of file systems that hold parts of the system, in the table's order. File systems that
/// only the boot loader needs (`/boot`, `/efi`), that are not on a disk, or that are not mounted at
/// boot are left out.
pub fn mounts(table: &str) -> Vec<Mount> {
    table
        .lines()
        .filter_map(|line| {
            let mut fields = line.trim().split_ascii_whitespace();
            let source = fields.next().filter(|source| !source.starts_with('#'))?;
            let target = unescape(fields.next()?);
            let kind = fields.next()?;
            let options: Vec<&str> = fields.next().unwrap_or("defaults").split(',').collect();
            let boots = ["/boot", "/efi"]
                .iter()
                .any(|folder| target == *folder || target.starts_with(&format!("{folder}/")));
            let wanted = target.starts_with('/')
                && target.len() > 1
                && !target.split('/').any(|part| part == "..")
                && !boots
                && TYPES.contains(&kind)
                && !options.contains(&"noauto");
            wanted.then(|| Mount {
                source: unescape(source),
                target,
                data: options
                    .into_iter()
                    .filter(|option| {
                        !USER_SPACE_OPTIONS.contains(option) && !option.starts_with("x-")
                    })
                    .collect::<Vec<_>>()
                    .join(","),
            })
        })
        .collect()
}

/// Resolves the escapes of fstab(5), e.g. `\040` for a space.
fn unescape(field: &str) -> String {
    field
        .replace("\\040", " ")
        .replace("\\011", "\t")
        .replace("\\134", "\\")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_the_system_and_nothing_else() {
        let table = "\
# comment
UUID=12 / btrfs defaults 0 0
UUID=12 /var btrfs subvol=@/var,noatime,x-systemd.growfs 0 0
UUID=12 /usr/my\\040local btrfs subvol=@/local
UUID=AB /boot/efi vfat umask=0077 0 2
UUID=CD /boot ext4 defaults
/dev/vdb1 swap swap defaults 0 0
tmpfs /tmp tmpfs defaults 0 0
server:/x /mnt nfs defaults 0 0
UUID=EF /data ext4 noauto 0 0
UUID=EF /a/../../b ext4 defaults
short
";
        assert_eq!(
            mounts(table),
            [
                Mount {
                    source: "UUID=12".into(),
                    target: "/var".into(),
                    data: "subvol=@/var".into()
                },
                Mount {
                    source: "UUID=12".into(),
                    target: "/usr/my local".into(),
                    data: "subvol=@/local".into()
                }
            ]
        );
    }
}
