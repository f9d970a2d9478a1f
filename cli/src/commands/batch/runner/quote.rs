//! Words for the shell of another host, to which ssh hands them as one text.

/// Returns a word such that sh, bash, zsh, fish and csh read it as it is; `None` if it has the end of a
/// line or a zero byte, which not all of them can be told.
pub(super) fn quote(word: &str) -> Option<String> {
    if word.contains(['\n', '\r', '\0']) {
        return None;
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || "_./:@%+,-=".contains(c);
    // csh and zsh have a meaning for = at the beginning of a word.
    if !word.is_empty() && word.chars().all(plain) && !word.starts_with('=') {
        return Some(word.to_owned());
    }
    let mut quoted = String::new();
    let mut open = false;
    for char in word.chars() {
        // Special between single quotes: ' everywhere, \ in fish, ! in csh.
        let special = ['\'', '\\', '!'].contains(&char);
        if special == open {
            quoted.push('\'');
            open = !open;
        }
        if special {
            quoted.push('\\');
        }
        quoted.push(char);
    }
    if open {
        quoted.push('\'');
    }
    Some(if quoted.is_empty() {
        String::from("''")
    } else {
        quoted
    })
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn shells_read_words_as_they_are() {
        let words = [
            "plain",
            "",
            "two words",
            "it's",
            "a\\'b",
            "back\\slash",
            "\\\\",
            "!now!",
            "$HOME `id` $(id)",
            "*?[a]{b,c}~",
            "~",
            "=ls",
            "#",
            "ü\u{1f4e6}",
            "\"",
            "a;b|c&d>e<f",
            "\t",
            "-x",
            "'",
            "''",
        ];
        for shell in ["sh", "bash", "dash", "zsh", "fish", "csh", "tcsh"] {
            let quoted: Vec<String> = words.iter().map(|word| quote(word).unwrap()).collect();
            let line = format!("printf '<%s>\\n' {}", quoted.join(" "));
            let Ok(output) = Command::new(shell).args(["-c", &line]).output() else {
                continue;
            };
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            let expected: String = words.iter().map(|word| format!("<{word}>\n")).collect();
            assert_eq!(text, expected, "{shell}");
        }
        assert_eq!(quote("a\nb"), None);
        assert_eq!(quote("a\0b"), None);
    }
}
