//! Subordinate user and group ids (subuid(5), subgid(5)).

use std::fs;

/// Ids that the user namespace of a distribution's root tree needs: those of 16 bits.
const NEEDED: u64 = 65536;

/// Whether `file`, `/etc/subuid` or `/etc/subgid`, gives the user `name` a range of at least 65536
/// ids. Users are listed by name or by `uid`.
pub fn has_subordinate_ids(file: &str, name: &str, uid: u32) -> bool {
    has_range(&fs::read_to_string(file).unwrap_or_default(), name, uid)
}

/// The same for the text of such a file: lines of user, first id and count.
fn has_range(text: &str, name: &str, uid: u32) -> bool {
    text.lines().any(|line| {
        let mut fields = line.split(':');
        let owner = fields.next().unwrap_or_default();
        let count = fields
            .nth(1)
            .and_then(|count| count.trim().parse::<u64>().ok());
        (owner == name || owner.parse() == Ok(uid)) && count.is_some_and(|count| count >= NEEDED)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_must_be_the_users_and_large_enough() {
        let text = "me:100000:65536\nfew:200000:1000\n1007:300000:65536\n";
        assert!(has_range(text, "me", 1000));
        assert!(has_range(text, "you", 1007));
        assert!(!has_range(text, "few", 1001));
        assert!(!has_range(text, "nobody", 1002));
        assert!(!has_range("me\nme:x:y", "me", 1000));
    }
}
