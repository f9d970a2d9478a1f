use std::os::unix::ffi::OsStringExt;

use super::*;

fn parse(words: &[&str]) -> Result<BuildArgs, BuildArgsError> {
    BuildArgs::parse(&words.iter().map(OsString::from).collect::<Vec<_>>())
}

#[test]
fn both_spellings_of_values() {
    let expected = BuildArgs {
        description: "d".into(),
        target_dir: "t".into(),
        rest: vec!["--add-package".into(), "a=b".into(), "--clear-cache".into()],
        host_paths: Vec::new(),
        notes: Vec::new(),
    };
    let with_spaces = ["--description", "d", "--add-package", "a=b"];
    let tail = ["--clear-cache", "--target-dir", "t"];
    assert_eq!(
        parse(&[&with_spaces[..], &tail].concat()).unwrap(),
        expected
    );
    let with_equals = ["--description=d", "--add-package=a=b"];
    let tail = ["--clear-cache", "--target-dir=t"];
    assert_eq!(
        parse(&[&with_equals[..], &tail].concat()).unwrap(),
        expected
    );
}

#[test]
fn a_misspelt_option_gets_the_nearest_one() {
    let error = parse(&["--description", "d", "--add-pakage", "foo"]).unwrap_err();
    assert!(
        error.to_string().contains("did you mean --add-package?"),
        "{error}"
    );
    let error = parse(&["--frobnicate-the-image"]).unwrap_err();
    assert!(!error.to_string().contains("did you mean"), "{error}");
}

#[test]
fn every_option_in_both_spellings() {
    for (option, kind) in OPTIONS {
        // What files and values are allowed is tested apart.
        let value = match *option {
            "--ca-target-distribution" => "debian",
            "--set-type-attr" | "--add-container-label" => "name=value",
            "--signing-key" | "--ca-cert" => "/description/key",
            _ => "value",
        };
        let attached = format!("{option}={value}");
        let (spellings, forwarded) = match kind {
            Value::None => (vec![vec![*option]], vec![*option]),
            _ if *option == ONLY_REPO => continue,
            _ => (
                vec![vec![*option, value], vec![attached.as_str()]],
                vec![*option, value],
            ),
        };
        let folders: Vec<String> = ["--description", "--target-dir"]
            .into_iter()
            .filter(|folder| folder != option)
            .map(|folder| format!("{folder}=value"))
            .collect();
        let folders: Vec<&str> = folders.iter().map(String::as_str).collect();
        for spelling in spellings {
            let once = parse(&[&spelling[..], &folders].concat());
            let once = once.unwrap_or_else(|error| panic!("{spelling:?}: {error}"));
            if folders.len() == 2 {
                assert_eq!(once.rest, forwarded, "{spelling:?}");
            }
            let twice = parse(&[&spelling[..], &spelling, &folders].concat()).unwrap();
            assert_eq!(twice.notes, [] as [&str; 0], "{spelling:?}");
            match kind {
                Value::Repeat => {
                    assert_eq!(twice.rest, [&forwarded[..], &forwarded].concat());
                }
                _ => assert_eq!(twice, once, "{spelling:?}"),
            }
        }
    }
}

/// `--add-package=$EXTRA` in scripts: kiwi failed after the boot, on a package without a name.
#[test]
fn an_empty_value_counts_as_not_given() {
    let folders = ["--description=d", "--target-dir=t"];
    for option in [
        "--add-package",
        "--set-repo",
        "--add-repo",
        "--set-type-attr",
    ] {
        let args = parse(&[&folders[..], &[option, ""]].concat()).unwrap();
        assert_eq!(args.rest, [] as [&str; 0], "{option}");
        assert!(args.notes[0].contains("not given"), "{:?}", args.notes);
    }
    for refused in [
        &["--only-repo="][..],
        &["--description="],
        &["--target-dir="],
        &["--add-repo=", "--add-repo-credentials=u:p"],
    ] {
        let error = parse(&[&folders[..], refused].concat()).unwrap_err();
        assert!(matches!(error, BuildArgsError::NoValue(_)), "{error}");
    }
    // That of the first repository: it has none.
    let words = [
        "--add-repo=a",
        "--add-repo-credentials=",
        "--add-repo=b",
        "--add-repo-credentials=u:p",
    ];
    let args = parse(&[&folders[..], &words].concat()).unwrap();
    assert_eq!(args.rest.len(), 8);
    // The last counts, also if it is empty.
    let args = parse(&[&folders[..], &["--set-repo=a", "--set-repo="]].concat()).unwrap();
    assert_eq!(args.rest, [] as [&str; 0]);
}

