//! What is typed over a serial line, and what is waited for.
//!
//! One command a line; empty lines and those that begin with `#` are ignored.
//!
//! | | |
//! |---|---|
//! | `expect REGEX` | waits for it in what the guest has written since the last match |
//! | `send TEXT` | types the text and Enter |
//! | `type TEXT` | types the text alone |
//! | `send-env NAME`, `type-env NAME` | the same with the value of a variable: a password |
//! | `wait TIME` | waits |
//! | `timeout TIME` | how long each `expect` below may take |
//!
//! In texts, `\n \r \t \e \\ \xNN` are what they are in C.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use regex::Regex;

/// Most lines of a script.
const MOST: usize = 10_000;
/// How long an `expect` may take unless the script says otherwise.
const PATIENCE: Duration = Duration::from_secs(120);

/// A step.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    /// Something is to be seen.
    Expect {
        pattern: Regex,
        /// How long it may take; `None` for as long as all may.
        patience: Option<Duration>,
        /// Its line in the script; 0 is the command line.
        line: usize,
    },
    /// Something is typed.
    Type(Vec<u8>),
    /// Time goes by.
    Wait(Duration),
}

/// Something is wrong with a script.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub(crate) struct ScriptError {
    /// The line, from 1.
    pub(crate) line: usize,
    /// What is wrong.
    pub(crate) problem: String,
}

/// What a script types that must not be shown.
#[derive(Debug, Default)]
pub(crate) struct Script {
    pub(crate) steps: Vec<Step>,
    /// Values of variables.
    pub(crate) secrets: Vec<String>,
}

/// Reads a script; `variable` looks up variables.
pub(crate) fn parse(
    text: &str,
    variable: impl Fn(&str) -> Option<std::ffi::OsString>,
) -> Result<Script, ScriptError> {
    let mut script = Script::default();
    let mut patience = PATIENCE;
    for (number, line) in text.lines().enumerate() {
        let number = number + 1;
        let wrong = |problem: String| ScriptError {
            line: number,
            problem,
        };
        if number > MOST {
            return Err(wrong(format!("a script has at most {MOST} lines")));
        }
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (command, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let step = match command {
            "expect" => {
                let pattern = pattern(rest).map_err(wrong)?;
                Step::Expect {
                    pattern,
                    patience: Some(patience),
                    line: number,
                }
            }
            "send" => Step::Type(typed(rest, true).map_err(wrong)?),
            "type" => Step::Type(typed(rest, false).map_err(wrong)?),
            "send-env" | "type-env" => {
                let name = rest.trim();
                let value = variable(name).ok_or_else(|| {
                    wrong(format!("the environment variable '{name}' is not set"))
                })?;
                script.secrets.push(value.to_string_lossy().into_owned());
                let mut bytes = OsStr::as_bytes(&value).to_vec();
                if command == "send-env" {
                    bytes.push(b'\r');
                }
                Step::Type(bytes)
            }
            "wait" => Step::Wait(time(rest).map_err(wrong)?),
            "timeout" => {
                patience = time(rest).map_err(wrong)?;
                continue;
            }
            other => {
                return Err(wrong(format!(
                    "'{other}' is no command; there are expect, send, type, send-env, type-env, wait, \
                     timeout"
                )));
            }
        };
        script.steps.push(step);
    }
    Ok(script)
}

/// Compiles a regular expression, in which `^` and `$` are the ends of lines.
pub(crate) fn pattern(text: &str) -> Result<Regex, String> {
    if text.is_empty() {
        return Err(String::from("what is expected is missing"));
    }
    regex::RegexBuilder::new(text)
        .multi_line(true)
        .size_limit(4 << 20)
        .build()
        .map_err(|error| {
            let text = error.to_string();
            let last = text.lines().last().unwrap_or_default();
            format!(
                "not a regular expression: {}",
                last.trim_start_matches("error: ")
            )
        })
}

fn time(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    let seconds = text.parse().map(Duration::from_secs);
    let time = seconds
        .ok()
        .or_else(|| humantime::parse_duration(text).ok());
    time.filter(|time| *time <= Duration::from_secs(24 * 3600))
        .ok_or_else(|| format!("'{text}' is not a time up to a day: write e.g. 90 (seconds) or 5m"))
}

/// The bytes of a text.
fn typed(text: &str, enter: bool) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let mut chars = text.chars();
    while let Some(char) = chars.next() {
        if char != '\\' {
            let mut buffer = [0; 4];
            bytes.extend_from_slice(char.encode_utf8(&mut buffer).as_bytes());
            continue;
        }
        match chars.next() {
            Some('n') => bytes.push(b'\n'),
            Some('r') => bytes.push(b'\r'),
            Some('t') => bytes.push(b'\t'),
            Some('e') => bytes.push(0x1b),
            Some('\\') => bytes.push(b'\\'),
            Some('x') => {
                let digits: String = chars.by_ref().take(2).collect();
                let byte = u8::from_str_radix(&digits, 16).ok();
                let byte = byte.filter(|_| digits.len() == 2);
                bytes.push(byte.ok_or_else(|| format!("'\\x{digits}' is not a byte"))?);
            }
            other => {
                let other = other.map_or_else(String::new, String::from);
                return Err(format!("'\\{other}' has no meaning; a backslash is '\\\\'"));
            }
        }
    }
    if enter {
        bytes.push(b'\r');
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Script, ScriptError> {
        parse(text, |name| (name == "PASSWORD").then(|| "s3cret".into()))
    }

    #[test]
    fn a_script_is_read() {
        let text = "# log in\nsend root\n\nexpect [Pp]assword:\nsend-env PASSWORD\ntimeout 5m\n  expect ^#\n\
                    type \\x04\\e[A\\\\\nwait 1s\n";
        let script = read(text).unwrap();
        assert_eq!(script.steps.len(), 6);
        assert!(matches!(&script.steps[0], Step::Type(bytes) if bytes == b"root\r"));
        assert!(matches!(&script.steps[2], Step::Type(bytes) if bytes == b"s3cret\r"));
        let Step::Expect { patience, line, .. } = &script.steps[3] else {
            panic!("{:?}", script.steps[3]);
        };
        assert_eq!((*patience, *line), (Some(Duration::from_secs(300)), 7));
        assert!(matches!(&script.steps[4], Step::Type(bytes) if bytes == b"\x04\x1b[A\\"));
        assert_eq!(script.secrets, ["s3cret"]);
    }

    #[test]
    fn mistakes_are_told_with_their_lines() {
        for (text, line, words) in [
            ("\nsned x", 2, "no command"),
            ("expect (", 1, "not a regular expression"),
            ("expect", 1, "missing"),
            ("wait long", 1, "not a time"),
            ("send \\q", 1, "has no meaning"),
            ("send-env NONE", 1, "not set"),
        ] {
            let error = read(text).unwrap_err();
            assert_eq!(error.line, line, "{text}");
            assert!(error.problem.contains(words), "{error}");
        }
    }
}
