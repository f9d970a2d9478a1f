//! How jailed processes end, and what their parent learns of it.

use std::error::Error;
use std::time::{Duration, Instant};

use boxbuild_jail::seccomp::{COMMON, FILTER_SETUP, Filter, SPAWN};
use boxbuild_jail::{Entered, Exit, Jail, Launch, Program, Role};

use crate::Test;

const SOON: Duration = Duration::from_secs(20);

pub const ROLES: &[Role] = &[
    Role {
        name: "fail",
        run: fail,
    },
    Role {
        name: "panic",
        run: panics,
    },
    Role {
        name: "trap",
        run: trap,
    },
    Role {
        name: "refuse",
        run: refuse,
    },
    Role {
        name: "talk",
        run: talk,
    },
    Role {
        name: "sleep",
        run: sleep,
    },
];

pub const TESTS: &[Test] = crate::tests![
    an_error_comes_out_with_its_causes,
    a_panic_under_a_filter_ends_in_words,
    a_trap_names_the_thread_and_the_call,
    a_filter_that_refuses_does_not_end_the_process,
    a_child_that_writes_too_much_is_not_waited_for,
    a_child_without_an_end_is_killed,
    a_child_goes_with_its_handle,
];

fn end(role: &'static str, time: Duration) -> (Exit, String) {
    let child = Launch::new(&Program::this(), role).start(&()).unwrap();
    let exit = child.wait(time).unwrap();
    let words = String::from_utf8_lossy(&exit.words).into_owned();
    (exit, words)
}

fn fail(_: Entered) -> Result<(), Box<dyn Error>> {
    let cause = std::fs::File::open("/nowhere").unwrap_err();
    Err(Box::new(std::io::Error::other(cause)))
}

fn an_error_comes_out_with_its_causes() {
    let (exit, words) = end("fail", SOON);
    assert_eq!(exit.status.code(), Some(1));
    assert!(words.contains("No such file"), "{words}");
}

fn panics(_: Entered) -> Result<(), Box<dyn Error>> {
    Jail::default().lock()?;
    Filter::compile(&[COMMON])?.install("panics")?;
    panic!("the last words");
}

fn a_panic_under_a_filter_ends_in_words() {
    let (exit, words) = end("panic", SOON);
    assert!(words.contains("the last words"), "{words}");
    assert_eq!(exit.status.code(), Some(101), "{exit} {words}");
}

fn trap(_: Entered) -> Result<(), Box<dyn Error>> {
    Jail::default().lock()?;
    Filter::compile(&[COMMON, SPAWN, FILTER_SETUP])?.install("main")?;
    std::thread::spawn(|| {
        let filter = Filter::compile(&[COMMON]).unwrap();
        filter.install("virtio-disk-and-more").unwrap();
        let _ = nix::unistd::getppid();
    })
    .join()
    .unwrap();
    Ok(())
}

fn a_trap_names_the_thread_and_the_call() {
    let (exit, words) = end("trap", SOON);
    assert!(exit.is_trapped(), "{exit} {words}");
    let expected = format!(
        "the thread virtio-disk-and made a system call it never needs: {}\n",
        libc::SYS_getppid
    );
    assert_eq!(words, expected);
}

fn refuse(_: Entered) -> Result<(), Box<dyn Error>> {
    Filter::refusing(&[COMMON])?.install("refuse")?;
    let error = std::fs::File::open("/dev/null").unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EPERM));
    Ok(())
}

fn a_filter_that_refuses_does_not_end_the_process() {
    if !boxbuild_jail::seccomp::is_available() {
        println!("skipped: a_filter_that_refuses_does_not_end_the_process: no seccomp");
        return;
    }
    let (exit, words) = end("refuse", SOON);
    assert!(exit.is_good(), "{exit} {words}");
}

fn talk(_: Entered) -> Result<(), Box<dyn Error>> {
    use std::io::Write;
    for _ in 0..1000 {
        let _ = std::io::stderr().write_all(&[b'x'; 1000]);
    }
    Ok(())
}

fn a_child_that_writes_too_much_is_not_waited_for() {
    let (exit, words) = end("talk", SOON);
    assert!(exit.is_good(), "{exit}");
    assert!(words.len() == 4 << 10, "{}", words.len());
}

fn sleep(_: Entered) -> Result<(), Box<dyn Error>> {
    std::thread::sleep(Duration::from_secs(600));
    Ok(())
}

fn a_child_without_an_end_is_killed() {
    let start = Instant::now();
    let (exit, _) = end("sleep", Duration::from_millis(100));
    assert_eq!(exit.to_string(), "it was killed");
    assert!(start.elapsed() < SOON);
}

fn a_child_goes_with_its_handle() {
    let child = Launch::new(&Program::this(), "sleep").start(&()).unwrap();
    let pid = nix::unistd::Pid::from_raw(child.pid() as i32);
    nix::sys::signal::kill(pid, None).unwrap();
    drop(child);
    assert!(nix::sys::signal::kill(pid, None).is_err());
}
