//! Tests of whole command lines with settings.

use std::ffi::OsString;
use std::path::Path;

use super::*;

/// What the environment, the project and the user say.
#[derive(Default, Clone, Copy)]
struct Said<'a> {
    environment: &'a [(&'a str, &'a str)],
    project: &'a str,
    user: &'a str,
}

impl Said<'_> {
    fn applied(self, line: &str, caller: Caller) -> Applied {
        let all = names::all();
        let variables = self.environment.iter();
        let variables = variables.map(|(name, value)| (name.into(), value.into()));
        let mut given = environment::read(&all, variables, None).given;
        for (layer, path, text) in [
            (Layer::Project, "/repo/boxbuild.toml", self.project),
            (Layer::User, "/home/boxbuild.toml", self.user),
        ] {
            let contents = file::parse(&all, layer, Path::new(path), text.to_owned());
            assert_eq!(contents.wrong, []);
            given.extend(contents.given);
        }
        let argv: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
        let outline = args::outline(&argv).unwrap();
        apply::apply(&all, &given, argv, &outline, caller)
    }

    fn line(self, line: &str) -> String {
        let applied = self.applied(line, Caller::User);
        let words = applied.argv.iter().map(|word| word.to_string_lossy());
        words.collect::<Vec<_>>().join(" ")
    }
}

#[test]
fn what_is_typed_counts_before_the_environment_the_project_and_the_user() {
    let mut said = Said {
        environment: &[("BOXBUILD_BOX_MEMORY", "1G")],
        project: "box-memory = '2G'",
        user: "box-memory = '3G'",
    };
    let line = "--box=b -- --description d";
    assert_eq!(
        said.line("--box=b --box-memory=9G -- x"),
        "--box=b --box-memory=9G -- x"
    );
    // Also if it is typed as KIWI before 11 takes it, and as kiwi-ng does.
    let old = "system boxbuild --box b --box-mem 9G -- x";
    assert_eq!(said.line(old), old);
    assert_eq!(said.line(line), format!("--box-memory=1G {line}"));
    said.environment = &[];
    assert_eq!(said.line(line), format!("--box-memory=2G {line}"));
    said.project = "";
    assert_eq!(said.line(line), format!("--box-memory=3G {line}"));
    said.user = "";
    assert_eq!(said.line(line), line);
}

#[test]
fn a_higher_place_can_take_a_setting_back() {
    let said = Said {
        environment: &[("BOXBUILD_NO_ACCEL", "no"), ("BOXBUILD_ALLOW", "''")],
        user: "no-accel = true\nallow = ['a.example']",
        ..Said::default()
    };
    assert_eq!(said.line("--box b -- x"), "--box b -- x");
}

#[test]
fn a_list_replaces_the_one_below_it() {
    let said = Said {
        environment: &[("BOXBUILD_PROFILE", "A B")],
        project: "profile = ['C']",
        ..Said::default()
    };
    assert_eq!(
        said.line("--box b -- x"),
        "--profile=A --profile=B --box b -- x"
    );
    assert_eq!(
        said.line("--box b --profile Z -- x"),
        "--box b --profile Z -- x"
    );
}

#[test]
fn build_arguments_stand_behind_the_separator() {
    let said = Said {
        user: "[build-args]\nadd-repo = ['http://m/a', 'http://m/b']\nadd-package = 'vim'\n",
        ..Said::default()
    };
    assert_eq!(
        said.line("--box b -- --description d --add-pack joe"),
        "--box b -- --add-repo=http://m/a --add-repo=http://m/b --description d --add-pack joe"
    );
    assert_eq!(
        said.line("--box b kiwi --description d"),
        "--box b kiwi --add-repo=http://m/a --add-repo=http://m/b --add-package=vim --description d"
    );
    // There is nothing to build.
    assert_eq!(said.line("--box b"), "--box b");
    assert_eq!(
        said.line("check d"),
        "check d -- --add-repo=http://m/a --add-repo=http://m/b --add-package=vim"
    );
    assert_eq!(said.line("info d"), "info d");
}

