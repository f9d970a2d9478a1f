//! The build: applies what the description brings for the box, and runs kiwi.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use boxbuild_protocol::boot_options::{BootOptions, KeepDisk};
use boxbuild_protocol::job::Job;
use boxbuild_protocol::paths::{
    BUNDLE, CHECKPOINT, CODE, CREATE_ARGS, DESCRIPTION, LOG, OBSERVED, PROGRAM, TAKE_OVER, TARGET,
};
use boxbuild_protocol::ports;
use boxbuild_protocol::report::{BootStep, GuestPhase, Report};
use boxinit::{host_xz, kiwi_patch};

use super::boxroot;
use super::checkpoint::Checkpoint;
use super::control::{Control, port};
use super::environment::{self, Environment};
use super::error::{GuestError, failed};
use super::packages;
use super::process::{SpawnMode, Supervisor};
use super::sshd;

/// A shell script that the guest sides of all boxes run before each build, if there is one.
const PROFILE: &str = "/etc/boxprofile";
/// First in the module search path of kiwi's Python.
const PYTHON_DIR: &str = boxbuild_protocol::paths::RUN;
/// First in the search path for kiwi's programs.
const BIN_DIR: &str = "/run/boxbuild/bin";
/// The option of `kiwi-ng system build` that goes on with the root tree of an earlier build.
const ALLOW_EXISTING_ROOT: &str = "--allow-existing-root";
/// A folder that fsck(8) wants at the top of a file system.
const LOST_AND_FOUND: &str = "lost+found";
/// Prints what [`observe`] notes. Where kiwi 11 keeps indexes: `kiwi/repository/{apt,dnf5,zypper}.py`.
const OBSERVE: &str = include_str!("observe.sh");
/// Exit code of a command that was not found (POSIX, "Exit Status for Commands").
const NOT_FOUND: i32 = 127;

