//! What differs between two listings of results (`boxbuild_parsers`), and between two lists of packages.

use std::collections::BTreeMap;

use boxbuild_host::text::shown;
use serde::Serialize;

use crate::packages::Package;

/// What differs between two files.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Fields of headers: of partition tables and superblocks.
    pub fields: Vec<Field>,
    /// Entries that only the first has.
    pub only_first: Vec<String>,
    /// Entries that only the second has.
    pub only_second: Vec<String>,
    /// Entries with another content.
    pub contents: Vec<String>,
    /// Entries with another owner, mode, link or attribute, and what.
    pub attributes: Vec<Field>,
    /// How many entries differ in their times alone.
    pub times: usize,
    /// One of them.
    pub time_of: Option<Field>,
    /// The entries are in another order.
    pub order: bool,
    /// Ranges of a disk that differ: first byte, and bytes.
    pub ranges: Vec<(u64, u64)>,
}

/// A value that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Field {
    /// Where.
    pub place: String,
    /// In the first.
    pub first: String,
    /// In the second.
    pub second: String,
}

impl Difference {
    /// Whether there is none that a listing shows.
    pub fn is_empty(&self) -> bool {
        *self == Difference::default()
    }
}

/// The name of an entry, and how many there are of this name before it.
type Place<'t> = (&'t str, usize);

/// The lines of a listing.
#[derive(Default)]
struct Listing<'t> {
    fields: BTreeMap<&'t str, &'t str>,
    entries: BTreeMap<Place<'t>, &'t str>,
    order: Vec<Place<'t>>,
    pieces: BTreeMap<u64, &'t str>,
}

impl<'t> Listing<'t> {
    fn read(text: &'t str) -> Listing<'t> {
        let mut listing = Listing::default();
        for line in text.lines() {
            let mut parts = line.splitn(3, '\t');
            let (Some(kind), Some(name), Some(value)) = (parts.next(), parts.next(), parts.next())
            else {
                continue;
            };
            match (kind, name.parse()) {
                ("entry", _) => {
                    let mut same = listing.entries.range((name, 0)..=(name, usize::MAX));
                    let number = same.next_back().map_or(0, |((_, last), _)| last + 1);
                    listing.entries.insert((name, number), value);
                    listing.order.push((name, number));
                }
                ("piece", Ok(at)) => {
                    listing.pieces.insert(at, value);
                }
                _ => {
                    listing.fields.insert(name, value);
                }
            }
        }
        listing
    }
}

/// Compares two listings; `piece` is the number of bytes of a piece.
pub fn listings(first: &str, second: &str, piece: u64) -> Difference {
    let (first, second) = (Listing::read(first), Listing::read(second));
    let mut difference = Difference {
        fields: fields(&first.fields, &second.fields),
        ranges: ranges(&first.pieces, &second.pieces, piece),
        ..Difference::default()
    };
    for (place, value) in &first.entries {
        let (name, _) = place;
        match second.entries.get(place) {
            None => difference.only_first.push(shown(name).into_owned()),
            Some(other) if other != value => difference.entry(name, value, other),
            Some(_) => {}
        }
    }
    let only = second
        .entries
        .keys()
        .filter(|place| !first.entries.contains_key(*place));
    difference.only_second = only.map(|(name, _)| shown(name).into_owned()).collect();
    let in_second = |place: &&Place<'_>| second.entries.contains_key(*place);
    let in_first = |place: &&Place<'_>| first.entries.contains_key(*place);
    let (one, other) = (first.order.iter(), second.order.iter());
    difference.order = !one.filter(in_second).eq(other.filter(in_first));
    difference
}

impl Difference {
    fn entry(&mut self, name: &str, first: &str, second: &str) {
        let (first, second) = (words(first), words(second));
        let name = shown(name).into_owned();
        let differs = |key: &&&str| first.get(**key) != second.get(**key);
        let keys: Vec<&str> = first
            .keys()
            .chain(second.keys())
            .filter(differs)
            .copied()
            .collect();
        let field = |key: &str| Field {
            place: format!("{name}: {}", shown(key)),
            first: shown(first.get(key).copied().unwrap_or_default()).into_owned(),
            second: shown(second.get(key).copied().unwrap_or_default()).into_owned(),
        };
        if keys.iter().any(|key| ["sha256", "size"].contains(key)) {
            self.contents.push(name);
            return;
        }
        let is_time = |key: &&str| ["mtime", "atime", "ctime"].contains(key);
        match keys.iter().find(|key| !is_time(key)) {
            Some(key) => self.attributes.push(field(key)),
            None => {
                self.times += 1;
                if self.time_of.is_none() {
                    self.time_of = keys.first().map(|key| field(key));
                }
            }
        }
    }
}

/// The facts of an entry. A value may have spaces; a key has none, and an equals sign behind it.
fn words(value: &str) -> BTreeMap<&str, &str> {
    value
        .split(' ')
        .filter_map(|word| word.split_once('='))
        .collect()
}

fn fields(first: &BTreeMap<&str, &str>, second: &BTreeMap<&str, &str>) -> Vec<Field> {
    let mut places: Vec<&str> = first.keys().chain(second.keys()).copied().collect();
    places.sort_unstable();
    places.dedup();
    let value = |of: &BTreeMap<&str, &str>, place: &str| {
        shown(of.get(place).copied().unwrap_or("none")).into_owned()
    };
    places
        .into_iter()
        .map(|place| Field {
            place: shown(place).into_owned(),
            first: value(first, place),
            second: value(second, place),
        })
        .filter(|field| field.first != field.second)
        .collect()
}

/// Pieces that differ, those that follow each other as one.
fn ranges(
    first: &BTreeMap<u64, &str>,
    second: &BTreeMap<u64, &str>,
    piece: u64,
) -> Vec<(u64, u64)> {
    let mut places: Vec<u64> = first.keys().chain(second.keys()).copied().collect();
    places.sort_unstable();
    places.dedup();
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    for at in places
        .into_iter()
        .filter(|at| first.get(at) != second.get(at))
    {
        match ranges.last_mut() {
            Some((start, length)) if start.checked_add(*length) == Some(at) => *length += piece,
            _ => ranges.push((at, piece)),
        }
    }
    ranges
}

/// What differs between two lists of packages.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub struct PackageDifference {
    /// Only the first has them: name and version.
    pub removed: Vec<String>,
    /// Only the second has them.
    pub added: Vec<String>,
    /// Both have them in other versions.
    pub changed: Vec<Field>,
}

