//! Words as bash has them: broken at `=` and `:`, with quotes, and to be quoted again.

use std::ffi::OsString;

use super::line::Line;

/// Characters that are words of their own in bash (`COMP_WORDBREAKS`).
const BREAKS: [char; 2] = ['=', ':'];

/// Returns the line with whole words. What stands before the last break of the word that is completed
/// is not replaced by bash.
pub(super) fn join(words: &[OsString], index: usize) -> Line {
    let mut whole: Vec<String> = Vec::new();
    let mut current = 0;
    let mut kept = String::new();
    // Whether the next word continues the last one.
    let mut open = false;
    for (number, word) in words.iter().enumerate() {
        let word = word.to_string_lossy();
        let is_break = !word.is_empty() && word.chars().all(|char| BREAKS.contains(&char));
        let joins = number > 1 && (is_break || (open && !word.starts_with("--")));
        if number == index {
            kept = match whole.last() {
                Some(last) if joins && is_break => last.clone() + &word,
                Some(last) if joins => last.clone(),
                _ => String::new(),
            };
        }
        match whole.last_mut() {
            Some(last) if joins => *last += &word,
            _ => whole.push(word.into_owned()),
        }
        open = is_break;
        if number <= index {
            current = whole.len().saturating_sub(1);
        }
    }
    if index >= words.len() {
        whole.push(String::new());
        current = whole.len() - 1;
    }
    let whole: Vec<OsString> = whole.iter().map(|word| unquoted(word).into()).collect();
    Line {
        kept: unquoted(&kept),
        ..Line::new(&whole, current)
    }
}

/// Returns a word as the program would get it; of one whose quotes are still open, what is there.
fn unquoted(word: &str) -> String {
    for end in ["", "'", "\""] {
        if let Ok(words) = shell_words::split(&format!("{word}{end}"))
            && words.len() <= 1
        {
            return words.into_iter().next().unwrap_or_default();
        }
    }
    word.to_owned()
}

/// Returns a word as it is typed in bash.
pub(super) fn quoted(word: &str) -> String {
    let mut text = String::new();
    for char in word.chars() {
        if !(char.is_alphanumeric() || "/._-+=:,@%~".contains(char)) {
            text.push('\\');
        }
        text.push(char);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(words: &str, index: usize) -> (Vec<String>, String, String) {
        let words: Vec<OsString> = words.split(' ').map(OsString::from).collect();
        let line = join(&words, index);
        let text = |word: &OsString| word.to_str().unwrap().to_owned();
        let before = line.before.iter().map(text).collect();
        (before, text(&line.current), line.kept)
    }

    #[test]
    fn words_that_bash_breaks_are_whole_again() {
        let of = |before: &[&str], current: &str, kept: &str| {
            let before = before.iter().map(|word| (*word).to_owned()).collect();
            (before, current.to_owned(), kept.to_owned())
        };
        assert_eq!(line("b --box = le", 3), of(&[], "--box=le", "--box="));
        assert_eq!(line("b --box =", 2), of(&[], "--box=", "--box="));
        assert_eq!(
            line("b --from debian : tr", 4),
            of(&["--from"], "debian:tr", "debian:")
        );
        assert_eq!(line("b --box = x --pro", 4), of(&["--box=x"], "--pro", ""));
        assert_eq!(line("b --box = --pro", 3), of(&["--box="], "--pro", ""));
        assert_eq!(line("b --box", 2), of(&["--box"], "", ""));
    }

    #[test]
    fn quotes_are_taken_away_and_put_back() {
        assert_eq!(unquoted("'my fol"), "my fol");
        assert_eq!(unquoted("my\\ fol"), "my fol");
        assert_eq!(unquoted("plain"), "plain");
        assert_eq!(quoted("my fol$"), "my\\ fol\\$");
    }
}
