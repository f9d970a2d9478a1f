//! Names of results.

use std::ffi::OsStr;

use boxbuild_host::arch::Arch;
use boxbuild_host::text::is_harmful;

/// Why a name is not one of a result; `None` if it is.
pub(super) fn objection(name: &OsStr) -> Option<&'static str> {
    match name.to_str() {
        None => Some("its name is not UTF-8"),
        // The configuration of shells, git and others.
        Some(name) if name.starts_with('.') => Some("its name begins with a dot"),
        Some(name) if name.chars().any(is_harmful) => Some("its name has control characters"),
        Some(_) => None,
    }
}

/// Architectures in names of images that no box has.
const OTHERS: [&str; 8] = [
    "i586", "i686", "armv6l", "armv7l", "ppc64", "ppc64le", "s390x", "riscv64",
];

/// Whether kiwi gives such a name to a result: NAME.ARCH-VERSION-ID.SUFFIX (kiwi 11,
/// `kiwi/system/result.py` and `kiwi/tasks/result_bundle.py`), or that of its own notes.
pub(super) fn is_of_kiwi(name: &str) -> bool {
    let image = |arch: &str| {
        name.split_once(&format!(".{arch}-"))
            .is_some_and(|(image, version)| {
                !image.is_empty() && version.starts_with(|char: char| char.is_ascii_digit())
            })
    };
    let mut architectures = Arch::ALL.iter().map(|arch| arch.name()).chain(OTHERS);
    matches!(name, "kiwi.result" | "kiwi.result.json") || architectures.any(image)
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    #[test]
    fn names_of_results() {
        for good in ["image.raw", "größe", "a b", "result.log.xz", "x..y"] {
            assert_eq!(objection(good.as_ref()), None, "{good}");
        }
        for bad in [
            &b".bashrc"[..],
            b".",
            b"a\nb",
            b"\x1b[2J",
            b"a\x7f",
            b"\xff",
            "a\u{9b}".as_bytes(),
            "gpj\u{202e}.exe".as_bytes(),
        ] {
            assert!(objection(OsStr::from_bytes(bad)).is_some(), "{bad:?}");
        }
    }

    #[test]
    fn names_that_kiwi_gives() {
        for kiwi in [
            "LimeJeOS.x86_64-1.13.2-0.raw.xz",
            "LimeJeOS.x86_64-1.13.2-0.raw.xz.sha256",
            "mini.aarch64-1.0.0-0.packages",
            "kiwi.result.json",
        ] {
            assert!(is_of_kiwi(kiwi), "{kiwi}");
        }
        for other in [
            "notes.txt",
            "Makefile",
            "src",
            ".x86_64-1",
            "a.x86_64-",
            "a.x86_64-b",
        ] {
            assert!(!is_of_kiwi(other), "{other}");
        }
    }
}