/// Runs the build and writes its exit code for the host. An error means that kiwi did not run.
pub(super) fn run(
    job: &Job,
    options: BootOptions,
    checkpoint: &Checkpoint,
    supervisor: &mut Supervisor,
    control: &mut Control,
) -> Result<i32, GuestError> {
    let goes_on = !job.create.is_empty();
    if !goes_on && !job.args.iter().any(|word| word == ALLOW_EXISTING_ROOT) {
        empty_target(supervisor, control)?;
    }
    copy_boxroot(supervisor, control)?;
    // After boxroot/: it may bring the sshd or its configuration.
    if let Some(key) = &job.ssh_key {
        sshd::start(key, supervisor, control);
    }
    let mut environment = run_profile(supervisor, control)?;
    let _ = fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create("/root/.gnupg");
    environment.extend(job.environment.iter().cloned());
    if let Some(version) = &job.kiwi_version {
        install_kiwi(version, &environment, supervisor, control)?;
    }

    if !job.box_packages.is_empty() {
        packages::install(&job.box_packages, &environment, supervisor, control)?;
    }

    // A disk that outlives the machine must hold what kiwi has synchronized.
    let mode = if options.keep == KeepDisk::Always {
        SpawnMode::Plain
    } else {
        SpawnMode::NoSync
    };
    control.mark(BootStep::Kiwi);
    control.report(Report::Phase(GuestPhase::Build));
    let program = Path::new(PROGRAM).exists().then_some(PROGRAM);
    let mut code = if goes_on {
        create(job, &environment, mode, supervisor, control)
    } else {
        let mut command = match program {
            Some(program) => python(program, &environment),
            None => kiwi(&environment),
        };
        of_build(&mut command, job);
        let end = (options.keep == KeepDisk::OnFailure && program.is_none())
            .then(|| checkpoint.connect(control))
            .flatten();
        if let Some(end) = &end {
            command.env(CHECKPOINT, end.number().to_string());
        }
        let status = supervisor.run(command, mode, control);
        checkpoint.finish();
        exit_code(status, "kiwi-ng")
    };
    if code == 0 && program.is_none() {
        control.report(Report::Phase(GuestPhase::Bundle));
        let mut command = kiwi(&environment);
        command.args(["result", "bundle", "--id", "0", "--target-dir", TARGET]);
        command.args(["--bundle-dir", BUNDLE]);
        // A build may have left a FIFO there, which would wait for a reader.
        let log = File::options()
            .append(true)
            .create(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(LOG);
        if let Ok(log) = log {
            command.stdout(log);
        }
        code = exit_code(supervisor.run(command, mode, control), "kiwi-ng");
    }
    if code == 0 && job.observe {
        observe(&environment, supervisor, control);
    }
    if code == 0 && supervisor.stop_requested() {
        code = 1;
    }
    if code == 0 {
        // The guest caches nothing of the share, but a full disk of the host may show only now.
        with_inodes(sync_bundle).map_err(failed("write the results to the host"))?;
    }
    with_inodes(|| fs::write(CODE, format!("{code}\n")))
        .map_err(failed(format_args!("write {CODE}")))?;
    control.report(Report::Exit(code));
    Ok(code)
}

/// Gives a command the arguments of `kiwi-ng system build`.
fn of_build(command: &mut Command, job: &Job) {
    command.arg("--logfile").arg(LOG).args(&job.args);
    command.args(["--description", DESCRIPTION, "--target-dir", TARGET]);
    // What kiwi prints is also in its log file; the console is for everything else.
    command.stdout(Stdio::null());
}

/// Goes on after kiwi's `prepare`, whose root tree is on the disk: takes the description over as it is
/// now, and makes the image. A kiwi that is no Python program has its description in the root tree.
fn create(
    job: &Job,
    environment: &Environment,
    mode: SpawnMode,
    supervisor: &mut Supervisor,
    control: &mut Control,
) -> i32 {
    let has_python = [host_xz::INTERPRETER, "/usr/local/bin/python3"]
        .iter()
        .any(|path| Path::new(path).exists());
    if Path::new(TAKE_OVER).exists() && has_python {
        let mut command = python(TAKE_OVER, environment);
        of_build(&mut command, job);
        match exit_code(supervisor.run(command, mode, control), "python3") {
            0 => {}
            code => return code,
        }
    }
    let more = fs::read(CREATE_ARGS).unwrap_or_default();
    let more = more
        .split(|byte| *byte == b'\n')
        .filter(|word| !word.is_empty());
    let mut command = kiwi(environment);
    command.arg("--logfile").arg(LOG).args(&job.create);
    command.args(more.map(|word| OsString::from_vec(word.to_vec())));
    command.args(["--target-dir", TARGET]).stdout(Stdio::null());
    exit_code(supervisor.run(command, mode, control), "kiwi-ng")
}

fn python(program: &str, environment: &Environment) -> Command {
    let mut command = command("python3", environment);
    command.arg(program);
    command
}

/// The description's folder of files for the box itself.
pub(super) fn boxroot_folder() -> PathBuf {
    Path::new(DESCRIPTION).join("boxroot")
}

/// Notes for the host what distribution is in the image, and the indexes of the repositories that its
/// packages came from. What cannot be found out is not in the note.
fn observe(environment: &Environment, supervisor: &mut Supervisor, control: &mut Control) {
    let _ = fs::remove_file(OBSERVED);
    let note = File::options().write(true).create_new(true).open(OBSERVED);
    let Ok(note) = note else { return };
    let mut command = command("/bin/sh", environment);
    command.args(["-c", OBSERVE]).stdout(note);
    let status = supervisor.run(command, SpawnMode::NoSync, control);
    exit_code(status, "/bin/sh");
}

/// Copies `boxroot/` of the description over the box.
fn copy_boxroot(supervisor: &mut Supervisor, control: &mut Control) -> Result<(), GuestError> {
    let boxroot = boxroot_folder();
    if !boxroot.is_dir() {
        return Ok(());
    }
    let problem = "copy boxroot/ of the description";
    for copy in boxroot::plan(&boxroot, Path::new("/")).map_err(failed(problem))? {
        let mut command = command("cp", &environment::base());
        command.args(copy.args());
        let status = supervisor.run(command, SpawnMode::NoSync, control);
        match exit_code(status, "cp") {
            0 => copy.give_to_root().map_err(failed(problem))?,
            code => {
                return Err(GuestError::Failed(format!(
                    "cannot {problem}: cp ended with {code}"
                )));
            }
        }
    }
    Ok(())
}

/// Empties kiwi's target folder: a build that wrote into a disk that outlives its machine has left its
/// root tree there, over which kiwi does not build.
fn empty_target(supervisor: &mut Supervisor, control: &mut Control) -> Result<(), GuestError> {
    let left: Vec<PathBuf> = match fs::read_dir(TARGET) {
        Ok(entries) => entries
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.file_name() != Some(OsStr::new(LOST_AND_FOUND)))
            .collect(),
        Err(_) => return Ok(()),
    };
    if left.is_empty() {
        return Ok(());
    }
    let mut command = command("rm", &environment::base());
    command.arg("-rf").args(left);
    match exit_code(supervisor.run(command, SpawnMode::NoSync, control), "rm") {
        0 => Ok(()),
        code => Err(GuestError::Failed(format!(
            "cannot empty {TARGET} of an earlier build: rm ended with {code}"
        ))),
    }
}