impl PackageDifference {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        *self == PackageDifference::default()
    }
}

/// Compares two lists of packages.
pub fn packages(first: &[Package], second: &[Package]) -> PackageDifference {
    let of = |all: &[Package]| -> BTreeMap<String, String> {
        let named = |package: &Package| {
            let arch = package.arch.as_deref().unwrap_or("none");
            (format!("{}.{arch}", package.name), package.version.clone())
        };
        all.iter().map(named).collect()
    };
    let (first, second) = (of(first), of(second));
    let mut difference = PackageDifference::default();
    let both = |name: &str, version: &str| shown(&format!("{name} {version}")).into_owned();
    for (name, version) in &first {
        match second.get(name) {
            None => difference.removed.push(both(name, version)),
            Some(other) if other != version => difference.changed.push(Field {
                place: shown(name).into_owned(),
                first: shown(version).into_owned(),
                second: shown(other).into_owned(),
            }),
            Some(_) => {}
        }
    }
    for (name, version) in second.iter().filter(|(name, _)| !first.contains_key(*name)) {
        difference.added.push(both(name, version));
    }
    difference
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_differ_in_content_attributes_times_or_order() {
        let first = "entry\ta\ttype=0 mode=644 mtime=1 sha256=aa\nentry\tb\ttype=0 mode=644 mtime=1 sha256=bb\n\
            entry\tc\ttype=0 mode=644 mtime=1 sha256=cc\nentry\td\ttype=5 mode=755 mtime=1\nentry\te\tmtime=1\n";
        let second = "entry\tb\ttype=0 mode=644 mtime=2 sha256=bb\nentry\ta\ttype=0 mode=644 mtime=1 sha256=ab\n\
            entry\tc\ttype=0 mode=600 mtime=2 sha256=cc\nentry\td\ttype=5 mode=755 mtime=1\nentry\tf\tmtime=1\n";
        let difference = listings(first, second, 1);
        assert_eq!(difference.contents, ["a"]);
        assert_eq!(difference.times, 1);
        assert_eq!(difference.attributes[0].place, "c: mode");
        assert_eq!(
            (&*difference.only_first, &*difference.only_second),
            (&["e".to_owned()][..], &["f".to_owned()][..])
        );
        assert!(difference.order);
        assert!(listings(first, first, 1).is_empty());
    }

    #[test]
    fn each_of_several_entries_of_one_name_is_compared() {
        let first = "entry\ta\tsha256=aa\nentry\ta\tsha256=bb\n";
        let second = "entry\ta\tsha256=cc\nentry\ta\tsha256=bb\n";
        let difference = listings(first, second, 1);
        assert_eq!(difference.contents, ["a"]);
        assert!(!difference.order);
        let one = listings(first, "entry\ta\tsha256=aa\n", 1);
        assert_eq!(one.only_first, ["a"]);
    }

    #[test]
    fn pieces_that_follow_each_other_are_one_range() {
        let first =
            "piece\t0\ta\npiece\t10\tb\npiece\t20\tc\npiece\t40\td\nfield\text4 at 0, UUID\t1\n";
        let second = "piece\t0\ta\npiece\t10\tx\npiece\t40\tx\nfield\text4 at 0, UUID\t2\n";
        let difference = listings(first, second, 10);
        assert_eq!(difference.ranges, [(10, 20), (40, 10)]);
        assert_eq!(difference.fields[0].second, "2");
    }

    #[test]
    fn packages_are_added_removed_and_changed() {
        let read = |text| crate::packages::read(text).0;
        let first = read("a|None|1|None|x|None|None\nb|None|1|None|x|None|None\n");
        let second = read("b|None|2|None|x|None|None\nc|None|1|None|x|None|None\n");
        let difference = packages(&first, &second);
        assert_eq!(difference.removed, ["a.x 1"]);
        assert_eq!(difference.added, ["c.x 1"]);
        assert_eq!(difference.changed[0].second, "2");
        assert!(packages(&first, &first).is_empty());
    }
}
