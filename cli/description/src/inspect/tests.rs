//! Descriptions as people have them, and as they break.

use std::fs;
use std::os::unix::fs::symlink;

use super::*;
use crate::Severity;

const GOOD: &str = "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<image schemaversion=\"8.0\" name=\"x\">\n\
    <preferences><type image=\"tbz\"/></preferences>\n</image>\n";

struct Folder(tempfile::TempDir);

impl Folder {
    fn new(files: &[(&str, &str)]) -> Folder {
        let folder = Folder(tempfile::tempdir().unwrap());
        for (name, text) in files {
            let path = folder.path(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join("d").join(name)
    }

    fn inspect(&self, wanted: &Wanted) -> Inspection {
        let view = BoxView::new(
            &self.path(""),
            Path::new("d"),
            vec![self.0.path().join("shared")],
        );
        fs::create_dir_all(self.path("")).unwrap();
        Inspection::of(&view, wanted).unwrap()
    }

    /// The file that kiwi takes; what is wrong, if no build comes of it.
    fn file(&self) -> Result<String, String> {
        let inspection = self.inspect(&Wanted::default());
        match (inspection.errors().next(), &inspection.description) {
            (Some(error), _) => Err(error.to_string()),
            (None, Some(description)) => Ok(description.file().to_owned()),
            (None, None) => Err(format!("{:?}", inspection.findings)),
        }
    }
}

#[test]
fn the_search_is_that_of_kiwi() {
    let order = ["config.xml", "image/config.xml", "a.kiwi", "b.kiwi"];
    for (first, name) in order.iter().enumerate() {
        let files: Vec<_> = order[first..].iter().map(|name| (*name, GOOD)).collect();
        let folder = Folder::new(&files);
        assert_eq!(folder.file(), Ok(format!("d/{name}")));
    }
    // Of several, the first in sorted order, with a note; upper case comes first, hidden ones never.
    let folder = Folder::new(&[("b.kiwi", GOOD), ("Z.kiwi", GOOD), (".a.kiwi", GOOD)]);
    assert_eq!(folder.file().unwrap(), "d/Z.kiwi");
    let findings = folder.inspect(&Wanted::default()).findings;
    assert!(findings[0].text.contains("first of 2"), "{findings:?}");
    // Names that kiwi does not look for.
    let folder = Folder::new(&[
        ("foo.xml", GOOD),
        ("config.yml", ""),
        ("config.xml.bak", GOOD),
    ]);
    let error = folder.file().unwrap_err();
    assert!(
        error.contains("image/config.xml") && error.contains("--kiwi-file config.yml"),
        "{error}"
    );
    let wanted = |name: &str| Wanted {
        kiwi_file: Some(name.into()),
        ..Wanted::default()
    };
    for name in ["foo.xml", "/foo.xml", "./foo.xml"] {
        assert!(
            folder.inspect(&wanted(name)).description.is_some(),
            "{name}"
        );
    }
    let missing = folder.inspect(&wanted("other.kiwi"));
    assert!(
        missing.findings[0]
            .text
            .contains("other.kiwi (--kiwi-file)")
    );
    assert!(
        folder
            .inspect(&wanted("../d/foo.xml"))
            .errors()
            .next()
            .is_some()
    );
}

#[test]
fn a_file_that_is_none_is_named() {
    let folder = Folder::new(&[("x.kiwi/config", ""), ("y.kiwi", GOOD)]);
    assert_eq!(
        folder.file().unwrap_err(),
        "d/x.kiwi: is a folder, not a file"
    );
    let folder = Folder::new(&[("config.xml", "")]);
    assert_eq!(folder.file().unwrap_err(), "d/config.xml: is empty");
    let folder = Folder::new(&[("config.xml", "<image>\n</imag>")]);
    let error = folder.file().unwrap_err();
    assert!(
        error.starts_with("d/config.xml:2: malformed XML"),
        "{error}"
    );
    let folder = Folder::new(&[("config.xml", "<imag/>")]);
    assert!(folder.file().unwrap_err().contains("<imag>"));
    // As kiwi: a link that leads nowhere does not exist.
    let folder = Folder::new(&[("a.kiwi", GOOD)]);
    symlink("missing", folder.path("config.xml")).unwrap();
    assert_eq!(folder.file().unwrap(), "d/a.kiwi");
    fs::remove_file(folder.path("a.kiwi")).unwrap();
    let error = folder.file().unwrap_err();
    assert!(
        error.starts_with("d/config.xml: leads to d/missing"),
        "{error}"
    );
}

/// `config.xml` as a pipe, a device or a socket held the program for ever.
#[test]
fn what_never_ends_is_not_opened() {
    use nix::sys::stat::Mode;
    let folder = Folder::new(&[("b.kiwi", GOOD)]);
    nix::unistd::mkfifo(&folder.path("config.xml"), Mode::S_IRWXU).unwrap();
    assert_eq!(
        folder.file().unwrap_err(),
        "d/config.xml: is a named pipe, not a regular file"
    );
    for target in ["/dev/zero", "/dev/stdin", "/proc/self/mem"] {
        fs::remove_file(folder.path("config.xml")).unwrap();
        symlink(target, folder.path("config.xml")).unwrap();
        // The box has no such file of this host: kiwi would take the next one.
        assert_ne!(folder.file(), Ok(String::from("d/config.xml")), "{target}");
    }
    let folder = Folder::new(&[("include.xml", "")]);
    let text = GOOD.replace("</image>", "<include from=\"this://include.xml\"/></image>");
    fs::write(folder.path("config.xml"), text).unwrap();
    fs::remove_file(folder.path("include.xml")).unwrap();
    nix::unistd::mkfifo(&folder.path("include.xml"), Mode::S_IRWXU).unwrap();
    assert_eq!(
        folder.file().unwrap_err(),
        "d/include.xml: is a named pipe, not a regular file"
    );
    // A file without end.
    let folder = Folder::new(&[("config.xml", GOOD)]);
    let file = fs::File::options()
        .write(true)
        .open(folder.path("config.xml"))
        .unwrap();
    file.set_len(1 << 40).unwrap();
    let inspection = folder.inspect(&Wanted::default());
    assert!(
        inspection.errors().next().is_none(),
        "{:?}",
        inspection.findings
    );
    assert!(inspection.findings[0].text.contains("too long"));
}

#[test]
fn links_that_leave_the_folder_are_named() {
    let folder = Folder::new(&[
        ("config.xml", GOOD),
        ("../shared/good.xml", GOOD),
        ("../out.xml", GOOD),
    ]);
    fs::remove_file(folder.path("config.xml")).unwrap();
    symlink("../out.xml", folder.path("config.xml")).unwrap();
    let error = folder.file().unwrap_err();
    assert!(
        error.contains("leads to /out.xml in the box") && error.contains("--shared-path"),
        "{error}"
    );
    fs::remove_file(folder.path("config.xml")).unwrap();
    symlink(
        folder.0.path().join("shared/good.xml"),
        folder.path("config.xml"),
    )
    .unwrap();
    assert_eq!(folder.file().unwrap(), "d/config.xml");
    symlink("../common/config.sh", folder.path("config.sh")).unwrap();
    symlink("config.xml", folder.path("inside")).unwrap();
    let inspection = folder.inspect(&Wanted::default());
    assert_eq!(inspection.errors().count(), 0);
    let texts: Vec<String> = inspection
        .findings
        .iter()
        .map(ToString::to_string)
        .collect();
    assert!(
        texts.len() == 1 && texts[0].starts_with("d/config.sh: is a link to /common/config.sh"),
        "{texts:?}"
    );
    // What the box itself may have is not refused.
    fs::remove_file(folder.path("config.xml")).unwrap();
    symlink("/usr/share/descriptions/x.xml", folder.path("config.xml")).unwrap();
    let inspection = folder.inspect(&Wanted::default());
    assert_eq!(inspection.errors().count(), 0, "{:?}", inspection.findings);
}

#[test]
fn an_unreadable_file_says_why() {
    use std::os::unix::fs::PermissionsExt;
    let folder = Folder::new(&[("config.xml", GOOD)]);
    fs::set_permissions(folder.path("config.xml"), fs::Permissions::from_mode(0o000)).unwrap();
    if fs::File::open(folder.path("config.xml")).is_ok() {
        eprintln!("skipped: an_unreadable_file_says_why: root reads everything");
        return;
    }
    assert!(
        folder
            .file()
            .unwrap_err()
            .starts_with("d/config.xml: permission denied")
    );
    let wanted = Wanted {
        box_reads_all: true,
        ..Wanted::default()
    };
    assert_eq!(folder.inspect(&wanted).errors().count(), 0);
}

#[test]
fn includes_are_followed_once_and_named_where_they_are_missing() {
    let include =
        |from: &str| GOOD.replace("</image>", &format!("<include from=\"{from}\"/>\n</image>"));
    let part = "<image><repository><source path=\"http://a:b@h/\"/></repository>\n\
                <include from=\"this://x.xml\"/></image>";
    let folder = Folder::new(&[
        ("config.xml", &include("this://sub/r.xml")),
        ("sub/r.xml", part),
    ]);
    let inspection = folder.inspect(&Wanted::default());
    let summary = inspection.description.unwrap().summary(&Target::default());
    assert_eq!(summary.includes[0].file, "d/sub/r.xml");
    let repository = &summary.repositories[0];
    assert_eq!(
        (repository.file.as_str(), repository.line),
        ("d/sub/r.xml", 1)
    );
    assert!(!repository.source.contains('b'), "{repository:?}");
    let nested = &inspection.findings[0];
    assert!(
        nested.line == Some(2) && nested.text.contains("this://x.xml"),
        "{nested:?}"
    );
    let fails = |from: &str, text: &str| {
        fs::write(folder.path("config.xml"), include(from)).unwrap();
        let error = folder.file().unwrap_err();
        assert!(error.contains(text), "{error}");
    };
    fails(
        "this://none.xml",
        "d/config.xml:4: the include this://none.xml does not exist",
    );
    let absolute = format!("file://{}", folder.path("sub/r.xml").display());
    fails(&absolute, "write this://sub/r.xml");
    fails("this://../out.xml", "leads to /out.xml in the box");
    fs::write(folder.path("sub/r.xml"), "<image>\n<a></image>").unwrap();
    fails("this://sub/r.xml", "d/sub/r.xml:2: malformed XML");
}

/// A file of 4 MiB that was included a thousand times took all memory.
#[test]
fn all_includes_together_have_limits() {
    let with = |include: &str, count: usize| {
        GOOD.replace("</image>", &format!("{}</image>", include.repeat(count)))
    };
    let long = format!("<image>{}</image>", "<b/>".repeat(50_000));
    let folder = Folder::new(&[
        (
            "config.xml",
            &with("<include from=\"this://long.xml\"/>", 100),
        ),
        ("long.xml", &long),
    ]);
    let inspection = folder.inspect(&Wanted::default());
    let elements = inspection.description.unwrap().root().children.len();
    assert!((50_000..2_000_000).contains(&elements), "{elements}");
    assert!(inspection.findings[0].text.contains("too long"));
    // Each of those that lead nowhere is an error.
    let text = with("<include from=\"this://none.xml\"/>", 3_000);
    fs::write(folder.path("config.xml"), text).unwrap();
    assert!(folder.inspect(&Wanted::default()).findings.len() <= 1_001);
    let text = with("<include from=\"http://me:s3cret@h/x\"/>", 1);
    fs::write(folder.path("config.xml"), text).unwrap();
    let finding = &folder.inspect(&Wanted::default()).findings[0].text;
    assert!(!finding.contains("s3cret"), "{finding}");
}

#[test]
fn a_profile_or_type_that_is_not_there_is_named() {
    let folder = Folder::new(&[("config.xml", GOOD)]);
    let wanted = |profile: &str, image_type: Option<&str>| Wanted {
        target: Target {
            profiles: if profile.is_empty() {
                vec![]
            } else {
                vec![profile.to_owned()]
            },
            image_type: image_type.map(str::to_owned),
            arch: None,
        },
        ..Wanted::default()
    };
    let error = |wanted: &Wanted| {
        folder
            .inspect(wanted)
            .errors()
            .next()
            .map(ToString::to_string)
    };
    assert_eq!(error(&wanted("", None)), None);
    assert_eq!(error(&wanted("", Some("tbz"))), None);
    assert!(error(&wanted("P", None)).unwrap().contains("no profile P"));
    assert!(
        error(&wanted("", Some("oem")))
            .unwrap()
            .contains("no type oem")
    );
    // What is missing may be in a file of the box.
    let text = GOOD.replace(
        "</image>",
        "<include from=\"file:///usr/share/p.xml\"/></image>",
    );
    fs::write(folder.path("config.xml"), text).unwrap();
    assert_eq!(error(&wanted("P", None)), None);
    // A stand-in for kiwi has rules of its own.
    fs::write(folder.path("config.xml"), "<image/>").unwrap();
    assert_eq!(error(&wanted("P", Some("oem"))), None);
}

#[test]
fn an_old_schema_is_refused_for_a_kiwi_that_refuses_it() {
    let check = |schema: &str, kiwi: Option<&str>| {
        let folder = Folder::new(&[("config.xml", &GOOD.replace("8.0", schema))]);
        let description = folder.inspect(&Wanted::default()).description.unwrap();
        description
            .check_schema(kiwi)
            .map(|finding| finding.severity)
    };
    for fine in ["7.4", "7.5", "8.0", "8.5"] {
        assert_eq!(check(fine, Some("11.1.6")), None, "{fine}");
    }
    for old in ["6.8", "7.2", "1.4"] {
        assert_eq!(check(old, Some("11.1.6")), Some(Severity::Error), "{old}");
        assert_eq!(check(old, Some("9.24.56")), Some(Severity::Note));
        assert_eq!(check(old, None), Some(Severity::Note));
    }
    assert_eq!(check("8.6", Some("11.1.6")), Some(Severity::Note));
}

#[test]
fn secrets_of_a_description_are_not_shown() {
    let text = r#"<image schemaversion="8.0" name="x"><preferences>
        <type image="oem" luks="passphrase" filesystem="ext4"/></preferences>
        <users><user name="root" password="hash" groups="a,b"/></users>
        <repository username="me" password="word"><source path="https://me:word@h/x"/></repository></image>"#;
    let folder = Folder::new(&[("config.xml", text)]);
    let description = folder.inspect(&Wanted::default()).description.unwrap();
    let json = serde_json::to_string(&description.summary(&Target::default())).unwrap();
    for secret in ["passphrase", "hash", "word"] {
        assert!(!json.contains(secret), "{json}");
    }
    assert!(json.contains("ext4") && json.contains("\"a\""), "{json}");
}

#[test]
fn a_hostile_description_cannot_write_to_the_terminal() {
    let text = "<image schemaversion=\"8.0\">\n<preferences profiles=\"\u{9b}31m\u{202e}\"><type image=\"\u{9b}2J\"/></preferences></image>";
    let folder = Folder::new(&[("config.xml", text)]);
    for finding in folder.inspect(&Wanted::default()).findings {
        let shown = finding.to_string();
        assert!(
            !shown.chars().any(boxbuild_host::text::is_harmful),
            "{shown:?}"
        );
    }
}
