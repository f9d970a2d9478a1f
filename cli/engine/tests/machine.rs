//! Machines in their processes, with kernels of a few bytes: any /dev/kvm can run these.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    missing_docs,
    reason = "a test"
)]

use std::error::Error;
use std::fs::{self, File};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use boxbuild_engine::kvm::{Kvm, ROLE};
use boxbuild_engine::{
    CpuLevel, Ended, Engine, Event, EventReceiver, Machine, MountTag, RootDisk, Running, Share,
    StartError, events,
};
use boxbuild_host::arch::Arch;
use boxbuild_jail::{Confinement, Entered, MAX_MESSAGE, Role};
use boxbuild_vmm::net::Policy;
use libtest_mimic::{Arguments, Trial, run};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

/// For what takes milliseconds.
const LIMIT: Duration = Duration::from_secs(60);

/// `jmp` to itself.
const SPINS: [u8; 2] = [0xeb, 0xfe];
/// Writes the reset command to the keyboard controller's port.
const RESETS: [u8; 8] = [0x66, 0xba, 0x64, 0x00, 0xb0, 0xfe, 0xee, 0xf4];

const TESTS: &[(&str, fn())] = &[
    ("the_guest_ends_itself_or_is_ended", ends),
    ("each_thread_of_a_machine_is_confined", confined),
    ("a_machine_that_cannot_start_says_why", refused),
    ("a_process_that_dies_is_a_failed_machine", dies),
    ("a_process_that_hangs_is_killed_after_its_grace", hangs),
    ("the_disk_of_a_machine_is_kept", kept),
    (
        "the_disk_of_a_machine_is_kept_as_it_was_at_a_checkpoint",
        checkpoint,
    ),
    (
        "a_process_that_floods_its_parent_takes_little_memory",
        floods,
    ),
    ("a_process_that_does_not_read_is_not_waited_for", deaf),
];

fn main() -> ExitCode {
    let role = Role {
        run: flood_or_work,
        ..ROLE
    };
    if let Some(code) = boxbuild_jail::enter(&[role]) {
        return code;
    }
    let open = File::options().read(true).write(true).open("/dev/kvm");
    let trials = TESTS.iter().map(|(name, test)| {
        let skipped = open.as_ref().err().map(ToString::to_string);
        Trial::test(*name, move || {
            match skipped {
                Some(reason) => println!("skipped: {name}: /dev/kvm: {reason}"),
                None => test(),
            }
            Ok(())
        })
    });
    // One at a time: a test finds the process of its machine among the children of this one.
    let arguments = Arguments {
        test_threads: Some(1),
        ..Arguments::from_args()
    };
    run(&arguments, trials.collect()).exit_code()
}

/// The kernel command line of a machine whose process is hostile.
const FLOODS: &str = "floods";
/// Messages of a flood, each nearly as long as a message can be.
const FLOOD: usize = 300;

