//! The child's side of the start.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::process::ExitCode;
use std::time::Duration;
use std::vec;

use serde::de::DeserializeOwned;

use crate::channel::Channel;
use crate::seccomp;

/// The first word of a jailed process begins with it; the name of the role follows.
pub(crate) const FIRST_WORD: &str = "jailed:";

/// Longest wait for the parent's configuration, which is sent before anything else is done.
const CONFIG: Duration = Duration::from_secs(60);

/// What a jailed process is for.
#[derive(Debug, Clone, Copy)]
pub struct Role {
    /// The name that [`Launch::new`](crate::Launch::new) calls it by.
    pub name: &'static str,
    /// Does all of its work. An error is printed with its causes, and the process ends with 1.
    pub run: fn(Entered) -> Result<(), Box<dyn std::error::Error>>,
}

/// What the parent has given.
#[derive(Debug)]
pub struct Entered {
    channel: Channel,
    config: Vec<u8>,
    descriptors: vec::IntoIter<OwnedFd>,
}

impl Entered {
    /// Returns the configuration, the value that [`Launch::start`](crate::Launch::start) got.
    ///
    /// # Errors
    /// If it is not of this type.
    pub fn config<T: DeserializeOwned>(&self) -> serde_json::Result<T> {
        serde_json::from_slice(&self.config)
    }

    /// Returns the next of the descriptors, in the order of the parent's.
    ///
    /// # Errors
    /// If there is no further one.
    pub fn descriptor(&mut self) -> io::Result<OwnedFd> {
        let missing = || io::Error::other("the parent has sent too few open files");
        self.descriptors.next().ok_or_else(missing)
    }

    /// Returns the next of the descriptors as a file.
    ///
    /// # Errors
    /// If there is no further one.
    pub fn file(&mut self) -> io::Result<File> {
        self.descriptor().map(File::from)
    }

    /// Returns the way to the parent.
    pub fn channel(&self) -> &Channel {
        &self.channel
    }

    /// Returns the way to the parent, to be kept.
    pub fn into_channel(self) -> Channel {
        self.channel
    }
}

/// Carries out the role that this process was started for; `None` if it was not started for one.
/// To be called first in `main`: it costs one comparison if there is nothing to do.
pub fn enter(roles: &[Role]) -> Option<ExitCode> {
    let word = std::env::args_os().nth(1)?;
    let name = OsStr::as_bytes(&word).strip_prefix(FIRST_WORD.as_bytes())?;
    let role = roles.iter().find(|role| role.name.as_bytes() == name);
    let result = role
        .ok_or_else(|| "there is no such role".into())
        .and_then(|role| {
            let entered = begin(role)?;
            (role.run)(entered)
        });
    Some(match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            print(error.as_ref());
            ExitCode::FAILURE
        }
    })
}

fn begin(role: &Role) -> Result<Entered, Box<dyn std::error::Error>> {
    close_others();
    // The program is started by the name /proc/self/exe, which would be shown as "exe".
    let _ = nix::sys::prctl::set_name(&std::ffi::CString::new(role.name)?);
    calm_the_allocator();
    // SAFETY: the parent has put the channel there; whatever else it is, nothing else uses it.
    let channel = Channel::from(unsafe { OwnedFd::from_raw_fd(libc::STDIN_FILENO) });
    let message = channel
        .receive_descriptors(Some(CONFIG))
        .map_err(|error| format!("this is for boxbuild itself, not for users: {error}"))?
        .ok_or("the parent has gone")?;
    seccomp::handle_traps()?;
    Ok(Entered {
        channel,
        config: message.bytes,
        descriptors: message.descriptors.into_iter(),
    })
}

/// Closes all descriptors but 0, 1 and 2. The parent's are closed by exec; this is for what another
/// part of it has left open.
fn close_others() {
    // SAFETY: no value owns one of them yet: this is the first thing that the program does.
    let done = unsafe { libc::syscall(libc::SYS_close_range, 3_u32, u32::MAX, 0_u32) } == 0;
    if done {
        return;
    }
    // Linux before 5.9. The descriptor of the listing itself is among them and closed later.
    let Ok(listing) = std::fs::read_dir("/proc/self/fd") else {
        return;
    };
    let numbers: Vec<i32> = listing
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|number| *number > 2)
        .collect();
    for number in numbers {
        // SAFETY: as above; that of the listing is closed already, which is an error without
        // consequences.
        unsafe { libc::close(number) };
    }
}

/// Lets the allocator of glibc not count the processors, which may be reading files of /sys, when a
/// thread under a filter needs memory.
fn calm_the_allocator() {
    #[cfg(target_env = "gnu")]
    {
        const ARENAS: libc::c_int = 8;
        // SAFETY: it sets a number of the allocator; there is one thread.
        unsafe { libc::mallopt(libc::M_ARENA_MAX, ARENAS) };
    }
}

/// Prints an error with its causes, one a line, where the parent reads it.
fn print(error: &dyn std::error::Error) {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text += &format!("\n{error}");
        source = error.source();
    }
    text.push('\n');
    let _ = std::io::stderr().write_all(text.as_bytes());
}
