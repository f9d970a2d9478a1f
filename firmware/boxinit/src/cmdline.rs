//! The kernel command line as the guest reads it.

/// The words of a command line, as the kernel splits them (lib/cmdline.c, `next_arg`): at
/// white space, except within double quotes, which are taken off.
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

#[cfg(test)]
mod tests {
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
}
