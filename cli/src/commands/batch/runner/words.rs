//! Words of a runner's commands, with fields in braces.

/// The values of the fields. One without a value takes its word with it.
#[derive(Debug, Clone, Default)]
pub(in crate::commands::batch) struct Fields {
    /// Of the build in this batch: no other job of the user has it.
    pub(in crate::commands::batch) name: String,
    pub(in crate::commands::batch) cpus: Option<u32>,
    pub(in crate::commands::batch) memory_mib: Option<u64>,
    /// The build takes no longer.
    pub(in crate::commands::batch) minutes: Option<u64>,
    pub(in crate::commands::batch) host: Option<String>,
    /// Hosts that cannot do it, separated by commas.
    pub(in crate::commands::batch) avoid: Option<String>,
}

/// The names of the fields.
const NAMES: &[&str] = &["name", "cpus", "memory_mib", "minutes", "host", "avoid"];

/// Returns whether a word has the field `name`.
pub(super) fn has(word: &str, name: &str) -> bool {
    pieces(word).any(|piece| piece == Piece::Field(name))
}

/// Returns the first field of a word that there is not.
pub(super) fn unknown(word: &str) -> Option<String> {
    pieces(word).find_map(|piece| match piece {
        Piece::Field(name) if !NAMES.contains(&name) => Some(format!(
            "{word}: there is no field {{{name}}}; fields are {{{}}}",
            NAMES.join("}, {")
        )),
        _ => None,
    })
}

/// Returns the words with the values of their fields.
pub(super) fn fill(words: &[String], fields: &Fields) -> Vec<String> {
    words
        .iter()
        .filter_map(|word| fill_one(word, fields))
        .collect()
}

fn fill_one(word: &str, fields: &Fields) -> Option<String> {
    let mut filled = String::new();
    for piece in pieces(word) {
        match piece {
            Piece::Text(text) => filled += text,
            Piece::Field(name) => filled += &value(name, fields)?,
        }
    }
    Some(filled)
}

fn value(name: &str, fields: &Fields) -> Option<String> {
    match name {
        "name" => Some(fields.name.clone()),
        "cpus" => fields.cpus.map(|number| number.to_string()),
        "memory_mib" => fields.memory_mib.map(|number| number.to_string()),
        "minutes" => fields.minutes.map(|number| number.to_string()),
        "host" => fields.host.clone(),
        "avoid" => fields.avoid.clone(),
        _ => None,
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Piece<'a> {
    Text(&'a str),
    /// A word of small letters and underscores in braces.
    Field(&'a str),
}

fn pieces(word: &str) -> impl Iterator<Item = Piece<'_>> {
    let mut rest = word;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let field = |text: &'_ str| -> Option<usize> {
            let end = text.strip_prefix('{')?.find('}')?;
            let name = &text[1..=end];
            let fits = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
            (!name.is_empty() && name.bytes().all(fits)).then_some(end + 1)
        };
        if let Some(end) = field(rest) {
            let piece = Piece::Field(&rest[1..end]);
            rest = &rest[end + 1..];
            return Some(piece);
        }
        let next = rest
            .char_indices()
            .skip(1)
            .find(|(at, char)| *char == '{' && field(&rest[*at..]).is_some())
            .map_or(rest.len(), |(at, _)| at);
        let (text, behind) = rest.split_at(next);
        rest = behind;
        Some(Piece::Text(text))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(words: &[&str], fields: &Fields) -> Vec<String> {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        fill(&words, fields)
    }

    #[test]
    fn fields_get_their_values_and_a_word_without_one_goes() {
        let fields = Fields {
            name: String::from("b-1"),
            cpus: Some(2),
            host: Some(String::from("ü{cpus}")),
            ..Fields::default()
        };
        let words = [
            "srun",
            "-J{name}",
            "{cpus}",
            "--time={minutes}",
            "{host}:{name}",
            "--exclude={avoid}",
        ];
        // What stands in a value is no field.
        assert_eq!(
            filled(&words, &fields),
            ["srun", "-Jb-1", "2", "ü{cpus}:b-1"]
        );
    }

    #[test]
    fn other_braces_stay() {
        for word in ["{", "}", "{}", "{A}", "a{b c}", "${HOME}", "{{", "ä{ö}"] {
            assert_eq!(filled(&[word], &Fields::default()), [word]);
            assert_eq!(unknown(word), None, "{word}");
        }
        assert!(unknown("x{memory}").unwrap().contains("{memory_mib}"));
        assert_eq!(
            filled(
                &["{{cpus}}"],
                &Fields {
                    cpus: Some(1),
                    ..Fields::default()
                }
            ),
            ["{1}"]
        );
        assert!(has("a{host}", "host") && !has("a{host}", "name"));
    }
}