/// A machine; with the command line [`FLOODS`], answers to a question that was not asked.
fn flood_or_work(entered: Entered) -> Result<(), Box<dyn Error>> {
    let config: serde_json::Value = entered.config()?;
    if config["cmdline"] != FLOODS {
        return (ROLE.run)(entered);
    }
    let send = |text: &str| entered.channel().send(format!("j{text}").as_bytes(), &[]);
    send(
        r#"{"Started":{"weakness":null,"times":{"process":0,"machine":0,"first_instruction":0}}}"#,
    )?;
    let text = "x".repeat(MAX_MESSAGE - 64);
    for _ in 0..FLOOD {
        send(&format!(r#"{{"MapWritten":{{"Err":"{text}"}}}}"#))?;
    }
    Ok(())
}

/// An ELF file that begins with `code`.
fn kernel(code: &[u8]) -> Vec<u8> {
    const ADDRESS: u64 = 0x100_0000;
    let mut bytes = b"\x7fELF\x02\x01\x01".to_vec();
    bytes.resize(64 + 56, 0);
    bytes[18] = 62;
    bytes[24..32].copy_from_slice(&ADDRESS.to_le_bytes());
    bytes[32] = 64;
    bytes[54] = 56;
    bytes[56] = 1;
    bytes[64] = 1;
    let len = code.len() as u64;
    for (at, value) in [(8, 120), (24, ADDRESS), (32, len), (40, len)] {
        bytes[64 + at..64 + at + 8].copy_from_slice(&value.to_le_bytes());
    }
    bytes.extend(code);
    bytes
}

/// A qcow2 image of 1 MiB with nothing in it.
fn image() -> Vec<u8> {
    use boxbuild_vmm::disk::Image;
    let raw = tempfile::NamedTempFile::new().unwrap();
    raw.as_file().set_len(1 << 20).unwrap();
    let mut bytes = Vec::new();
    let image = Image::open(raw.path()).unwrap();
    image.write_plain(&mut bytes).unwrap();
    bytes
}

struct Guest {
    folder: TempDir,
    running: Box<dyn Running>,
    events: EventReceiver,
}

fn machine(folder: &Path, code: &[u8]) -> Machine {
    let file = |name: &str, bytes: &[u8]| {
        let path = folder.join(name);
        fs::write(&path, bytes).unwrap();
        path
    };
    let share = folder.join("share");
    fs::create_dir(&share).unwrap();
    Machine {
        name: String::from("test"),
        arch: Arch::host(),
        kernel: file("kernel", code),
        kernel_sha256: String::from("0"),
        unpack_kernel: false,
        initrd: File::open("/dev/null").unwrap().into(),
        cmdline: String::new(),
        disk: RootDisk::Private {
            image: file("image", &image()),
            kept: Vec::new(),
            size: None,
            scratch: folder.to_owned(),
        },
        memory_mib: 64,
        cpus: 2,
        nested: false,
        shares: vec![Share::new(MountTag::constant("share"), share)],
        network: Some(Policy::default()),
        forward: None,
        handover: None,
        machine_type: None,
        cpu_model: None,
        cpu_level: CpuLevel::V1,
    }
}

fn try_start(code: &[u8]) -> Result<Guest, StartError> {
    let folder = TempDir::new().unwrap();
    let (sender, events) = events();
    let machine = machine(folder.path(), code);
    let running = Kvm::default().start(machine, sender)?;
    Ok(Guest {
        folder,
        running,
        events,
    })
}

fn start(code: &[u8]) -> Guest {
    try_start(code).unwrap_or_else(|error| panic!("{error:?}"))
}

impl Guest {
    fn end(&self) -> Ended {
        let deadline = Instant::now() + LIMIT;
        loop {
            assert!(Instant::now() < deadline, "it does not end");
            if let Some(Event::Ended(ended)) = self.events.next(LIMIT) {
                return ended;
            }
        }
    }

    /// The id of the machine's process: the youngest child of this one with that name.
    fn process(&self) -> Pid {
        assert!(self.running.usage().memory.is_some());
        let children = fs::read_dir("/proc").unwrap().filter_map(|entry| {
            let path = entry.unwrap().path();
            let pid: i32 = path.file_name()?.to_str()?.parse().ok()?;
            let status = fs::read_to_string(path.join("status")).ok()?;
            let parent = format!("PPid:\t{}\n", std::process::id());
            (status.starts_with("Name:\tmachine\n") && status.contains(&parent)).then_some(pid)
        });
        Pid::from_raw(children.max().expect("it has a process"))
    }
}

fn ends() {
    let guest = start(&kernel(&RESETS));
    assert_eq!(guest.end(), Ended::Reset);
    assert!(guest.running.peak_memory().unwrap() > 1 << 20);

    let mut guest = start(&kernel(&SPINS));
    let early = guest.events.next(Duration::from_millis(50));
    assert!(!matches!(early, Some(Event::Ended(_))), "{early:?}");
    guest.running.kill(LIMIT);
    assert_eq!(guest.end(), Ended::Killed);

    let mut guest = start(&kernel(&SPINS));
    guest.running.kill(Duration::ZERO);
    assert_eq!(guest.end(), Ended::Killed);
}

fn confined() {
    let guest = start(&kernel(&SPINS));
    let threads = format!("/proc/{}/task", guest.process());
    // The main thread confines itself while the guest runs already.
    std::thread::sleep(Duration::from_millis(300));
    let mut names = Vec::new();
    for thread in fs::read_dir(threads).unwrap() {
        let status = fs::read_to_string(thread.unwrap().path().join("status")).unwrap();
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap_or_default()
                .trim_matches([':', '\t'])
                .to_owned()
        };
        assert_eq!(field("NoNewPrivs"), "1", "{status}");
        let filters = field("Seccomp_filters");
        if Confinement::of_host().seccomp {
            assert_eq!(field("Seccomp"), "2", "{status}");
            // That against clone3(2), and the thread's own.
            assert!(filters.is_empty() || filters == "2", "{status}");
        }
        names.push(field("Name"));
    }
    // KVM's own thread belongs to its process.
    names.retain(|name| !name.starts_with("kvm-"));
    names.sort();
    assert_eq!(names, ["machine", "vcpu0", "vcpu1"]);
}

fn refused() {
    let error = try_start(b"no kernel").err().unwrap();
    let text = format!("{error:?}");
    assert!(matches!(error, StartError::Machine(_)), "{text}");
    let folder = TempDir::new().unwrap();
    let mut machine = machine(folder.path(), &kernel(&SPINS));
    fs::write(folder.path().join("image"), b"no image").unwrap();
    let (sender, _events) = events();
    let error = Kvm::default().start(machine, sender).unwrap_err();
    assert!(matches!(error, StartError::Disk { .. }), "{error:?}");
    fs::remove_dir(folder.path().join("share")).unwrap();
    machine = self::machine(folder.path(), &kernel(&SPINS));
    fs::remove_dir(folder.path().join("share")).unwrap();
    let (sender, _events) = events();
    let error = Kvm::default().start(machine, sender).unwrap_err();
    assert!(matches!(error, StartError::Share { .. }), "{error:?}");
}

fn dies() {
    let guest = start(&kernel(&SPINS));
    kill(guest.process(), Signal::SIGKILL).unwrap();
    let ended = guest.end();
    let Ended::Failed(text) = &ended else {
        panic!("{ended:?}");
    };
    assert!(text.contains("it was killed"), "{text}");
}

fn hangs() {
    let mut guest = start(&kernel(&SPINS));
    kill(guest.process(), Signal::SIGSTOP).unwrap();
    let start = Instant::now();
    guest.running.kill(Duration::from_secs(1));
    assert_eq!(guest.end(), Ended::Killed);
    assert!(start.elapsed() < Duration::from_secs(10));

    // Without grace at any time.
    let mut guest = self::start(&kernel(&SPINS));
    kill(guest.process(), Signal::SIGSTOP).unwrap();
    guest.running.kill(LIMIT);
    guest.running.kill(Duration::ZERO);
    assert_eq!(guest.end(), Ended::Killed);
}

fn kept() {
    let mut guest = start(&kernel(&SPINS));
    guest.running.kill(LIMIT);
    assert_eq!(guest.end(), Ended::Killed);
    let folder = guest.folder.path().join("kept");
    fs::create_dir(&folder).unwrap();
    assert!(guest.running.keep_disk(&folder).unwrap().is_some());
    let names = fs::read_dir(&folder).unwrap();
    let mut names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["changes", "changes.map"]);

    // Such a disk can be looked at by another machine.
    let next = TempDir::new().unwrap();
    let mut machine = machine(next.path(), &kernel(&RESETS));
    machine.disk = RootDisk::Private {
        image: guest.folder.path().join("image"),
        kept: vec![folder],
        size: None,
        scratch: next.path().to_owned(),
    };
    let (sender, events) = events();
    let running = Kvm::default().start(machine, sender).unwrap();
    let guest = Guest {
        folder: next,
        running,
        events,
    };
    assert_eq!(guest.end(), Ended::Reset);
}

