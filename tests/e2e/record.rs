//! The record beside a result (`--attest`), and `boxbuild verify`.

use std::fs;
use std::process::Command;

use boxbuild_tests::{ProcessOutput, Sandbox, names};

crate::tests! {
    Engine:
        the_clock_of_a_reproducible_build_stands_still;
    Program:
        a_result_with_a_record_is_verified,
        a_second_build_is_compared,
        a_guest_says_where_its_packages_came_from,
        a_key_that_cannot_sign_is_told_before_the_build;
}

/// What kiwi leaves of a small image, and where it keeps indexes.
const GUEST: &str = "echo image >/result/mini.x86_64-1.0.0-0.tar
    echo 'apt|None|3.0.4|None|amd64|None|None' >/result/mini.x86_64-1.0.0-0.packages
    mkdir -p /var/cache/kiwi/apt-get/lists
    echo x >/var/cache/kiwi/apt-get/lists/deb.example.org_debian_dists_x_InRelease";

/// Fails unless a command ended with `code` and has `text` on standard output.
#[track_caller]
fn says(output: &ProcessOutput, code: i32, text: &str) {
    output.expect(code, &[]);
    assert!(output.stdout.contains(text), "{}", output.stdout);
}

fn a_result_with_a_record_is_verified() {
    let sandbox = Sandbox::new(GUEST);
    let key = sandbox.path("key");
    let made = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-f"])
        .arg(&key)
        .status();
    if !made.is_ok_and(|status| status.success()) {
        println!("skipped: a_result_with_a_record_is_verified: no ssh-keygen");
        return;
    }
    let option = format!("--attest={}", key.display());
    sandbox.build(&[&option], &[]).expect(0, &[]);
    assert!(names(&sandbox.target()).contains(&String::from("SHA256SUMS.sig")));
    let target = sandbox.target();
    let target_text = target.to_str().unwrap();
    let public = sandbox.path("key.pub");
    let public = public.to_str().unwrap();
    let verify = |words: &[&str]| sandbox.run(&[&["verify"], words].concat());
    says(
        &verify(&["--signed-by", public, target_text]),
        0,
        "good: 5 files",
    );
    says(&verify(&["--json", target_text]), 0, "\"good\": true");
    for name in names(&target) {
        let path = target.join(&name);
        let mut bytes = fs::read(&path).unwrap();
        bytes[0] ^= 1;
        fs::write(&path, &bytes).unwrap();
        verify(&["--signed-by", public, target_text]).expect(3, &["do not use it"]);
        bytes[0] ^= 1;
        fs::write(&path, &bytes).unwrap();
    }
    says(
        &verify(&["--signed-by", public, target_text]),
        0,
        "signed by",
    );
    verify(&[&format!("{target_text}/nowhere")]).expect(2, &["nowhere"]);
    // The next build in this folder replaces the record, too.
    sandbox.build(&["--attest"], &[]).expect(0, &[]);
    says(&verify(&[target_text]), 0, "not signed");
    verify(&["--signed-by", public, target_text]).expect(3, &["not signed"]);
    sandbox.assert_nothing_left();
}

fn a_guest_says_where_its_packages_came_from() {
    let sandbox = Sandbox::new(GUEST);
    sandbox.build(&["--attest"], &[]).expect(0, &[]);
    let statement = sandbox.result("provenance.intoto.json");
    assert!(
        statement.contains("deb.example.org_debian_dists_x_InRelease"),
        "{statement}"
    );
    // What `echo x` writes.
    let sum = "73cb3858a687a8494ca3323053016282f3dad39d42cf62ca4e79dda2aac7d9ac";
    assert!(statement.contains(sum), "{statement}");
    let sbom = sandbox.result("sbom.spdx.json");
    assert!(sbom.contains("pkg:deb/apt@3.0.4?arch=amd64"), "{sbom}");
}

fn a_key_that_cannot_sign_is_told_before_the_build() {
    let sandbox = Sandbox::new("touch /result/image");
    let key = sandbox.path("key");
    let made = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "a pass phrase", "-f"])
        .arg(&key)
        .status();
    if !made.is_ok_and(|status| status.success()) {
        println!("skipped: a_key_that_cannot_sign_is_told_before_the_build: no ssh-keygen");
        return;
    }
    let option = format!("--attest={}", key.display());
    let output = sandbox.build(&[&option], &[]);
    output.expect(3, &["ssh-add"]);
    assert!(!output.stderr.contains("boot"), "{}", output.stderr);
    sandbox
        .build(&["--attest=/nowhere/key"], &[])
        .expect(2, &["there is no such file"]);
    assert!(!sandbox.target().exists());
}

/// Two seconds pass, and the clock says the same.
fn the_clock_of_a_reproducible_build_stands_still() {
    let sandbox = Sandbox::new(
        "date +%s >/result/times; sleep 2; date +%s >>/result/times
         echo $SOURCE_DATE_EPOCH >>/result/times; echo $TAR_OPTIONS >>/result/times",
    );
    sandbox
        .build(&["--reproducible=1700000000"], &[])
        .expect(0, &[]);
    let epoch = "1700000000";
    let tar = format!("--sort=name --mtime=@{epoch} --clamp-mtime");
    assert_eq!(
        sandbox.result("times"),
        format!("{epoch}\n{epoch}\n{epoch}\n{tar}\n")
    );
    sandbox
        .build(&["--reproducible=yesterday"], &[])
        .expect(2, &["seconds since 1970"]);
    sandbox
        .build(&["--reproducible=7", "--boot", "compat"], &[])
        .expect(2, &["boot it fast"]);
}

fn a_second_build_is_compared() {
    let sandbox = Sandbox::new("date +%s >/result/time; echo x >/result/same");
    let target = sandbox.target();
    let target = target.to_str().unwrap();
    let again = |words: &[&str]| sandbox.run(&[&["verify-build", target], words].concat());
    sandbox
        .build(&["--attest", "--reproducible=1700000000"], &[])
        .expect(0, &[]);
    again(&[]).expect(2, &["--trust-record"]);
    says(&again(&["--trust-record"]), 0, "no difference: 2 files");
    assert!(!sandbox.path("target.again").exists());
    // By the clock of the host.
    sandbox.build(&["--attest"], &[]).expect(0, &[]);
    says(&again(&["--trust-record", "--json"]), 1, "\"same\": false");
    let kept = format!("{target}.again");
    says(&sandbox.run(["diff", target, &kept]), 1, "time: differs");
    says(&sandbox.run(["diff", target, target]), 0, "no difference");
}