/// Runs the box's profile in a shell and returns the shell's environment after it.
fn run_profile(
    supervisor: &mut Supervisor,
    control: &mut Control,
) -> Result<Environment, GuestError> {
    const DUMP: &str = "/run/boxbuild.environment";
    let environment = environment::base();
    if !Path::new(PROFILE).exists() {
        return Ok(environment);
    }
    let mut command = command("/bin/sh", &environment);
    command
        .arg("-c")
        .arg(format!(". {PROFILE}\ncat /proc/self/environ >{DUMP}"));
    let status = supervisor.run(command, SpawnMode::NoSync, control);
    // The dump tells whether it worked; a shell that does not start is reported on the console.
    exit_code(status, "/bin/sh");
    let dump = fs::read(DUMP).map_err(|_| {
        GuestError::Failed(format!("{PROFILE} of the box ended the shell that ran it"))
    })?;
    Ok(dump
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
    version: &OsString,
    environment: &Environment,
    supervisor: &mut Supervisor,
    control: &mut Control,
) -> Result<(), GuestError> {
    let mut requirement = OsString::from("kiwi==");
    requirement.push(version);
    let mut command = command("pip3", environment);
    command
        .args(["install", "--break-system-packages"])
        .arg(&requirement);
    let status = supervisor.run(command, SpawnMode::NoSync, control);
    match exit_code(status, "pip3") {
        0 => Ok(()),
        code => Err(GuestError::Failed(format!(
            "cannot install {}: pip3 ended with {code}",
            requirement.display()
        ))),
    }
}

/// A command that runs kiwi with boxbuild's patch for it, and with the host's xz if there is one.
fn kiwi(environment: &Environment) -> Command {
    let mut command = command("kiwi-ng", environment);
    // Without the patch the build is slower, not wrong.
    let folder = Path::new(PYTHON_DIR);
    let written = fs::create_dir_all(folder)
        .and_then(|()| fs::write(folder.join(kiwi_patch::FILE), kiwi_patch::PROGRAM));
    if written.is_ok() {
        let current = environment
            .iter()
            .rfind(|(name, _)| name == kiwi_patch::VARIABLE)
            .map(|(_, value)| value.as_os_str());
        command.env(
            kiwi_patch::VARIABLE,
            kiwi_patch::search_path(PYTHON_DIR, current),
        );
    }
    if let Some(path) = install_host_xz(environment) {
        command.env("PATH", path);
    }
    command
}

/// Installs the xz that has the host compress, if the machine has a port for it. Returns a search
/// path for programs that finds it before the box's own; `None` if the box's own is to be used.
fn install_host_xz(environment: &Environment) -> Option<OsString> {
    port(ports::XZ)?;
    let folder = Path::new(BIN_DIR);
    let program = folder.join("xz");
    if !Path::new(host_xz::INTERPRETER).exists() {
        return None;
    }
    fs::create_dir_all(folder)
        .and_then(|()| fs::write(&program, host_xz::PROGRAM))
        .and_then(|()| fs::set_permissions(&program, fs::Permissions::from_mode(0o755)))
        .ok()?;
    let (_, current) = environment.iter().rfind(|(name, _)| name == "PATH")?;
    let mut path = OsString::from(BIN_DIR);
    path.push(":");
    path.push(current);
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

/// The exit code of a command, as a shell reports it: 128 and the signal's number for one that a
/// signal ended, [`NOT_FOUND`] for one that did not start.
fn exit_code(status: io::Result<ExitStatus>, program: &str) -> i32 {
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

/// Has the host write the results to its disk.
fn sync_bundle() -> io::Result<()> {
    let bundle = File::open(BUNDLE)?;
    match nix::unistd::syncfs(bundle) {
        // FUSE_SYNCFS is optional for a server.
        Err(nix::errno::Errno::ENOSYS | nix::errno::Errno::EOPNOTSUPP) => Ok(()),
        result => Ok(result?),
    }
}

/// Runs `operation`. If the server of a share holds as many files as it may for this guest, which
/// caches them, it is run again once the guest has given back those that it does not use.
fn with_inodes(operation: impl Fn() -> io::Result<()>) -> io::Result<()> {
    /// Entries of folders and inodes (Linux Documentation/admin-guide/sysctl/vm.rst).
    const NAMES: &str = "2";
    match operation() {
        Err(error) if error.raw_os_error() == Some(libc::ENFILE) => {
            fs::write("/proc/sys/vm/drop_caches", NAMES)?;
            operation()
        }
        result => result,
    }
}
