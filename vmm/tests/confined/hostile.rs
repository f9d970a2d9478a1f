//! The attempts of each thread, and what comes of them.

use std::time::Duration;

use boxbuild_jail::{Launch, Program};
use boxbuild_vmm::virtio::Kind;

use crate::attempts::{ATTEMPTS, FREE_MEMORY, LAST_WORDS, PANIC};
use crate::process::{Plan, ROLE, UNPACK, VCPU, share};

const LIMIT: Duration = Duration::from_secs(60);

/// What comes of an attempt.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    /// The process was ended, with a message that names the thread.
    Trapped,
    /// The call was made, and the kernel refused.
    Denied,
    /// The call succeeded.
    Done,
}

/// What a thread may do of it, because it needs the call: everything else ends the process.
fn expected(thread: &str, attempt: &str) -> Outcome {
    match (thread, attempt) {
        (_, FREE_MEMORY) => Outcome::Done,
        // Landlock.
        ("virtio-fs", "read a file outside" | "read a file outside by openat2") => Outcome::Denied,
        ("virtio-fs", "create a file outside by openat2") => Outcome::Denied,
        ("virtio-fs", "read a file of the share") => Outcome::Done,
        ("virtio-net", "make a TCP socket" | "make a UDP socket") => Outcome::Done,
        _ => Outcome::Trapped,
    }
}

pub fn reaches_nothing_but_the_shares() {
    let (_folder, root) = share();
    let threads = Kind::ALL.map(Kind::name);
    let mut wrong = Vec::new();
    for thread in threads.into_iter().chain([VCPU, UNPACK]) {
        for (index, (attempt, _)) in ATTEMPTS.iter().enumerate() {
            let outcome = try_it(thread, index, &root);
            if outcome.as_ref() != Ok(&expected(thread, attempt)) {
                wrong.push(format!("{thread}: {attempt}: {outcome:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

pub fn a_panic_ends_in_words() {
    let (_folder, root) = share();
    let devices = Kind::ALL.map(Kind::name).into_iter();
    for thread in devices.chain([VCPU, UNPACK]) {
        let plan = Plan {
            thread: thread.to_owned(),
            attempt: PANIC,
        };
        let child = Launch::new(&Program::this(), ROLE.name)
            .descriptor(&root)
            .start(&plan)
            .unwrap();
        assert_eq!(child.channel().receive(Some(LIMIT)).unwrap(), None);
        let exit = child.wait(LIMIT).unwrap();
        let words = String::from_utf8_lossy(&exit.words);
        assert!(words.contains(LAST_WORDS), "{thread}: {exit}: {words}");
        assert!(!exit.is_trapped(), "{thread}: {exit}: {words}");
    }
}

fn try_it(thread: &str, attempt: usize, root: &std::fs::File) -> Result<Outcome, String> {
    let plan = Plan {
        thread: thread.to_owned(),
        attempt,
    };
    let child = Launch::new(&Program::this(), ROLE.name)
        .descriptor(root)
        .start(&plan)
        .map_err(|error| error.to_string())?;
    let reply = child.channel().receive(Some(LIMIT));
    if let Some(reply) = reply.map_err(|error| error.to_string())? {
        let result = String::from_utf8_lossy(&reply).into_owned();
        let result: i64 = result.parse().map_err(|_| result)?;
        let denied = [-i64::from(libc::EACCES), -i64::from(libc::EPERM)];
        return match result {
            0.. => Ok(Outcome::Done),
            error if denied.contains(&error) => Ok(Outcome::Denied),
            error => Err(format!("error {error}")),
        };
    }
    let exit = child.wait(LIMIT).map_err(|error| error.to_string())?;
    let words = String::from_utf8_lossy(&exit.words);
    let expected = format!("the thread {thread} made a system call it never needs: ");
    if exit.is_trapped() && words.starts_with(&expected) {
        Ok(Outcome::Trapped)
    } else {
        Err(format!("{exit}: {words}"))
    }
}
