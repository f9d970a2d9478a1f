//! Checks of words for the kernel command line of a box.

/// Returns `text` if it is a version of KIWI that can stand on a box's kernel command line, where
/// the guest side evaluates it in a shell.
///
/// # Errors
/// Fails with the reason, which names the option.
pub fn checked_version(text: &str) -> Result<&str, String> {
    let good = !text.is_empty()
        && text.starts_with(|c: char| c.is_ascii_digit())
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || ".+-".contains(c));
    if good {
        Ok(text)
    } else {
        Err(format!(
            "--kiwi-version {text}: not a version: write e.g. 10.2.33"
        ))
    }
}

/// Returns `text` if it is a console that can stand on a kernel command line.
///
/// # Errors
/// Fails with the reason, which names the option.
pub fn checked_console(text: &str) -> Result<&str, String> {
    let good = !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == ',');
    if good {
        Ok(text)
    } else {
        Err(format!(
            "--box-console {text}: not a console: write e.g. hvc0 or ttyS0"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_reaches_the_kernel_command_line_is_checked() {
        assert!(checked_version("10.2.33").is_ok());
        assert!(checked_console("ttyS0,115200").is_ok());
        for bad in ["", "1 2", "1\"", "$(id)", "1_", "latest;"] {
            assert!(checked_version(bad).is_err(), "{bad}");
        }
        for bad in ["", "hvc0 init=/bin/sh", "\"", "a=b"] {
            assert!(checked_console(bad).is_err(), "{bad}");
        }
    }
}
