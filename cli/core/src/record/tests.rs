//! Records as they are published, and what a check says of them.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use boxbuild_provenance::check::{self, Expected, Report, SignatureFound};
use boxbuild_provenance::names::{OPENPGP_SIGNATURE, SSH_SIGNATURE};
use boxbuild_provenance::sign::{Asking, Signer};
use boxbuild_provenance::trust::Trusted;
use serde_json::Value;

use super::*;
use crate::output_dir::{PublishError, Published, TargetDir};
use crate::plan::tests::plan_in;

const PACKAGES: &str = "apt|None|3.0.4|None|amd64|None|None\n\
    bsdutils|None|1:2.41.5-0+deb13u1|None|amd64|None|None\n";

struct Sandbox {
    dir: tempfile::TempDir,
}

impl Sandbox {
    fn new() -> Sandbox {
        let sandbox = Sandbox {
            dir: tempfile::tempdir().unwrap(),
        };
        fs::create_dir(sandbox.path("description")).unwrap();
        fs::write(sandbox.path("description/config.xml"), "<image/>").unwrap();
        sandbox
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn target(&self) -> PathBuf {
        self.path("target")
    }

    /// Publishes what `guest` leaves, with a record by `signer`.
    fn build(
        &self,
        signer: Option<Signer>,
        guest: impl FnOnce(&Path),
    ) -> Result<Published, PublishError> {
        let mut plan = plan_in(self.path("box"), |request| {
            request.build.rest = [
                "--set-repo",
                "http://u:s3cret@deb.example.org/debian,apt-deb",
            ]
            .map(OsString::from)
            .to_vec();
            request.attest = Some(Attest {
                signer,
                asking: Asking::No,
                command_line: ["--set-repo", "http://u:s3cret@deb.example.org/debian"]
                    .map(OsString::from)
                    .to_vec(),
                working_folder: "/".into(),
            });
        })
        .unwrap();
        plan.description = self.path("description");
        plan.target_dir = self.target();
        let target = TargetDir::acquire(&plan.target_dir).unwrap();
        let stop = StopCheck::default();
        let mut output = OutputDir::stage(&target, &stop).unwrap();
        let attest = plan.attest.as_ref().unwrap();
        let interrupt = Interrupt::default();
        let mut recording = Recording::begin(&plan, attest, "qemu", &output, &interrupt).unwrap();
        guest(output.share());
        let published = output.publish(Some(&mut recording), &stop);
        if published.is_err() {
            output.publish_failure(1).unwrap();
        }
        published
    }

    fn check(&self, trusted: Option<&Trusted>) -> Report {
        check_in(&self.target(), trusted)
    }

    /// A copy of the results, to be damaged.
    fn copy(&self) -> tempfile::TempDir {
        let copy = tempfile::tempdir_in(self.dir.path()).unwrap();
        let from = self.target().join(".");
        let copied = Command::new("cp")
            .arg("-a")
            .arg(from)
            .arg(copy.path())
            .status();
        assert!(copied.unwrap().success());
        copy
    }

    fn json(&self, name: &str) -> Value {
        serde_json::from_slice(&fs::read(self.target().join(name)).unwrap()).unwrap()
    }

    /// Makes a key pair of SSH.
    fn ssh_key(&self, name: &str, pass_phrase: &str) -> PathBuf {
        let path = self.path(name);
        let made = Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", pass_phrase, "-C", "farm", "-f"])
            .arg(&path)
            .stdin(Stdio::null())
            .status();
        assert!(made.unwrap().success());
        path
    }
}

fn check_in(folder: &Path, trusted: Option<&Trusted>) -> Report {
    let expected = Expected {
        beside: &["timings.html"],
        verdict: ("result.code", "0\n"),
        trusted,
        others: false,
    };
    check::check(folder, expected, &StopCheck::default()).unwrap()
}

/// What kiwi leaves, and a folder.
fn results(share: &Path) {
    fs::write(share.join("mini.x86_64-1.0.0-0.tar.xz"), vec![7; 100_000]).unwrap();
    fs::write(share.join("mini.x86_64-1.0.0-0.packages"), PACKAGES).unwrap();
    fs::write(share.join("result.log"), "log\n").unwrap();
    fs::create_dir(share.join("folder")).unwrap();
    fs::write(share.join("folder/back\\slash"), "x").unwrap();
    let sum = "e".repeat(64);
    fs::write(
        share.join(".boxbuild.observed"),
        format!("ID=debian\nVERSION_ID=\"13\"\n{sum}  /lists/deb.example.org_debian_dists_trixie_InRelease\n"),
    )
    .unwrap();
}

fn files(folder: &Path) -> Vec<String> {
    let dir = Dir::open(folder).unwrap();
    let listed = boxbuild_provenance::tree::list(&dir, &StopCheck::default()).unwrap();
    let names = listed
        .into_iter()
        .map(|entry| entry.path.into_string().unwrap());
    names
        .filter(|name| !name.starts_with(".boxbuild"))
        .collect()
}

fn has(program: &str) -> bool {
    let found = boxbuild_host::program::find(program).is_some();
    if !found {
        println!("skipped: signatures: no {program}");
    }
    found
}

#[test]
fn a_result_with_its_record_is_good() {
    let sandbox = Sandbox::new();
    sandbox.build(None, results).unwrap();
    let report = sandbox.check(None);
    assert_eq!(report.problems, []);
    assert_eq!(report.signature, SignatureFound::None);
    // Two results, one in a folder, the log, the statement and the bill of materials.
    assert_eq!(report.good_files, 6);
    let sums = Command::new("sha256sum")
        .args(["--check", "--strict", "--quiet", "SHA256SUMS"])
        .current_dir(sandbox.target())
        .status();
    assert!(sums.unwrap().success());
}

#[test]
fn a_record_says_what_is_known_and_no_secret() {
    let sandbox = Sandbox::new();
    sandbox.build(None, results).unwrap();
    let statement = sandbox.json(PROVENANCE);
    let definition = &statement["predicate"]["buildDefinition"];
    let all = definition["resolvedDependencies"].as_array().unwrap();
    let uris: Vec<_> = all.iter().filter_map(|one| one["uri"].as_str()).collect();
    let release = "http://deb.example.org/debian/dists/trixie/InRelease";
    assert_eq!(uris, [release]);
    let trees: Vec<_> = all
        .iter()
        .filter_map(|one| one["digest"]["gitTree"].as_str())
        .collect();
    assert_eq!(trees.len(), 1);
    assert_eq!(definition["externalParameters"]["secretsRemoved"], true);
    let sbom = sandbox.json(SBOM);
    let purls = serde_json::to_string(&sbom).unwrap();
    assert!(
        purls.contains("pkg:deb/debian/bsdutils@1:2.41.5-0%2Bdeb13u1?arch=amd64&distro=debian-13")
    );
    for name in files(&sandbox.target()) {
        let text = fs::read(sandbox.target().join(&name)).unwrap();
        assert!(!String::from_utf8_lossy(&text).contains("s3cret"), "{name}");
    }
}

/// One byte changed, in each of the files.
#[test]
fn a_byte_changed_in_any_file_is_found() {
    let sandbox = Sandbox::new();
    let signer = has("ssh-keygen").then(|| Signer::Ssh(sandbox.ssh_key("key", "")));
    let keys = signer
        .as_ref()
        .map(|_| Trusted::read(&sandbox.path("key.pub")).unwrap());
    sandbox.build(signer, results).unwrap();
    for name in files(&sandbox.target()) {
        for keys in [None, keys.as_ref()] {
            let len = fs::metadata(sandbox.target().join(&name)).unwrap().len() as usize;
            for at in [0, len / 2, len - 1] {
                let copy = sandbox.copy();
                let path = copy.path().join(&name);
                let mut bytes = fs::read(&path).unwrap();
                bytes[at] ^= 1;
                fs::write(&path, bytes).unwrap();
                let report = check_in(copy.path(), keys);
                assert!(!report.is_good(), "{name}, byte {at}");
                let named = report.problems.iter().any(|problem| {
                    problem.file == name || [SUMS, SSH_SIGNATURE].contains(&name.as_str())
                });
                assert!(named, "{name}: {:?}", report.problems);
            }
        }
    }
}

#[test]
fn files_that_are_missing_added_or_links_are_found() {
    let sandbox = Sandbox::new();
    sandbox.build(None, results).unwrap();
    for name in files(&sandbox.target()) {
        let copy = sandbox.copy();
        fs::remove_file(copy.path().join(&name)).unwrap();
        assert!(!check_in(copy.path(), None).is_good(), "{name} is missing");

        let copy = sandbox.copy();
        let (path, aside) = (copy.path().join(&name), sandbox.path("aside"));
        fs::rename(&path, &aside).unwrap();
        symlink(&aside, &path).unwrap();
        let report = check_in(copy.path(), None);
        assert!(!report.is_good(), "{name} is a link");
        assert!(report.problems.iter().any(|problem| problem.file == name));

        let copy = sandbox.copy();
        fs::remove_file(copy.path().join(&name)).unwrap();
        let fifo = copy.path().join(&name);
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(!check_in(copy.path(), None).is_good(), "{name} is a FIFO");
    }
    for extra in ["other.raw", "folder/more", ".profile", "a\u{1b}[2J"] {
        let copy = sandbox.copy();
        fs::write(copy.path().join(extra), "x").unwrap();
        let report = check_in(copy.path(), None);
        let [problem] = &report.problems[..] else {
            panic!("{extra:?}: {:?}", report.problems);
        };
        assert!(!problem.file.contains('\u{1b}'));
    }
    // A folder in the place of a folder's file, and a link in the place of a folder.
    let copy = sandbox.copy();
    fs::rename(copy.path().join("folder"), sandbox.path("moved")).unwrap();
    symlink(sandbox.path("moved"), copy.path().join("folder")).unwrap();
    assert!(!check_in(copy.path(), None).is_good());
}

/// Who changes a file and its checksums must change the statement, the bill of materials and, if there
/// is one, the signature.
#[test]
fn the_documents_of_a_record_hold_each_other() {
    let sandbox = Sandbox::new();
    sandbox.build(None, results).unwrap();
    let resum = |folder: &Path| {
        let mut sums = Sums::default();
        for name in files(folder) {
            if name == SUMS || name == "result.code" {
                continue;
            }
            let mut file = fs::File::open(folder.join(&name)).unwrap();
            sums.add(name, boxbuild_host::digest::sha256(&mut file).unwrap().1);
        }
        fs::write(folder.join(SUMS), sums.text()).unwrap();
    };
    let copy = sandbox.copy();
    resum(copy.path());
    assert!(check_in(copy.path(), None).is_good());
    fs::write(
        copy.path().join("mini.x86_64-1.0.0-0.tar.xz"),
        vec![8; 100_000],
    )
    .unwrap();
    resum(copy.path());
    let report = check_in(copy.path(), None);
    assert!(
        report
            .problems
            .iter()
            .any(|problem| problem.file == PROVENANCE),
        "{report:?}"
    );
    // A file more.
    let copy = sandbox.copy();
    fs::write(copy.path().join("more.raw"), "x").unwrap();
    resum(copy.path());
    assert!(!check_in(copy.path(), None).is_good());
    // A bill of materials of another image.
    let copy = sandbox.copy();
    let text = fs::read_to_string(copy.path().join(SBOM)).unwrap();
    fs::write(copy.path().join(SBOM), text.replace("3.0.4", "3.0.5")).unwrap();
    resum(copy.path());
    let report = check_in(copy.path(), None);
    assert!(
        report
            .problems
            .iter()
            .any(|problem| problem.file == PROVENANCE),
        "{report:?}"
    );
    // A statement that is too long to be read.
    let copy = sandbox.copy();
    let mut text = fs::read(copy.path().join(PROVENANCE)).unwrap();
    text.resize(check::LONGEST as usize + 1, b' ');
    fs::write(copy.path().join(PROVENANCE), text).unwrap();
    resum(copy.path());
    let report = check_in(copy.path(), None);
    assert_eq!(report.problems[0].file, PROVENANCE, "{report:?}");
    // A build that failed.
    let copy = sandbox.copy();
    fs::write(copy.path().join("result.code"), "1\n").unwrap();
    assert!(!check_in(copy.path(), None).is_good());
}

#[test]
fn a_signature_counts_only_by_a_key_that_is_trusted() {
    if !has("ssh-keygen") {
        return;
    }
    let sandbox = Sandbox::new();
    let key = sandbox.ssh_key("key", "");
    let other = sandbox.ssh_key("other", "");
    sandbox
        .build(Some(Signer::Ssh(key.clone())), results)
        .unwrap();
    let trusted = |path: PathBuf| Trusted::read(&path).unwrap();
    let good = sandbox.check(Some(&trusted(sandbox.path("key.pub"))));
    assert!(good.is_good(), "{good:?}");
    assert!(matches!(good.signature, SignatureFound::Good(_)));
    let known = sandbox.check(None);
    assert!(matches!(known.signature, SignatureFound::Somebody(by) if by.starts_with("SHA256:")));
    let bad = sandbox.check(Some(&trusted(sandbox.path("other.pub"))));
    assert_eq!(bad.problems[0].file, SSH_SIGNATURE);
    // Allowed signers, with patterns.
    let public = fs::read_to_string(sandbox.path("key.pub")).unwrap();
    let allowed = sandbox.path("allowed");
    fs::write(
        &allowed,
        format!("# x\n*@farm.example namespaces=\"file\" {public}"),
    )
    .unwrap();
    let report = sandbox.check(Some(&trusted(allowed.clone())));
    assert!(report.is_good(), "{report:?}");
    fs::write(
        &allowed,
        format!("me@farm.example namespaces=\"git\" {public}"),
    )
    .unwrap();
    assert!(!sandbox.check(Some(&trusted(allowed))).is_good());
    // Somebody signs again.
    let sums = fs::read(sandbox.target().join(SUMS)).unwrap();
    let forged = Signer::Ssh(other)
        .sign(&sums, Asking::No, &Interrupt::default())
        .unwrap();
    fs::write(sandbox.target().join(SSH_SIGNATURE), forged.text).unwrap();
    assert!(
        !sandbox
            .check(Some(&trusted(sandbox.path("key.pub"))))
            .is_good()
    );
    // Nobody does.
    fs::remove_file(sandbox.target().join(SSH_SIGNATURE)).unwrap();
    assert!(
        !sandbox
            .check(Some(&trusted(sandbox.path("key.pub"))))
            .is_good()
    );
    assert!(sandbox.check(None).is_good());
}

/// Without a terminal, a pass phrase that no agent knows fails clearly, and the results are kept.
#[test]
fn a_key_that_does_not_sign_publishes_nothing_and_loses_nothing() {
    if !has("ssh-keygen") {
        return;
    }
    let sandbox = Sandbox::new();
    let key = sandbox.ssh_key("key", "a pass phrase");
    let signer = Signer::Ssh(key);
    let early = signer.check(Asking::No, &Interrupt::default()).unwrap_err();
    assert!(early.to_string().contains("ssh-add"), "{early}");
    let error = sandbox.build(Some(signer), results).unwrap_err();
    let text = format!("{error}: {}", std::error::Error::source(&error).unwrap());
    assert!(
        text.contains("result.unpublished-1") && text.contains("ssh-add"),
        "{text}"
    );
    let rescued = sandbox.target().join("result.unpublished-1");
    assert!(rescued.join("mini.x86_64-1.0.0-0.tar.xz").exists());
    assert!(!sandbox.target().join("mini.x86_64-1.0.0-0.tar.xz").exists());
    let code = fs::read_to_string(sandbox.target().join("result.code")).unwrap();
    assert_eq!(code, "1\n");
}

#[test]
fn openpgp_signs_and_is_checked() {
    if !has("gpg") || !has("gpgv") {
        return;
    }
    let sandbox = Sandbox::new();
    // The path of a socket is short.
    let home = tempfile::tempdir().unwrap();
    let gpg = |words: &[&str]| {
        let output = Command::new("gpg")
            .args([
                "--batch",
                "--quiet",
                "--pinentry-mode",
                "loopback",
                "--passphrase",
                "",
            ])
            .args(words)
            .env("GNUPGHOME", home.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        output.stdout
    };
    for who in ["farm@example.org", "other@example.org"] {
        gpg(&["--quick-generate-key", who, "ed25519", "sign", "never"]);
        fs::write(sandbox.path(who), gpg(&["--armor", "--export", who])).unwrap();
    }
    sandbox.build(None, results).unwrap();
    let sums = sandbox.target().join(SUMS);
    let signature = gpg(&[
        "--armor",
        "--detach-sign",
        "--no-comments",
        "--no-emit-version",
        "--local-user",
        "farm@example.org",
        "--output",
        "-",
        sums.to_str().unwrap(),
    ]);
    fs::write(sandbox.target().join(OPENPGP_SIGNATURE), &signature).unwrap();
    let trusted = |who: &str| Trusted::read(&sandbox.path(who)).unwrap();
    assert_eq!(
        sandbox.check(Some(&trusted("farm@example.org"))).problems,
        []
    );
    assert!(!sandbox.check(Some(&trusted("other@example.org"))).is_good());
    assert_eq!(sandbox.check(None).signature, SignatureFound::NotChecked);
    for at in (0..signature.len()).step_by(7) {
        let mut changed = signature.clone();
        changed[at] ^= 1;
        fs::write(sandbox.target().join(OPENPGP_SIGNATURE), changed).unwrap();
        assert!(!sandbox.check(None).is_good(), "byte {at}");
    }
    let _ = Command::new("gpgconf")
        .args(["--kill", "gpg-agent"])
        .env("GNUPGHOME", home.path())
        .status();
}

#[test]
fn names_of_the_record_are_not_the_guests() {
    let sandbox = Sandbox::new();
    let published = sandbox.build(None, |share| {
        results(share);
        fs::write(share.join(SUMS), "forged").unwrap();
        fs::create_dir(share.join(SBOM)).unwrap();
        symlink("/etc/passwd", share.join(PROVENANCE)).unwrap();
    });
    assert_eq!(published.unwrap().notes.len(), 3);
    assert_eq!(sandbox.check(None).problems, []);
}

/// A record that its own check would not read is not published.
#[test]
fn a_record_is_no_longer_than_a_check_reads() {
    let sandbox = Sandbox::new();
    let error = sandbox
        .build(None, |share| {
            results(share);
            let line = |number| format!("package-{number}|None|1|None|amd64|None|None\n");
            let list: String = (0..120_000).map(line).collect();
            fs::write(share.join("more.packages"), list).unwrap();
        })
        .unwrap_err();
    let text = format!("{error}: {}", std::error::Error::source(&error).unwrap());
    assert!(
        text.contains("result.unpublished-1") && text.contains(SBOM),
        "{text}"
    );
}

/// A record is about the results beside it.
#[test]
fn a_later_build_without_a_record_leaves_none() {
    let sandbox = Sandbox::new();
    sandbox.build(None, results).unwrap();
    assert!(sandbox.target().join(SUMS).exists());
    let target = TargetDir::acquire(&sandbox.target()).unwrap();
    let stop = StopCheck::default();
    let mut output = OutputDir::stage(&target, &stop).unwrap();
    results(output.share());
    output.publish(None, &stop).unwrap();
    for name in [SUMS, SBOM, PROVENANCE] {
        assert!(!sandbox.target().join(name).exists(), "{name}");
    }
}

/// What builds made in a description is not a part of it.
#[test]
fn results_in_the_description_do_not_change_its_hash() {
    let tree = |sandbox: &Sandbox, target: &str| {
        let target = &sandbox.path(target);
        let mut plan = plan_in(sandbox.path("box"), |_| {}).unwrap();
        plan.description = sandbox.path("description");
        plan.target_dir = target.clone();
        let attest = Attest {
            signer: None,
            asking: Asking::No,
            command_line: Vec::new(),
            working_folder: PathBuf::new(),
        };
        let held = TargetDir::acquire(target).unwrap();
        let stop = StopCheck::default();
        let mut output = OutputDir::stage(&held, &stop).unwrap();
        let recording =
            Recording::begin(&plan, &attest, "qemu", &output, &Interrupt::default()).unwrap();
        let tree = recording.description.tree.clone();
        results(output.share());
        output.publish(None, &stop).unwrap();
        tree
    };
    let sandbox = Sandbox::new();
    let first = tree(&sandbox, "description");
    assert_eq!(tree(&sandbox, "description"), first);
    let sandbox = Sandbox::new();
    assert_eq!(tree(&sandbox, "description/out"), first);
    assert_eq!(tree(&sandbox, "description/out"), first);
}

/// By the projects' own programs, where they are (`make packages-validators`).
#[test]
fn the_documents_pass_the_validators_of_their_formats() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let python = std::env::var_os("BOXBUILD_TEST_VALIDATORS")
        .map_or_else(|| top.join("target/validators"), PathBuf::from)
        .join("bin/python");
    if !python.exists() {
        println!(
            "skipped: validators of SPDX and in-toto: not installed (make packages-validators)"
        );
        return;
    }
    let sandbox = Sandbox::new();
    let packages = format!(
        "{PACKAGES}bind|32|9.18|1.fc41|x86_64|(none)|MPL-2.0\nold|(none)|1|2|noarch|(none)|Freely\n\
         gpg-pubkey|(none)|e8|5f|(none)|(none)|pubkey\n"
    );
    let guest = |share: &Path| {
        results(share);
        fs::write(share.join("rpm.x86_64-1.0.0-0.packages"), &packages).unwrap();
    };
    sandbox.build(None, guest).unwrap();
    let output = Command::new(python)
        .arg(top.join("tests/setup/validate-record"))
        .arg(sandbox.target())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
}
