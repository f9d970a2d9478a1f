//! Words on the guest's kernel command line.

/// Leaves out the self-tests of the crypto algorithms: two thirds of a small guest's boot.
pub const NO_CRYPTO_TESTS: &str = "cryptomgr.notests=1";

/// Start-up functions of the kernel that do work of which a build sees nothing; one that a kernel
/// does not have is no error. Together a third of a small guest's boot:
///
/// - `jent_mod_init` tests the jitter random number generator (crypto/jitterentropy-kcapi.c);
///   there is the processor's, and virtio-rng.
/// - `trace_eval_init` puts numbers for names into the formats of some thousand trace events, and
///   `ftrace_check_for_weak_functions` looks up each function's name (kernel/trace): both serve
///   tracing of the kernel.
pub const NO_INITCALLS: &str =
    "initcall_blacklist=jent_mod_init,trace_eval_init,ftrace_check_for_weak_functions";

/// Puts the kernel into FIPS mode (Linux, crypto/fips.c). Its self-tests cannot be left out then.
pub const FIPS: &str = "fips=1";

/// Splits a command line into words as the kernel does (lib/cmdline.c, `next_arg`): at white space,
/// except within double quotes, which are taken off.
pub fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let (mut quoted, mut any) = (false, false);
    for char in line.chars() {
        match char {
            '"' => {
                quoted = !quoted;
                any = true;
            }
            char if char.is_ascii_whitespace() && !quoted => {
                if any {
                    words.push(std::mem::take(&mut word));
                }
                any = false;
            }
            char => {
                word.push(char);
                any = true;
            }
        }
    }
    if any {
        words.push(word);
    }
    words
}

/// The value of the last `name=…` among `words`: later ones win, as in the kernel.
pub fn value<'a>(words: &'a [String], name: &str) -> Option<&'a str> {
    words
        .iter()
        .rev()
        .find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
}

/// Whether `text` names a console that can stand on a kernel command line as `console=TEXT`: ASCII
/// letters, digits and commas, e.g. `hvc0` or `ttyS0,115200`.
pub fn is_console(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == ',')
}

/// Whether `text` is a version of KIWI that can stand on a kernel command line: a digit, then ASCII
/// letters, digits, `.`, `+` and `-`. The published boxes evaluate it in a shell.
pub fn is_kiwi_version(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_digit())
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || ".+-".contains(c))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn words_as_the_kernel_splits_them() {
        let line = "console=hvc0  root=LABEL=\"my root\" kiwi=\"--type oem\" quiet\n";
        let words = words(line);
        assert_eq!(
            words,
            [
                "console=hvc0",
                "root=LABEL=my root",
                "kiwi=--type oem",
                "quiet"
            ]
        );
        assert_eq!(value(&words, "root"), Some("LABEL=my root"));
        assert_eq!(value(&words, "quiet"), None);
        assert_eq!(value(&words, "roo"), None);
    }

    #[test]
    fn the_last_one_wins() {
        let words = words("root=/dev/vda1 root=/dev/vda2 empty=");
        assert_eq!(value(&words, "root"), Some("/dev/vda2"));
        assert_eq!(value(&words, "empty"), Some(""));
    }

    #[test]
    fn what_reaches_the_kernel_command_line_is_checked() {
        assert!(is_kiwi_version("10.2.33"));
        assert!(is_console("ttyS0,115200"));
        for bad in ["", "1 2", "1\"", "$(id)", "1_", "latest;"] {
            assert!(!is_kiwi_version(bad), "{bad}");
        }
        for bad in ["", "hvc0 init=/bin/sh", "\"", "a=b"] {
            assert!(!is_console(bad), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn a_checked_word_stays_one_word(text: String) {
            if is_console(&text) || is_kiwi_version(&text) {
                prop_assert_eq!(words(&text), [text.clone()]);
            }
        }
    }
}