/// `--only-repo X` with a repository of the settings would be two repositories.
#[test]
fn repositories_of_the_command_line_are_the_only_ones() {
    let said = Said {
        user: "engine = 'kvm'\narch = 'x86_64'\n[build-args]\nadd-repo = 'http://m/a'\n\
               ignore-repos = true\n",
        ..Said::default()
    };
    let line = "--box b --no-accel --aarch64 -- --only-repo http://x";
    assert_eq!(said.line(line), line);
    let between = Said {
        project: "[build-args]\nonly-repo = 'http://x/'\n",
        ..said
    };
    let line = between.line("--box b -- y");
    assert!(
        line.ends_with("--box b -- --only-repo=http://x/ y"),
        "{line}"
    );
}

#[test]
fn what_means_nothing_there_is_left_out() {
    let said = Said {
        user: "rootless = true\nlock-file = '/x'\nbox-memory = '4G'\nfips = true\n",
        ..Said::default()
    };
    let line = said.line("--box b -- x");
    assert!(
        line.contains("--box-memory=4G") && line.contains("--fips"),
        "{line}"
    );
    assert!(
        !line.contains("--rootless") && !line.contains("--lock-file"),
        "{line}"
    );
    let line = said.line("--container --locked --box b -- x");
    for word in ["--rootless", "--lock-file=/x", "--fips"] {
        assert!(line.contains(word), "{line}");
    }
    assert!(!line.contains("--box-memory"), "{line}");
}

/// A right that was taken away does not come back by what it contradicts: the user is told.
#[test]
fn confinement_stays_required() {
    let said = Said {
        user: "require-confinement = true\n",
        ..Said::default()
    };
    let applied = said.applied("--container --box b -- x", Caller::User);
    let error = args::parse(applied.argv.clone()).unwrap_err().to_string();
    assert!(error.contains("--require-confinement"), "{error}");
    let named = applied.named_in(&error).unwrap();
    assert_eq!(
        named,
        "--require-confinement comes from /home/boxbuild.toml:1"
    );
}

#[test]
fn a_project_closes_a_network_and_does_not_open_it() {
    let mut said = Said {
        project: "network = 'user'\nallow = ['evil.example']\n",
        user: "network = 'none'\nallow = ['mirror.example']\n",
        ..Said::default()
    };
    let applied = said.applied("--box b -- x", Caller::User);
    let line = applied.argv.join(" ".as_ref()).into_string().unwrap();
    assert_eq!(line, "--network=none --allow=mirror.example --box b -- x");
    assert_eq!(applied.notes.len(), 2, "{:?}", applied.notes);
    assert!(
        applied.notes[0].starts_with("/repo/boxbuild.toml:"),
        "{:?}",
        applied.notes
    );
    said.user = "";
    said.project = "network = 'public'\nallow = ['mirror.example']\n";
    let applied = said.applied("--box b -- x", Caller::User);
    let line = applied.argv.join(" ".as_ref()).into_string().unwrap();
    assert_eq!(line, "--network=public --allow=mirror.example --box b -- x");
    assert_eq!(
        applied.notes,
        ["settings of /repo/boxbuild.toml: network, allow"]
    );
}

/// The file of a clone has a lock file and repositories of its author's.
#[test]
fn a_project_does_not_take_back_what_the_user_insists_on() {
    let user = "locked = true\nlock-file = '/home/boxes.lock'\n\
                [build-args]\nonly-repo = 'http://mine.example/'\n";
    let of_user = "--locked --lock-file=/home/boxes.lock --box b -- \
                   --only-repo=http://mine.example/ x";
    for (project, notes) in [
        ("lock-file = 'mine.lock'\n", 1),
        ("[build-args]\nadd-repo = 'http://evil.example/'\n", 1),
        ("[build-args]\nonly-repo = 'http://evil.example/'\n", 1),
        ("[build-args]\nonly-repo = []\nignore-repos = false\n", 2),
        ("[build-args]\nset-repo = 'http://evil.example/'\n", 1),
    ] {
        let said = Said {
            project,
            user,
            ..Said::default()
        };
        assert_eq!(said.line("--box b -- x"), of_user, "{project}");
        let applied = said.applied("--box b -- x", Caller::User);
        assert_eq!(applied.notes.len(), notes, "{:?}", applied.notes);
    }
}

