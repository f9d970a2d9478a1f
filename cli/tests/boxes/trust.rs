//! What decides which files become a box: checksums, signatures, lock files, and whose list it is.

use std::fs;
use std::process::Command;

use crate::sandbox::{CommandResult, Sandbox};
use crate::sets::{self, Set, disk_path, sha256, sha512};

#[test]
fn the_checksum_counts_and_not_the_list_of_packages() {
    let sandbox = Sandbox::new();
    let mut set = Set::new(1, 20_000);
    set.publish(&sandbox.server);
    sandbox.run(&["box", "pull", "test"]).expect(0, &[]);
    set.kernel_archive = sets::archive(b"another kernel");
    set.publish(&sandbox.server);
    sandbox.run(&["box", "pull", "test"]).expect(0, &[]);
    assert!(sandbox.has(&set));
}

#[test]
fn checksums_of_every_format_are_read() {
    type Form = fn(&str, &[u8]) -> (&'static str, String);
    let forms: [Form; 4] = [
        |_, bytes| ("sha256", sha256(bytes)),
        |name, bytes| ("sha512", format!("{}  {name}\n", sha512(bytes))),
        |name, bytes| {
            (
                "sha256",
                format!(
                    "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\n{}  {name}\n\
                     -----BEGIN PGP SIGNATURE-----\n\niQ==\n-----END PGP SIGNATURE-----\n",
                    sha256(bytes)
                ),
            )
        },
        |name, bytes| ("sha256", format!("SHA256 ({name}) = {}\n", sha256(bytes))),
    ];
    for form in forms {
        let sandbox = Sandbox::new();
        let set = Set::new(1, 10_000);
        set.publish(&sandbox.server);
        for (name, bytes) in set.files() {
            sandbox.server.remove(&format!("/r/{name}.sha256"));
            let (extension, text) = form(&name, bytes);
            sandbox.server.put(&format!("/r/{name}.{extension}"), text);
        }
        sandbox.run(&["box", "pull", "test"]).expect(0, &[]);
        sandbox.server.take_requests();
        sandbox.run(&["box", "pull", "test"]).expect(0, &[]);
        assert!(sandbox.has(&set));
        let requests = sandbox.server.take_requests();
        assert!(
            requests
                .iter()
                .all(|request| request.target.contains(".sha"))
        );
    }
    let sandbox = Sandbox::new();
    Set::new(1, 10_000).publish(&sandbox.server);
    sandbox
        .server
        .put(&format!("{}.sha256", disk_path()), "<html>sorry</html>");
    sandbox
        .run(&["box", "pull", "test"])
        .expect(3, &["there is no sha256 in it", "<html>"]);
    assert!(!sandbox.root().join("test").exists());
}

/// GnuPG with keys of its own, in the working folder of a sandbox.
struct Gpg<'a> {
    sandbox: &'a Sandbox,
    home: tempfile::TempDir,
}

impl Gpg<'_> {
    /// Makes the key of the publisher, exported to `key.asc`, and another one, exported to
    /// `other.gpg`. `None` without GnuPG.
    fn with_keys(sandbox: &Sandbox) -> Option<Gpg<'_>> {
        let home = tempfile::tempdir().unwrap();
        let gpg = Gpg { sandbox, home };
        let done = gpg.run("--quick-gen-key box@example.org ed25519 sign")
            && gpg.run("--armor --output key.asc --export box@example.org")
            && gpg.run("--quick-gen-key other@example.org ed25519 sign")
            && gpg.run("--output other.gpg --export other@example.org");
        done.then_some(gpg)
    }

    fn run(&self, words: &str) -> bool {
        let options = [
            "--batch",
            "--yes",
            "--quiet",
            "--passphrase",
            "",
            "--homedir",
        ];
        Command::new("gpg")
            .args(options)
            .arg(self.home.path())
            .args(words.split(' '))
            .current_dir(self.sandbox.path("work"))
            .output()
            .is_ok_and(|output| output.status.success())
    }

    /// Signs `text` by the publisher's key, and returns what `command` makes of it.
    fn sign(&self, command: &str, text: &str) -> Vec<u8> {
        fs::write(self.sandbox.path("work/sums"), text).unwrap();
        assert!(self.run(&format!(
            "--local-user box@example.org --output signed {command} sums"
        )));
        fs::read(self.sandbox.path("work/signed")).unwrap()
    }
}

