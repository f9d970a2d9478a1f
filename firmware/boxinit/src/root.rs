//! The kernel parameter `root=` as initial ramdisks understand it (dracut.cmdline(7),
//! initramfs-tools(7)).

/// A device that holds a root file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Root {
    /// A block device, by its name in /dev.
    Device(String),
    /// The file system with this label.
    Label(String),
    /// The file system with this UUID, in lower case.
    Uuid(String),
    /// The partition with this UUID (GPT) or disk signature and number (DOS), in lower case.
    PartUuid(String),
    /// The partition with this name (GPT).
    PartLabel(String),
}

impl Root {
    /// Parses the value of `root=`.
    ///
    /// # Errors
    /// If boxbuild's init cannot mount it; only the box's own ramdisk can. The text says why.
    pub fn parse(value: Option<&str>) -> Result<Root, String> {
        let value = value.unwrap_or_default();
        let value = value.strip_prefix("block:").unwrap_or(value);
        if value.is_empty() {
            return Err(String::from("the kernel command line names no root="));
        }
        for (prefix, make) in PREFIXES {
            if let Some(rest) = value.strip_prefix(prefix) {
                return Ok(make(&unescape(rest)));
            }
        }
        match value.strip_prefix("/dev/") {
            Some(name) if !name.is_empty() && !name.contains('/') => {
                Ok(Root::Device(name.to_owned()))
            }
            Some(_) => Err(format!(
                "the root {value} is a volume of the device mapper (LVM, LUKS)"
            )),
            None => Err(format!("the root {value} is not a block device")),
        }
    }
}

impl std::fmt::Display for Root {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (kind, value) = match self {
            Root::Device(name) => ("/dev/", name),
            Root::Label(label) => ("LABEL=", label),
            Root::Uuid(uuid) => ("UUID=", uuid),
            Root::PartUuid(uuid) => ("PARTUUID=", uuid),
            Root::PartLabel(label) => ("PARTLABEL=", label),
        };
        write!(f, "{kind}{value}")
    }
}

type Make = fn(&str) -> Root;

const PREFIXES: [(&str, Make); 8] = [
    ("LABEL=", |text| Root::Label(text.to_owned())),
    ("/dev/disk/by-label/", |text| Root::Label(text.to_owned())),
    ("UUID=", |text| Root::Uuid(text.to_ascii_lowercase())),
    ("/dev/disk/by-uuid/", |text| {
        Root::Uuid(text.to_ascii_lowercase())
    }),
    ("PARTUUID=", |text| {
        Root::PartUuid(text.to_ascii_lowercase())
    }),
    ("/dev/disk/by-partuuid/", |text| {
        Root::PartUuid(text.to_ascii_lowercase())
    }),
    ("PARTLABEL=", |text| Root::PartLabel(text.to_owned())),
    ("/dev/disk/by-partlabel/", |text| {
        Root::PartLabel(text.to_owned())
    }),
];

/// Resolves udev's escapes of special characters in names, e.g. `\x20`. They occur in `root=LABEL=`,
/// too.
fn unescape(text: &str) -> String {
    let mut out = Vec::new();
    let mut bytes = text.as_bytes();
    while let [first, rest @ ..] = bytes {
        let code = match rest {
            [b'x', high, low, ..] if *first == b'\\' => {
                let digits = [*high, *low];
                std::str::from_utf8(&digits)
                    .ok()
                    .and_then(|digits| u8::from_str_radix(digits, 16).ok())
            }
            _ => None,
        };
        out.push(code.unwrap_or(*first));
        bytes = if code.is_some() { &rest[3..] } else { rest };
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_of_root() {
        for (text, root) in [
            ("/dev/vda1", Root::Device("vda1".into())),
            ("block:/dev/vda1", Root::Device("vda1".into())),
            ("LABEL=my root", Root::Label("my root".into())),
            ("/dev/disk/by-label/a\\x20b", Root::Label("a b".into())),
            ("UUID=AB-cd", Root::Uuid("ab-cd".into())),
            ("PARTUUID=0F-01", Root::PartUuid("0f-01".into())),
            (
                "/dev/disk/by-partlabel/p.lx",
                Root::PartLabel("p.lx".into()),
            ),
        ] {
            assert_eq!(Root::parse(Some(text)), Ok(root), "{text}");
        }
    }

    #[test]
    fn roots_that_only_the_boxs_own_ramdisk_mounts() {
        for text in [
            None,
            Some(""),
            Some("/dev/mapper/system-root"),
            Some("/dev/system/root"),
            Some("/dev/"),
            Some("live:CDLABEL=x"),
            Some("nfs:10.0.0.1:/x"),
            Some("zfs:AUTO"),
            Some("overlay:UUID=x"),
        ] {
            assert!(Root::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn escapes() {
        assert_eq!(unescape("a\\x2fb\\x2"), "a/b\\x2");
        assert_eq!(unescape("\\\\x20"), "\\ ");
    }
}
