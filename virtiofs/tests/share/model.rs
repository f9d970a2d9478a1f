//! Random operations, through the share and in a directory of the host: the results and the
//! files are the same.

use std::fs;
use std::path::Path;

use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::ValueTree;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};

use crate::guest::Guest;
use crate::operation::Operation;
use crate::plain::{Plain, shown};

const DIRECTORIES: [&str; 3] = ["a", "b", "c"];
const LEAVES: [&str; 6] = ["a", "b", "c", "f", "g", "link"];
/// The most files that are open at a time.
const HANDLES: usize = 4;

fn operations() -> impl Strategy<Value = Operation> {
    use Operation as O;
    let directories = || prop::collection::vec(select(&DIRECTORIES), 0..3);
    let names = move || {
        (directories(), select(&LEAVES)).prop_map(|(mut names, leaf)| {
            names.push(leaf);
            names
        })
    };
    let handle = || 0..HANDLES;
    let offset = || prop_oneof![3 => 0..100_u64, 1 => 0..200_000_u64];
    let size = || prop_oneof![3 => 0..100_usize, 1 => 0..20_000_usize];
    let flags = select(&[0, 0, libc::RENAME_NOREPLACE, libc::RENAME_EXCHANGE]);
    prop_oneof![
        8 => (names(), 0..0o200_u32, handle()).prop_map(|(n, m, h)| O::Create(n, m, h)),
        4 => (names(), any::<bool>(), handle()).prop_map(|(n, t, h)| O::Open(n, t, h)),
        2 => handle().prop_map(O::Close),
        6 => (handle(), offset(), any::<u8>(), size()).prop_map(|(h, o, b, s)| O::Write(h, o, b, s)),
        4 => (handle(), offset(), 0..30_000_u32).prop_map(|(h, o, s)| O::Read(h, o, s)),
        1 => (handle(), offset(), 1..10_000_u64).prop_map(|(h, o, s)| O::Punch(h, o, s)),
        4 => names().prop_map(O::Stat),
        8 => (names(), 0..0o100_u32).prop_map(|(n, m)| O::Mkdir(n, m)),
        2 => (directories(), select(&["a", "../victim", "/etc/passwd"])).prop_map(|(mut n, t)| {
            n.push("link");
            O::Symlink(n, t)
        }),
        2 => names().prop_map(O::Readlink),
        3 => (names(), names()).prop_map(|(from, mut to)| {
            if from.last() == Some(&"link") {
                to.pop();
                to.push("link");
            }
            O::Link(from, to)
        }),
        3 => names().prop_map(O::Unlink),
        3 => names().prop_map(O::Rmdir),
        8 => (names(), names(), flags).prop_map(|(mut from, mut to, flags)| {
            // A link may only be the last name of any path.
            if let (Some(from), Some(to)) = (from.last_mut(), to.last_mut())
                && (*from == "link" || *to == "link")
            {
                (*from, *to) = ("link", "link");
            }
            O::Rename(from, to, flags)
        }),
        2 => (names(), offset()).prop_map(|(n, s)| O::Truncate(n, s)),
        2 => (names(), 0..0o200_u32).prop_map(|(n, m)| O::Chmod(n, m)),
        2 => (names(), 0..1_u64 << 31).prop_map(|(n, t)| O::Times(n, t)),
        3 => (directories(), any::<bool>()).prop_map(|(n, p)| O::List(n, p)),
    ]
}

/// Does all operations on both sides; fails at the first difference.
fn compare(operations: &[Operation]) -> Result<(), String> {
    let (mut guest, mut plain) = (Guest::new(), Plain::new());
    for (number, operation) in operations.iter().enumerate() {
        let (seen, expected) = (guest.apply(operation), plain.apply(operation));
        // A link to a directory may be refused for two reasons, and the guest's kernel would check
        // one of them first.
        let either = matches!(operation, Operation::Link(..)) && seen == Err(libc::EPERM);
        if seen != expected && !(either && expected.is_err()) {
            return Err(format!(
                "{number}: {operation:?} answers {seen:?} instead of {expected:?}"
            ));
        }
    }
    guest.close();
    let (seen, expected) = (tree(&guest.host()), tree(plain.root()));
    if seen == expected {
        Ok(())
    } else {
        Err(format!("the share holds {seen:?} instead of {expected:?}"))
    }
}

/// Path; mode, links and size; contents or target.
type Node = (String, (u32, u32, u64), Vec<u8>);

fn tree(root: &Path) -> Vec<Node> {
    fn visit(dir: &Path, root: &Path, all: &mut Vec<Node>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let stat = fs::symlink_metadata(&path).unwrap();
            let data = if stat.is_file() {
                fs::read(&path).unwrap()
            } else if stat.is_symlink() {
                let target = fs::read_link(&path).unwrap();
                target.into_os_string().into_encoded_bytes()
            } else {
                visit(&path, root, all);
                Vec::new()
            };
            let name = path.strip_prefix(root).unwrap().display().to_string();
            all.push((name, shown(&stat), data));
        }
    }
    let mut all = Vec::new();
    visit(root, root, &mut all);
    all.sort();
    all
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..Default::default() })]

    #[test]
    fn short_histories_have_the_same_results(history in prop::collection::vec(operations(), 1..150)) {
        let result = compare(&history);
        prop_assert!(result.is_ok(), "{}", result.unwrap_err());
    }
}

#[test]
fn a_long_history_has_the_same_results() {
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(ProptestConfig::default(), rng);
    let operation = operations();
    let history: Vec<_> = (0..10_000)
        .map(|_| operation.new_tree(&mut runner).unwrap().current())
        .collect();
    compare(&history).unwrap();
}
