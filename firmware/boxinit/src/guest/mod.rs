//! Process 1 of the guest: everything between the kernel's start of it and the power-off.

mod boxroot;
mod build;
mod checkpoint;
mod container_network;
mod control;
mod drivers;
mod environment;
mod error;
mod grow;
mod host;
mod load;
mod network;
mod packages;
mod process;
mod resources;
mod rootfs;
mod shares;
mod shell;
mod sshd;
mod system;

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use boxbuild_protocol::boot_options::{BootOptions, Shell};
use boxbuild_protocol::job::Job;
use boxbuild_protocol::kernel_args;
use boxbuild_protocol::paths::{INITRD_FILES, INITRD_JOB};
use boxbuild_protocol::report::{BootStep, GuestPhase, Reason, Report};
use nix::sys::reboot::{RebootMode, reboot};

use checkpoint::Checkpoint;
use control::Control;
use error::{GuestError, failed};
use process::Supervisor;

pub(crate) use container_network::connect;
pub(crate) use load::modprobe;

/// Runs the guest and powers the machine off. Does not return.
pub(crate) fn run() -> ExitCode {
    let mut control = Control::default();
    let mut supervisor = None;
    let mut options = BootOptions::default();
    let result = bring_up(&mut control, &mut supervisor, &mut options);
    if let Err(error) = &result {
        system::show_kernel_log();
        eprintln!("boxbuild: {error}");
        if !control.is_open() {
            // Without drivers there may be no console either: the kernel has one until then
            // (earlycon=), and shows what is critical in spite of `quiet`.
            let _ = fs::write("/dev/kmsg", format!("<2>boxbuild: {error}\n"));
        }
        if let GuestError::Unfit(reason) = error {
            control.report(Report::Unfit(Reason::new(reason)));
        }
    }
    if let Some(supervisor) = &mut supervisor {
        if options.shell == Some(Shell::AfterBuild) {
            shell::run(supervisor, &mut control);
        }
        if options.keeps_disk(matches!(result, Ok(0))) {
            supervisor.kill_all();
            system::sync_root();
        }
    }
    control.report(Report::Phase(GuestPhase::Done));
    control.flush(control::is_driven);
    // What must survive is in the shares or on the disk by now.
    let _ = reboot(RebootMode::RB_POWER_OFF);
    loop {
        std::thread::sleep(std::time::Duration::from_secs(3600));
    }
}

/// Brings up the box and runs the build. Returns the build's exit code. `supervisor` and `options`
/// are set as soon as they are known: the power-off needs them after an error, too.
fn bring_up(
    control: &mut Control,
    supervisor: &mut Option<Supervisor>,
    options: &mut BootOptions,
) -> Result<i32, GuestError> {
    system::mount_early()?;
    let words = kernel_args::words(&fs::read_to_string("/proc/cmdline").unwrap_or_default());
    *options = BootOptions::parse(&words);
    let mut initrd = load::Loader::at("/");
    let helper = load::ModprobeHelper::register();
    drivers::load(&mut initrd);
    system::open_console();
    control.open();
    control.mark(BootStep::Init);

    let job = fs::read(INITRD_JOB).map_err(failed("read the job"))?;
    let job = Job::decode(&job).map_err(|error| GuestError::Failed(error.to_string()))?;
    let contents = read_files(&job)?;
    system::add_entropy(&job.seed);

    control.report(Report::Phase(GuestPhase::Mount));
    rootfs::mount(&mut initrd, &words, *options)?;
    rootfs::switch_root()?;
    drop(helper);
    control.mark(BootStep::Root);

    let supervisor = supervisor.insert(Supervisor::new().map_err(failed("supervise processes"))?);
    supervisor.beat(control);
    let checkpoint = Checkpoint::default();
    host::follow(control, checkpoint.clone());
    let mut loader = load::Loader::at("/");
    drivers::load(&mut loader);
    // Again, in case only the root has the driver of the console.
    system::open_console();
    control.open();
    system::mount_late();
    rootfs::mount_fstab();
    shares::mount(&mut loader, &job, options.builds())?;
    shares::write_files(&job, contents)?;
    shares::make_folders(&job)?;
    system::configure(job.time);
    if job.hold_clock {
        system::hold_clock(job.time);
    }
    if job.network {
        network::configure()?;
    }
    control.mark(BootStep::Shares);
    if options.builds() && job.kiwi_version.is_none() && !has_kiwi() {
        // Its own init may start something else in kiwi's place.
        return Err(GuestError::Unfit(String::from("the box has no kiwi-ng")));
    }
    // From here on, what fails would fail after any boot.
    control.report(Report::Phase(GuestPhase::Setup));
    if !options.builds() {
        shell::run(supervisor, control);
        return Ok(0);
    }
    system::start_udevd(supervisor);
    build::run(&job, *options, &checkpoint, supervisor, control)
}

/// Whether the box has kiwi, or will have it once `boxroot/` of the description is copied.
fn has_kiwi() -> bool {
    let folders = [
        "usr/local/sbin",
        "usr/local/bin",
        "usr/sbin",
        "usr/bin",
        "sbin",
        "bin",
    ];
    [Path::new("/"), &build::boxroot_folder()]
        .into_iter()
        .any(|root| {
            folders
                .iter()
                .any(|folder| root.join(folder).join("kiwi-ng").exists())
        })
}

/// Reads the contents of the job's files, which are written once the ramdisk is gone.
fn read_files(job: &Job) -> Result<Vec<Vec<u8>>, GuestError> {
    let folder = Path::new(INITRD_FILES);
    (0..job.files.len())
        .map(|number| {
            fs::read(folder.join(number.to_string())).map_err(failed("read a file of the job"))
        })
        .collect()
}
