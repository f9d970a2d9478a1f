//! The jailed process.

use std::error::Error;
use std::io::{self, Write};

use boxbuild_jail::seccomp::{COMMON, Check, Condition, Filter, Rule};
use boxbuild_jail::{Entered, Jail, Limits, Role};
use serde::Serialize;

use crate::connection::Connection;
use crate::job::{Job, Message};
use crate::{boot, boot_archive, box_archive, disk, listing, survey, tree};

/// What this program is when it is started by [`Parser`](crate::Parser).
pub const ROLE: Role = Role {
    name: "parser",
    run,
};

/// What it calls besides the common ones: it reads open files at any place, and asks for more over its
/// channel. It opens nothing, and has no network.
pub const CALLS: &[Rule] = &[
    Rule::any(libc::SYS_lseek),
    Rule::any(libc::SYS_pread64),
    // Only of open files: the name is empty.
    Rule::when(
        libc::SYS_statx,
        &[Condition::new(2, Check::Is(libc::AT_EMPTY_PATH as u32))],
    ),
    // Locks of disk images.
    Rule::when(
        libc::SYS_fcntl,
        &[Condition::new(1, Check::Is(libc::F_OFD_SETLK as u32))],
    ),
    Rule::when(
        libc::SYS_fcntl,
        &[Condition::new(1, Check::Is(libc::F_OFD_GETLK as u32))],
    ),
    // Seeds of hash tables.
    Rule::any(libc::SYS_getrandom),
    Rule::any(libc::SYS_sendmsg),
    Rule::any(libc::SYS_recvmsg),
];

fn run(mut entered: Entered) -> Result<(), Box<dyn Error>> {
    let job: Job = entered.config()?;
    let mut files = Vec::new();
    while let Ok(file) = entered.descriptor() {
        files.push(file);
    }
    confine(job.limits())?;
    let mut parent = Connection::new(entered.into_channel(), files);
    match work(&mut parent, job) {
        Ok(reply) => parent.send(&reply),
        Err(error) => parent.send(&serde_json::to_vec(&Message::<()>::Failed(text(&*error)))?),
    }?;
    Ok(())
}

/// Confines the calling process as one that reads what is not trusted.
///
/// # Errors
/// Fails if the kernel has a means for that and refuses it.
pub fn confine(limits: Limits) -> Result<(), Box<dyn Error>> {
    Jail {
        limits,
        ..Jail::default()
    }
    .lock()?;
    Filter::compile(&[COMMON, CALLS])?.install(ROLE.name)?;
    Ok(())
}

/// The text of an error with its causes.
fn text(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text += &format!(": {cause_text}");
        }
        source = cause.source();
    }
    text.chars().take(2000).collect()
}

/// Does the work. The outputs are closed when this returns.
fn work(parent: &mut Connection, job: Job) -> Result<Vec<u8>, Box<dyn Error>> {
    match job {
        Job::BootArchive { initrd } => {
            let (archive, mut kernel) = (parent.file()?, parent.file()?);
            let mut initrd = initrd.then(|| parent.file()).transpose()?;
            let initrd = initrd.as_mut().map(|file| file as &mut dyn Write);
            boot_archive::unpack(io::BufReader::new(archive), &mut kernel, initrd)?;
            done(())
        }
        Job::Disk { qcow2 } => done(disk::facts(&disk::open(parent.file()?, qcow2)?)?),
        Job::PlainDisk => {
            let image = disk::open(parent.file()?, false)?;
            let mut out = io::BufWriter::with_capacity(1 << 20, parent.file()?);
            let plain = image.plain()?;
            parent.announce(plain.size())?;
            plain.write_to(&mut out)?;
            out.flush()?;
            done(())
        }
        Job::RootKind { cmdline } => {
            let image = disk::open(parent.file()?, true)?;
            done(boot::root_kind(&image, &cmdline))
        }
        Job::Kernel => {
            let packed = boot::whole(&parent.file()?, boot::LARGEST_KERNEL)?;
            let mut out = parent.file()?;
            let elf = boot::kernel(&packed)?;
            out.write_all(&elf)?;
            done(boot::has_pvh_entry(&elf))
        }
        Job::Ramdisk { root } => {
            let ramdisk = boot::whole(&parent.file()?, boot::LARGEST_RAMDISK)?;
            let mut out = parent.file()?;
            let reduced = boot::ramdisk(&ramdisk, root.as_deref())?;
            out.write_all(reduced.as_deref().unwrap_or_default())?;
            done(reduced.is_some())
        }
        Job::BoxArchive => {
            let archive = io::BufReader::with_capacity(1 << 20, parent.file()?);
            let mut outputs = [
                parent.file()?,
                parent.file()?,
                parent.file()?,
                parent.file()?,
            ];
            let [kernel, initrd, disk, container] = &mut outputs;
            done(box_archive::unpack(
                archive,
                &mut [kernel, initrd, disk, container],
            )?)
        }
        Job::Listing => {
            let file = parent.file()?;
            let mut out = io::BufWriter::with_capacity(1 << 20, parent.file()?);
            listing::list(file, &mut out)?;
            out.flush()?;
            done(())
        }
        Job::Tree(job) => done(tree::put_together(parent, &job)?),
        Job::Survey => done(survey::survey(parent.file()?)?),
        Job::Part(number) => {
            let (archive, mut out) = (parent.file()?, parent.file()?);
            done(survey::part(archive, number, &mut out)?)
        }
        Job::Unpack => {
            let (file, mut out) = (parent.file()?, parent.file()?);
            done(survey::unpack(file, &mut out)?)
        }
    }
}

fn done(reply: impl Serialize) -> Result<Vec<u8>, Box<dyn Error>> {
    Ok(serde_json::to_vec(&Message::Done(reply))?)
}