#[test]
fn checksums_must_be_signed_where_there_is_a_key() {
    let sandbox = Sandbox::new();
    let server = &sandbox.server;
    let set = Set::new(1, 10_000);
    set.publish(server);
    let Some(gpg) = Gpg::with_keys(&sandbox) else {
        eprintln!("skipped: checksums_must_be_signed_where_there_is_a_key: no gpg");
        return;
    };
    let pull = |key: &str| sandbox.run(&["box", "pull", "test", "--force", "--signed-by", key]);
    let sums = || {
        set.files().map(|(name, bytes)| {
            (
                format!("/r/{name}.sha256"),
                format!("{}  {name}\n", sha256(bytes)),
            )
        })
    };
    pull("key.asc").expect(3, &["not signed"]);
    for (path, sum) in sums() {
        server.put(
            &format!("{path}.asc"),
            gpg.sign("--armor --detach-sign", &sum),
        );
    }
    // The signature is over other bytes: the names in the published files have a version.
    pull("key.asc").expect(3, &["signature is not that of"]);
    for (path, sum) in sums() {
        server.put(&path, sum);
    }
    pull("key.asc").expect(0, &[]);
    pull("other.gpg").expect(3, &["signature is not that of"]);
    pull("sums").expect(2, &["not an OpenPGP public key"]);
    // Signed in place: text outside of the signature does not count.
    for (path, sum) in sums() {
        server.remove(&format!("{path}.asc"));
        server.put(&path, gpg.sign("--clear-sign", &sum));
    }
    pull("key.asc").expect(0, &[]);
    pull("other.gpg").expect(3, &["signature is not that of"]);
    let mut command = sandbox.command(&["box", "pull", "test", "--force"]);
    let result = command
        .env("BOXBUILD_SIGNED_BY", "other.gpg")
        .output()
        .unwrap();
    CommandResult::from(result).expect(3, &["signature is not that of"]);
    assert!(sandbox.has(&set));
    // A mirror serves what the publisher has signed for another box.
    for named in ["Other-Box.x86_64-1.2.3-System.qcow2", ""] {
        for (path, sum) in sums() {
            let (hash, _) = sum.split_once(' ').unwrap();
            server.put(
                &path,
                gpg.sign("--clear-sign", &format!("{hash}  {named}\n")),
            );
        }
        pull("key.asc").expect(3, &["its signature is for another file", named]);
    }
    assert!(sandbox.has(&set));
}

#[test]
fn a_list_in_the_working_folder_does_not_take_over_a_box() {
    let sandbox = Sandbox::new();
    let (mine, theirs) = (Set::new(1, 10_000), Set::new(2, 10_000));
    mine.publish(&sandbox.server);
    theirs.publish_at(&sandbox.server, "/theirs");
    sandbox.run(&["box", "pull", "test"]).expect(0, &[]);
    fs::write(
        sandbox.path("work/kiwi_boxed_plugin.yml"),
        sets::config(&format!("{}/theirs", sandbox.server.url())),
    )
    .unwrap();
    let there = |args: &[&str]| {
        let mut command = sandbox.command(args);
        CommandResult::from(
            command
                .env_remove("KIWI_BOXED_PLUGIN_CFG")
                .output()
                .unwrap(),
        )
    };
    for more in [&[][..], &["--force"], &["--no-update-check"]] {
        there(&[&["box", "pull", "test"], more].concat()).expect(2, &["would replace it"]);
    }
    there(&["box", "pull", "test", "--offline"]).expect(3, &["--offline"]);
    assert!(sandbox.has(&mine));
    there(&["box", "list"]).expect(0, &["kiwi_boxed_plugin.yml of this folder"]);
    // The other way round: what came from there is not used as the user's own.
    sandbox.run(&["box", "rm", "test"]).expect(0, &[]);
    there(&["box", "pull", "test"]).expect(0, &["kiwi_boxed_plugin.yml of this folder"]);
    assert!(sandbox.has(&theirs));
    sandbox
        .run(&["box", "pull", "test", "--offline"])
        .expect(3, &["--offline"]);
    sandbox
        .run(&["box", "pull", "test", "--no-update-check"])
        .expect(0, &[]);
    assert!(sandbox.has(&mine));
}

#[test]
fn a_locked_build_takes_no_other_box() {
    let sandbox = Sandbox::new();
    let (old, new) = (Set::new(1, 10_000), Set::new(2, 10_000));
    old.publish(&sandbox.server);
    let locked = ["box", "pull", "test", "--locked"];
    sandbox.run(&locked).expect(2, &["boxbuild.lock"]);
    sandbox.run(&["box", "pull", "test"]).expect(0, &[]);
    sandbox
        .run(&["box", "lock", "test"])
        .expect(0, &["boxbuild.lock"]);
    let text = fs::read_to_string(sandbox.path("work/boxbuild.lock")).unwrap();
    assert!(text.contains(&disk_path()) && text.contains(&sha256(&old.disk)));
    new.publish(&sandbox.server);
    sandbox.run(&locked).expect(0, &[]);
    assert!(sandbox.has(&old), "the lock file decides");
    sandbox.run(&["box", "pull", "test"]).expect(0, &[]);
    sandbox
        .run(&locked)
        .expect(2, &["published now", &sha256(&new.kernel_archive)]);
    assert!(sandbox.has(&new));
    old.publish(&sandbox.server);
    sandbox.run(&locked).expect(0, &[]);
    assert!(sandbox.has(&old));
    fs::write(
        sandbox.path("work/boxbuild.lock"),
        "{\"format\": 1, \"boxes\": []}",
    )
    .unwrap();
    sandbox.run(&locked).expect(2, &["does not have the box"]);
    fs::write(sandbox.path("work/boxbuild.lock"), "{").unwrap();
    sandbox.run(&locked).expect(2, &["not a lock file"]);
}