#[test]
fn other_commands_have_tables_of_their_own() {
    let said = Said {
        environment: &[("BOXBUILD_OFFLINE", "1"), ("BOXBUILD_BATCH__JOBS", "3")],
        user: "box = 'debian'\ndisk-size = '60G'\nsigned-by = '/k'\n\
               [box-create]\nmirror = 'http://m/'\n[batch]\njobs = 2\n[check]\nengine = 'qemu'\n",
        ..Said::default()
    };
    assert_eq!(
        said.line("box create b --from debian:trixie"),
        "box create --mirror=http://m/ b --from debian:trixie"
    );
    assert_eq!(said.line("batch f"), "batch --jobs=3 f");
    assert_eq!(said.line("batch -j 5 f"), "batch -j 5 f");
    // What a build has counts where it means the same; a box is not booted for it.
    assert_eq!(
        said.line("box pull b"),
        "box pull --offline --signed-by=/k b"
    );
    let line = said.line("check d");
    assert_eq!(line, "check --offline --engine=qemu --signed-by=/k d");
    assert_eq!(said.line("prune"), "prune");
}

#[test]
fn a_build_of_a_batch_is_no_dry_run() {
    let said = Said {
        environment: &[
            ("BOXBUILD_DRY_RUN", "1"),
            ("BOXBUILD_JSON", "1"),
            ("BOXBUILD_TARGET_DIR", "/x"),
            ("BOXBUILD_TIMEOUT", "1h"),
        ],
        ..Said::default()
    };
    let applied = said.applied("--box=b -- --description=d --target-dir=t", Caller::Batch);
    let line = applied.argv.join(" ".as_ref()).into_string().unwrap();
    assert_eq!(
        line,
        "--timeout=1h --box=b -- --description=d --target-dir=t"
    );
    let typed = said.line("--box b -- x");
    for word in ["--dry-run", "--json", "--timeout=1h", "--target-dir=/x"] {
        assert!(typed.contains(word), "{typed}");
    }
}

/// Every option that clap wants another one for is known here.
#[test]
fn what_an_option_needs_is_known() {
    for setting in names::all() {
        let command = match &setting.place {
            Place::Build => String::new(),
            Place::BuildArgs => continue,
            Place::Command(words) => words.clone(),
        };
        // These need a word of their own, or files that the user names.
        if ["box import", "box create"].contains(&command.as_str()) {
            continue;
        }
        let mut words: Vec<String> = command.split_whitespace().map(str::to_owned).collect();
        words.extend(
            [
                "box lock",
                "box pull",
                "box reset",
                "box info",
                "box rm",
                "check",
                "info",
                "batch",
                "bench",
            ]
            .contains(&command.as_str())
            .then(|| String::from("x")),
        );
        let bare = words.iter().map(OsString::from).collect::<Vec<_>>();
        if command.is_empty() {
            words.push(String::from("--box=b"));
        } else if args::parse(bare).is_err() {
            continue;
        }
        let name = &setting.name;
        words.push(match setting.kind {
            names::Kind::Flag => format!("--{name}"),
            _ => format!("--{name}=1"),
        });
        let Err(error) = args::parse(words.iter().map(OsString::from)) else {
            continue;
        };
        if error.kind() == clap::error::ErrorKind::MissingRequiredArgument {
            assert!(
                apply::needs_another(&command, name),
                "{command} --{name}: {error}"
            );
        }
    }
}

#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Runner {
    kind: String,
}

#[test]
fn a_table_with_a_form_of_its_own() {
    let path = Path::new("/home/boxbuild.toml");
    let read =
        |text: &str| table::<Runner>(path, text, "runner").map_err(|error| error.to_string());
    let text = "box = 'b'\n[runner]\nkind = 'ssh'\n";
    assert_eq!(read(text).unwrap().unwrap().kind, "ssh");
    assert!(read("box = 'b'").unwrap().is_none());
    let error = read("box = 'b'\n[runner]\nkind = 'ssh'\nkid = 1\n").unwrap_err();
    assert!(
        error.starts_with("/home/boxbuild.toml:4: runner: "),
        "{error}"
    );
}

#[test]
fn files_are_left_out_before_the_separator_only() {
    let words = |line: &str| -> Vec<OsString> { line.split(' ').map(OsString::from).collect() };
    let mut argv = words("--box b --no-config -- --no-config");
    assert!(take_no_files(&mut argv));
    assert_eq!(argv, words("--box b -- --no-config"));
    assert!(!take_no_files(&mut argv));
}
