//! File names that come from a guest.

use std::ffi::CStr;

/// The longest file name in bytes (`NAME_MAX`, Linux `uapi/linux/limits.h`).
const NAME_MAX: usize = 255;

/// One component of a path, checked: it can only name a directory's own entry.
///
/// A [`FileSystem`](super::filesystem::FileSystem) gets names only in this form. It is never
/// empty, `.` or `..`, has no `/` and no NUL, and is at most 255 bytes long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Name<'a>(&'a CStr);

impl<'a> Name<'a> {
    /// Checks a name.
    ///
    /// # Errors
    /// As errno numbers: `EINVAL` if it cannot be a directory's own entry, `ENAMETOOLONG` above
    /// 255 bytes.
    pub fn new(name: &'a CStr) -> Result<Self, i32> {
        let bytes = name.to_bytes();
        match bytes {
            b"" | b"." | b".." => Err(libc::EINVAL),
            _ if bytes.contains(&b'/') => Err(libc::EINVAL),
            _ if bytes.len() > NAME_MAX => Err(libc::ENAMETOOLONG),
            _ => Ok(Self(name)),
        }
    }

    /// Accepts any name. For the test that the second line of defence holds alone.
    #[cfg(any(test, feature = "unchecked-names"))]
    #[doc(hidden)]
    pub fn unchecked(name: &'a CStr) -> Self {
        Self(name)
    }

    /// Returns the name with its NUL, for system calls.
    pub fn as_c_str(self) -> &'a CStr {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn entries_of_a_directory_pass() {
        for name in [c"a", c"...", c".hidden", c"..a", c"with space", c"\xff\xfe"] {
            assert_eq!(Name::new(name).map(Name::as_c_str), Ok(name));
        }
    }

    #[test]
    fn everything_else_is_refused() {
        for name in [
            c"",
            c".",
            c"..",
            c"/",
            c"a/b",
            c"../a",
            c"a/",
            c"/etc/passwd",
        ] {
            assert_eq!(Name::new(name), Err(libc::EINVAL), "{name:?}");
        }
    }

    #[test]
    fn the_limit_is_255_bytes() {
        let name = |len| std::ffi::CString::new(vec![b'x'; len]).unwrap();
        assert!(Name::new(&name(255)).is_ok());
        assert_eq!(Name::new(&name(256)), Err(libc::ENAMETOOLONG));
    }

    proptest! {
        #[test]
        fn no_accepted_name_is_a_path(bytes in proptest::collection::vec(1_u8.., 0..300)) {
            let name = std::ffi::CString::new(bytes).unwrap();
            if let Ok(name) = Name::new(&name) {
                let path = std::path::Path::new(name.as_c_str().to_str().unwrap_or("x"));
                prop_assert_eq!(path.components().count(), 1);
                prop_assert!(!name.as_c_str().to_bytes().contains(&b'/'));
            }
        }
    }
}