/// kiwi ended with 0 and no image, with a traceback, or with nothing but a warning.
#[test]
fn values_that_kiwi_cannot_read_are_told_before_the_start() {
    let with = |word: &str| parse(&["--description=d", "--target-dir=t", word]);
    for (word, text) in [
        ("--set-type-attr=bogus", "'bogus': ATTRIBUTE=VALUE"),
        ("--set-type-attr==secret", "'': ATTRIBUTE=VALUE"),
        ("--set-type-attr=a-b=secret", "'a-b': ATTRIBUTE=VALUE"),
        ("--set-repo=http://h,apt-deb,a,high", "priority"),
        ("--set-repo=http://h,,,-", "priority"),
        ("--", "second --"),
    ] {
        let error = with(word).unwrap_err().to_string();
        assert!(error.contains(text) && !error.contains("secret"), "{error}");
    }
    for word in [
        "--set-type-attr=luks=",
        "--set-repo=http://h,apt-deb,a,-1",
        "--set-repo=http://h,apt-deb,a,,,{k}",
        "--add-repo=http://h,apt-deb,a,high",
    ] {
        assert!(with(word).is_ok(), "{word}");
    }
    let args = with("--add-container-label=x").unwrap();
    assert!(args.notes[0].contains("LABEL=VALUE"), "{:?}", args.notes);
}

#[test]
fn the_last_of_several_counts_and_a_note_says_so() {
    let args = parse(&[
        "--description=d",
        "--target-dir=a",
        "--set-repo=x",
        "--add-repo=r",
        "--set-repo-credentials=me:s3cret",
        "--set-repo",
        "y",
        "--set-repo-credentials=you:s3cret",
        "--add-repo=q",
        "--target-dir=b",
    ])
    .unwrap();
    assert_eq!(args.target_dir, PathBuf::from("b"));
    let words = "--add-repo r --set-repo y --set-repo-credentials you:s3cret --add-repo q";
    assert_eq!(args.rest, words.split(' ').collect::<Vec<_>>());
    let notes = args.notes.join("\n");
    assert!(notes.contains("--target-dir is given more than once: b counts, not a"));
    assert!(notes.contains("--set-repo is given more than once: y counts, not x"));
    assert!(!notes.contains("s3cret"), "{notes}");
}

/// KIWI before 11 takes beginnings of names; KIWI in the box may not.
#[test]
fn beginnings_of_names_become_full_names() {
    let args = parse(&["--desc", "d", "--target=t", "--add-pa", "x"]).unwrap();
    assert_eq!(args.description, PathBuf::from("d"));
    assert_eq!(args.rest, ["--add-package", "x"]);
    assert_eq!(args.notes[0], "--desc: taken for --description");
    // More than one begins like this, or is a name of its own.
    assert!(parse(&["--desc=d", "--target=t", "--add", "x"]).is_err());
    let args = parse(&["--desc=d", "--target=t", "--set-repo", "x"]).unwrap();
    assert_eq!(args.rest, ["--set-repo", "x"]);
    assert_eq!(beginning_with("--"), None);
}

#[test]
fn missing_things_are_named() {
    assert_eq!(parse(&[]), Err(BuildArgsError::Missing("--description")));
    assert_eq!(
        parse(&["--target-dir", "t", "--description"]),
        Err(BuildArgsError::NoValue("--description"))
    );
    assert_eq!(
        parse(&["--description", "--target-dir", "t"]),
        Err(BuildArgsError::NoValue("--description"))
    );
    assert_eq!(
        parse(&["--clear-cache=yes"]),
        Err(BuildArgsError::UnexpectedValue("--clear-cache"))
    );
    assert_eq!(
        parse(&["--description="]),
        Err(BuildArgsError::NoValue("--description"))
    );
    assert_eq!(parse(&["word"]), Err(BuildArgsError::Word("word".into())));
}

#[test]
fn paths_of_the_host_are_found() {
    let parsed = parse(&[
        "--add-repo=dir:///srv/repo,rpm-dir",
        "--description=d",
        "--ca-cert",
        "ca.pem",
        "--target-dir=t",
    ]);
    let parsed = parsed.unwrap();
    let here = std::env::current_dir().unwrap().join("ca.pem");
    let paths: Vec<_> = parsed.host_paths.iter().map(|named| &*named.path).collect();
    assert_eq!(paths, [std::path::Path::new("/srv/repo"), &here]);
    assert_eq!(parsed.rest[3], here);
}

/// Case A16: `--set-repo` replaces only the first of several.
#[test]
fn only_repo_leaves_out_all_others() {
    let words = |options: &[&str]| {
        let parsed = parse(&[options, &["--description=d", "--target-dir=t"]].concat()).unwrap();
        parsed.rest.join(" ".as_ref()).into_string().unwrap()
    };
    assert_eq!(
        words(&["--only-repo", "http://m/a", "--only-repo=http://m/b"]),
        "--add-repo http://m/a --add-repo http://m/b --ignore-repos"
    );
    assert_eq!(
        words(&["--ignore-repos", "--only-repo", "http://m/a"]),
        "--ignore-repos --add-repo http://m/a"
    );
    assert_eq!(
        words(&["--add-repo", "http://m/a"]),
        "--add-repo http://m/a"
    );
}

#[test]
fn values_of_any_bytes_survive() {
    let raw = OsString::from_vec(b"--description=/tmp/\xff \n$x".to_vec());
    let parsed = BuildArgs::parse(&[raw, "--target-dir=t".into()]).unwrap();
    assert_eq!(parsed.description.as_os_str().as_bytes(), b"/tmp/\xff \n$x");
}