fn checkpoint() {
    let mut guest = start(&kernel(&SPINS));
    // The confined process has to do with the files that come with the wish.
    assert!(guest.running.checkpoint().unwrap());
    assert!(guest.running.checkpoint().is_err(), "there is one already");
    guest.running.kill(LIMIT);
    assert_eq!(guest.end(), Ended::Killed);
    let folder = |name: &str| {
        let folder = guest.folder.path().join(name);
        fs::create_dir(&folder).unwrap();
        folder
    };
    let folders = vec![folder("checkpoint"), folder("end")];
    assert!(
        guest
            .running
            .keep_checkpoint(&folders[0])
            .unwrap()
            .is_some()
    );
    assert!(guest.running.keep_disk(&folders[1]).unwrap().is_some());

    let next = TempDir::new().unwrap();
    let mut machine = machine(next.path(), &kernel(&RESETS));
    machine.disk = RootDisk::Private {
        image: guest.folder.path().join("image"),
        kept: folders,
        size: None,
        scratch: next.path().to_owned(),
    };
    let (sender, events) = events();
    let running = Kvm::default().start(machine, sender).unwrap();
    let guest = Guest {
        folder: next,
        running,
        events,
    };
    assert_eq!(guest.end(), Ended::Reset);
}

fn floods() {
    let resident = || {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
        kib.unwrap().trim().parse::<usize>().unwrap() << 10
    };
    let folder = TempDir::new().unwrap();
    let mut machine = machine(folder.path(), &kernel(&SPINS));
    machine.cmdline = String::from(FLOODS);
    let (sender, events) = events();
    let before = resident();
    let running = Kvm::default().start(machine, sender).unwrap();
    let guest = Guest {
        folder,
        running,
        events,
    };
    let ended = guest.end();
    assert!(matches!(ended, Ended::Failed(_)), "{ended:?}");
    let grown = resident().saturating_sub(before);
    assert!(grown < FLOOD * MAX_MESSAGE / 2, "{grown} bytes are kept");
}

fn deaf() {
    let guest = start(&kernel(&SPINS));
    kill(guest.process(), Signal::SIGSTOP).unwrap();
    // Each asks the process, until its channel is full.
    for _ in 0..2000 {
        guest.running.usage();
    }
    let folder = guest.folder.path().join("kept");
    fs::create_dir(&folder).unwrap();
    let start = Instant::now();
    let error = guest.running.keep_disk(&folder).unwrap_err();
    assert!(error.to_string().contains("does not answer"), "{error}");
    assert!(start.elapsed() < Duration::from_secs(10));
}
