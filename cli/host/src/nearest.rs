//! What a user meant by a name that does not exist.

/// Edits within which a misspelt name of a box, a build or an option is recognised.
pub const TYPO: usize = 2;

/// Returns the name in `known` that is the fewest edits away from `typed`, if those are at most
/// `edits` (insertions, deletions, substitutions and transpositions of one character each).
pub fn nearest<'a>(
    typed: &str,
    known: impl IntoIterator<Item = &'a str>,
    edits: usize,
) -> Option<&'a str> {
    // Names of other lengths are further away. What was typed may be of any length, and a comparison takes
    // time and memory for each pair of characters.
    let length = typed.chars().count();
    known
        .into_iter()
        .filter(|known| known.chars().count().abs_diff(length) <= edits)
        .map(|known| (strsim::damerau_levenshtein(known, typed), known))
        .min()
        .filter(|(distance, _)| *distance <= edits)
        .map(|(_, known)| known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typo_is_recognised_and_another_word_is_not() {
        let known = ["debian", "fedora", "leap"];
        assert_eq!(nearest("debain", known, TYPO), Some("debian"));
        assert_eq!(nearest("lep", known, TYPO), Some("leap"));
        assert_eq!(nearest("ubuntu", known, TYPO), None);
        assert_eq!(nearest("leap", [], TYPO), None);
    }

    /// A comparison has a table of the one length by the other.
    #[test]
    fn a_word_of_any_length_is_compared_with_names_of_its_length_only() {
        let long = "x".repeat(100_000);
        let known = "y".repeat(100_000 - TYPO - 1);
        assert_eq!(nearest(&long, [known.as_str(), "leap"], TYPO), None);
        assert_eq!(nearest("fedor", ["fedora"], TYPO), Some("fedora"));
        assert_eq!(nearest("fedorafo", ["fedora"], TYPO), Some("fedora"));
    }
}
