//! The build: what the description brings for the box, and kiwi.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use boxinit::job::Job;
use boxinit::wishes::{Keep, Wishes};
use boxinit::{host_xz, patience};

use super::control::{Control, port};
use super::process::{How, Supervisor};
use super::shares::{BUNDLE, CODE, DESCRIPTION};
use super::{Stop, failed, sshd};

/// Where kiwi works: on the box's disk.
const RESULT: &str = "/result";
const LOG: &str = "/bundle/result.log";
/// What the box's guest sides run before each build, if it is there.
const PROFILE: &str = "/etc/boxprofile";
/// Where kiwi's Python looks first.
const PYTHON: &str = "/run/boxbuild";
/// Where kiwi's children look for programs first.
const PROGRAMS: &str = "/run/boxbuild/bin";
/// Exit code of a command that was not found, as shells have it.
const NOT_FOUND: i32 = 127;

type Environment = Vec<(OsString, OsString)>;

/// The environment of everything that runs in the box.
pub(super) fn environment() -> Environment {
    [
        (
            "PATH",
            "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        ),
        ("HOME", "/root"),
        ("LANG", "C.UTF-8"),
    ]
    .map(|(name, value)| (name.into(), value.into()))
    .into()
}

/// Runs the build and leaves its verdict for the host: the exit code. An error means that kiwi
/// did not run.
pub(super) fn run(
    job: &Job,
    wishes: Wishes,
    supervisor: &mut Supervisor,
    control: &mut Control,
) -> Result<i32, Stop> {
    overlay(supervisor, control)?;
    // What the description brings may be the sshd, or what it is configured by.
    if let Some(key) = &job.ssh_key {
        sshd::start(key, supervisor, control);
    }
    let mut environment = profile(supervisor, control)?;
    let _ = fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create("/root/.gnupg");
    environment.extend(job.environment.iter().cloned());
    if let Some(version) = &job.kiwi_version {
        install_kiwi(version, &environment, supervisor, control)?;
    }

    // A disk that outlives the machine is written to as kiwi wants it.
    let how = if wishes.keep == Keep::Always {
        How::Plain
    } else {
        How::Impatient
    };
    control.mark("kiwi");
    control.report("phase build");
    let mut command = kiwi(&environment);
    command.arg("--logfile").arg(LOG).args(&job.args);
    command.args(["--description", DESCRIPTION, "--target-dir", RESULT]);
    // kiwi says everything in its log file, too; what else it says belongs on the console.
    command.stdout(Stdio::null());
    let mut code = code(supervisor.run(command, how, control), "kiwi-ng");
    if code == 0 {
        control.report("phase bundle");
        let mut command = kiwi(&environment);
        command.args(["result", "bundle", "--id", "0", "--target-dir", RESULT]);
        command.args(["--bundle-dir", BUNDLE]);
        if let Ok(log) = File::options().append(true).create(true).open(LOG) {
            command.stdout(log);
        }
        code = self::code(supervisor.run(command, how, control), "kiwi-ng");
    }
    if code == 0 && supervisor.ending {
        code = 1;
    }
    if code == 0 {
        // Nothing is held back in the box, but a full disk of the host may show only now.
        flush().map_err(failed("write the results to the host"))?;
    }
    fs::write(CODE, format!("{code}\n")).map_err(failed(format_args!("write {CODE}")))?;
    control.report(&format!("exit {code}"));
    Ok(code)
}

/// Where the description has files of its own for the box.
pub(super) fn boxroot() -> PathBuf {
    Path::new(DESCRIPTION).join("boxroot")
}

/// Lays `boxroot/` of the description over the box.
fn overlay(supervisor: &mut Supervisor, control: &mut Control) -> Result<(), Stop> {
    let boxroot = boxroot();
    if !boxroot.is_dir() {
        return Ok(());
    }
    let mut command = command("cp", &environment());
    command.arg("-a").arg(boxroot.join(".")).arg("/");
    let status = supervisor.run(command, How::Impatient, control);
    match code(status, "cp") {
        0 => Ok(()),
        code => Err(Stop::Failed(format!(
            "cannot copy boxroot/ of the description: cp ended with {code}"
        ))),
    }
}

/// Runs the box's profile in a shell; returns the environment that it leaves.
fn profile(supervisor: &mut Supervisor, control: &mut Control) -> Result<Environment, Stop> {
    const LEFT: &str = "/run/boxbuild.environment";
    let environment = environment();
    if !Path::new(PROFILE).exists() {
        return Ok(environment);
    }
    let mut command = command("/bin/sh", &environment);
    command
        .arg("-c")
        .arg(format!(". {PROFILE}\ncat /proc/self/environ >{LEFT}"));
    let status = supervisor.run(command, How::Impatient, control);
    code(status, "/bin/sh");
    let left = fs::read(LEFT)
        .map_err(|_| Stop::Failed(format!("{PROFILE} of the box ended the shell that ran it")))?;
    Ok(left
        .split(|byte| *byte == 0)
        .filter_map(|line| {
            let at = line.iter().position(|byte| *byte == b'=')?;
            let (name, value) = (&line[..at], &line[at + 1..]);
            (!name.is_empty()).then(|| {
                (
                    OsString::from_vec(name.to_vec()),
                    OsString::from_vec(value.to_vec()),
                )
            })
        })
        .collect())
}

fn install_kiwi(
    version: &OsStr,
    environment: &Environment,
    supervisor: &mut Supervisor,
    control: &mut Control,
) -> Result<(), Stop> {
    let wanted = OsString::from_vec([b"kiwi==", version.as_bytes()].concat());
    let mut command = command("pip3", environment);
    command
        .args(["install", "--break-system-packages"])
        .arg(&wanted);
    let status = supervisor.run(command, How::Impatient, control);
    match code(status, "pip3") {
        0 => Ok(()),
        code => Err(Stop::Failed(format!(
            "cannot install {}: pip3 ended with {code}",
            wanted.display()
        ))),
    }
}

fn kiwi(environment: &Environment) -> Command {
    let mut command = command("kiwi-ng", environment);
    // Without it the build is slower, not wrong.
    let folder = Path::new(PYTHON);
    let written = fs::create_dir_all(folder)
        .and_then(|()| fs::write(folder.join(patience::FILE), patience::PROGRAM));
    if written.is_ok() {
        let before = environment
            .iter()
            .rfind(|(name, _)| name == patience::VARIABLE)
            .map(|(_, value)| value.as_os_str());
        command.env(patience::VARIABLE, patience::search_path(PYTHON, before));
    }
    if let Some(path) = host_xz(environment) {
        command.env("PATH", path);
    }
    command
}

/// Where the host compresses for the box: has its xz in front of the box's own. Returns the search
/// path for programs, or nothing where all stays as it is.
fn host_xz(environment: &Environment) -> Option<OsString> {
    port(host_xz::PORT)?;
    let folder = Path::new(PROGRAMS);
    let program = folder.join("xz");
    if !Path::new(host_xz::INTERPRETER).exists() {
        return None;
    }
    fs::create_dir_all(folder)
        .and_then(|()| fs::write(&program, host_xz::PROGRAM))
        .and_then(|()| fs::set_permissions(&program, fs::Permissions::from_mode(0o755)))
        .ok()?;
    let (_, others) = environment.iter().rfind(|(name, _)| name == "PATH")?;
    let mut path = OsString::from(PROGRAMS);
    path.push(":");
    path.push(others);
    Some(path)
}

fn command(program: &str, environment: &Environment) -> Command {
    let mut command = Command::new(program);
    command
        .env_clear()
        .envs(environment.iter().cloned())
        .current_dir("/");
    command.stdin(Stdio::null());
    command
}

/// The exit code of a command, as a shell would have it.
fn code(status: io::Result<ExitStatus>, program: &str) -> i32 {
    match status {
        Ok(status) => status
            .code()
            .or_else(|| status.signal().map(|signal| 128 + signal))
            .unwrap_or(1),
        Err(error) => {
            eprintln!("boxbuild: cannot start {program}: {error}");
            NOT_FOUND
        }
    }
}

fn flush() -> nix::Result<()> {
    let bundle = File::open(BUNDLE)
        .map_err(|error| nix::errno::Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)))?;
    match nix::unistd::syncfs(bundle) {
        // A server need not know the request.
        Err(nix::errno::Errno::ENOSYS | nix::errno::Errno::EOPNOTSUPP) => Ok(()),
        result => result,
    }
}
