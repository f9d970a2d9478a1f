//! Names of boxes and of their files.

use boxbuild_host::arch::Arch;
use boxbuild_host::text::is_harmful;

use super::error::StoreError;

/// Checks that `name` can be the name of a box: at most 64 lower-case letters, digits, `.`, `_` and
/// `-`, beginning with a letter or digit.
///
/// # Errors
/// Fails with [`StoreError::BadName`].
pub fn check_name(name: &str) -> Result<(), StoreError> {
    let good = name.len() <= 64
        && name.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b));
    if good {
        Ok(())
    } else {
        Err(StoreError::BadName(name.to_owned()))
    }
}

/// Checks that `name` can be the name of a box's file: at most 200 bytes without separators and
/// control characters, which neither hide the file nor look like an option.
///
/// # Errors
/// Fails with the reason.
pub fn check_file_name(name: &str) -> Result<(), String> {
    let good = !name.is_empty()
        && name.len() <= 200
        && !name.starts_with(['.', '-'])
        && !name.contains(|c: char| c == '/' || is_harmful(c));
    if good {
        Ok(())
    } else {
        Err(format!(
            "'{}' is not a valid name for a file of a box",
            name.escape_debug()
        ))
    }
}

/// Returns the name in the store of the published box `name`. It always contains the architecture:
/// the folder `ROOT/NAME` may be kiwi's own cache, which has files of several architectures.
pub fn published_name(name: &str, arch: Arch) -> String {
    format!("{name}.{arch}")
}

/// Returns the name in the store of a box that was made on this host. A box of another architecture
/// than the host's contains it, so that one name selects the box of each architecture.
pub fn name_for(name: &str, arch: Arch) -> String {
    if arch == Arch::host() {
        name.to_owned()
    } else {
        format!("{name}.{arch}")
    }
}
