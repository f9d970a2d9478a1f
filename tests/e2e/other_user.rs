//! Tests of root's that run once more as a normal user with subordinate ids.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::process::Command;
use std::time::Duration;

use boxbuild_tests::env::{self, USER};
use boxbuild_tests::{Running, executable, skip, test_env};
use nix::unistd::User;

use crate::ONLY;
use crate::container::fixture::is_root;
use crate::registry::Test;

/// More than real builds take.
const LIMIT: Duration = Duration::from_secs(4 * 3600);

/// Runs `tests`, but for `this` itself, with the command line `words` as the user that [`USER`] names,
/// in a folder that the user can reach.
pub(crate) fn run(this: &str, tests: &[Test], words: &[&str]) {
    if !is_root() {
        return;
    }
    let Ok(name) = std::env::var(USER) else {
        return skip(this, &format!("running as root, and {USER} is not set"));
    };
    let user = User::from_name(&name).unwrap().expect("there is this user");
    let folder = tempfile::Builder::new()
        .prefix("boxbuild-user-")
        .tempdir_in("/var/tmp")
        .unwrap();
    let path = |name: &str| folder.path().join(name);
    let reachable = fs::Permissions::from_mode(0o755);
    fs::set_permissions(folder.path(), reachable).unwrap();
    for name in ["target", "tmp"] {
        fs::create_dir(path(name)).unwrap();
        let (uid, gid) = (user.uid.as_raw(), user.gid.as_raw());
        chown(path(name), Some(uid), Some(gid)).unwrap();
    }
    let program = &test_env().expect("checked before").boxbuild;
    executable::copy(program, &path("boxbuild"));
    executable::copy(&std::env::current_exe().unwrap(), &path("e2e"));
    let mut copy = Command::new("cp");
    copy.arg("-r").arg(env::tests()).arg(path("tests"));
    assert!(copy.status().unwrap().success());

    let names = tests.iter().map(|test| test.name);
    let names: Vec<&str> = names.filter(|name| *name != this).collect();
    let script = format!(
        "cd / && exec env {ONLY}={} BOXBUILD={} {}={} TMPDIR={} CARGO_TARGET_DIR={} {} {}",
        names.join(","),
        path("boxbuild").display(),
        env::TESTS,
        path("tests").display(),
        path("tmp").display(),
        path("target").display(),
        path("e2e").display(),
        words.join(" ")
    );
    let left = folder.path().to_owned();
    let mut su = Command::new("su");
    su.args([name.as_str(), "-c", &script]);
    let output = Running::start(&mut su).limit(LIMIT).finish();
    print!("{}", output.stdout);
    // Rootless podman's last process may still write where it had its state.
    if folder.close().is_err() {
        std::thread::sleep(Duration::from_secs(1));
        let _ = fs::remove_dir_all(left);
    }
    output.expect(0, &[]);
}
