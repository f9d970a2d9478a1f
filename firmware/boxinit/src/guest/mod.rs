//! Process 1, from the kernel's start to the power-off.

mod build;
mod control;
mod drivers;
mod grow;
mod load;
mod network;
mod process;
mod rootfs;
mod shares;
mod shell;
mod sshd;
mod system;

use std::fmt;
use std::fs;
use std::path::Path;
use std::process::ExitCode;

use boxinit::cmdline;
use boxinit::job::{self, Job};
use boxinit::wishes::{Shell, Wishes};
use nix::sys::reboot::{RebootMode, reboot};

use control::Control;
use process::Supervisor;

pub(crate) use load::modprobe;

/// Why the box goes no further.
#[derive(Debug)]
enum Stop {
    /// This box cannot be brought up this way; its own init may be able to.
    Unfit(String),
    /// The build cannot be carried out.
    Failed(String),
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Stop::Unfit(text) | Stop::Failed(text)) = self;
        f.write_str(text)
    }
}

/// For `map_err`: a failure of the build, with what was tried.
fn failed<E: fmt::Display>(what: impl fmt::Display) -> impl FnOnce(E) -> Stop {
    move |error| Stop::Failed(format!("cannot {what}: {error}"))
}

/// The same for what shows that the box cannot be booted this way.
fn unfit<E: fmt::Display>(what: impl fmt::Display) -> impl FnOnce(E) -> Stop {
    move |error| Stop::Unfit(format!("cannot {what}: {error}"))
}

/// Everything; does not come back.
pub(crate) fn run() -> ExitCode {
    let mut control = Control::default();
    let mut supervisor = None;
    let mut wishes = Wishes::default();
    let result = bring_up(&mut control, &mut supervisor, &mut wishes);
    if let Err(stop) = &result {
        system::show_kernel_log();
        eprintln!("boxbuild: {stop}");
        if let Stop::Unfit(reason) = stop {
            control.report(&format!("unfit {}", reason.replace('\n', " ")));
        }
    }
    if let Some(supervisor) = &mut supervisor {
        if wishes.shell == Some(Shell::After) {
            shell::run(supervisor, &mut control);
        }
        if wishes.keeps_disk(matches!(result, Ok(0))) {
            supervisor.end_all();
            system::write_out();
        }
    }
    control.report("phase done");
    // What must survive went to the shares, or was written out.
    let _ = reboot(RebootMode::RB_POWER_OFF);
    loop {
        std::thread::sleep(std::time::Duration::from_secs(3600));
    }
}

/// Brings up the box and runs the build; returns its exit code.
fn bring_up(
    control: &mut Control,
    supervisor: &mut Option<Supervisor>,
    wishes: &mut Wishes,
) -> Result<i32, Stop> {
    system::mount_early()?;
    let words = cmdline::words(&fs::read_to_string("/proc/cmdline").unwrap_or_default());
    *wishes = Wishes::of(&words);
    let mut initrd = load::Loader::at("/");
    let helping = load::Helping::start();
    drivers::load(&mut initrd);
    system::open_console();
    control.open();
    control.mark("init");

    let place = Path::new(job::PLACE);
    let job = fs::read(place.join(job::FILE)).map_err(failed("read the job"))?;
    let job = Job::decode(&job).map_err(|error| Stop::Failed(error.to_string()))?;
    let contents = read_files(place, &job)?;
    system::seed(&job.seed);

    control.report("phase mount");
    rootfs::mount(&mut initrd, &words, *wishes)?;
    rootfs::switch()?;
    drop(helping);
    control.mark("root");

    let supervisor = supervisor.insert(Supervisor::new().map_err(failed("watch over processes"))?);
    supervisor.beat(control);
    let mut loader = load::Loader::at("/");
    drivers::load(&mut loader);
    // The console and the port, if only the root has their driver.
    system::open_console();
    control.open();
    system::mount_late()?;
    rootfs::mount_rest();
    shares::mount(&mut loader, &job, wishes.shell != Some(Shell::Only))?;
    shares::place(&job, contents)?;
    system::settle(job.time);
    if job.network {
        network::configure()?;
    }
    control.mark("shares");
    if wishes.shell != Some(Shell::Only) && job.kiwi_version.is_none() && !has_kiwi() {
        // Its own init may start something else in kiwi's place.
        return Err(Stop::Unfit(String::from("the box has no kiwi-ng")));
    }
    // From here on, what fails would fail after any boot.
    control.report("phase setup");
    if wishes.shell == Some(Shell::Only) {
        shell::run(supervisor, control);
        return Ok(0);
    }
    system::start_udevd(supervisor);
    build::run(&job, *wishes, supervisor, control)
}

/// Whether kiwi is where programs are, or will be there once the description's own files are.
fn has_kiwi() -> bool {
    let folders = [
        "usr/local/sbin",
        "usr/local/bin",
        "usr/sbin",
        "usr/bin",
        "sbin",
        "bin",
    ];
    [Path::new("/"), &build::boxroot()].into_iter().any(|root| {
        folders
            .iter()
            .any(|folder| root.join(folder).join("kiwi-ng").exists())
    })
}

/// The contents of the files that go to their places later: the ramdisk is gone then.
fn read_files(place: &Path, job: &Job) -> Result<Vec<Vec<u8>>, Stop> {
    let folder = place.join(job::FILES);
    (0..job.files.len())
        .map(|number| {
            fs::read(folder.join(number.to_string())).map_err(failed("read a file of the job"))
        })
        .collect()
}
