//! What the confinement of a machine costs on this host: the time from the start of a machine to
//! its end as a jailed process and within the caller's process, a system call with and without a
//! filter, and the memory beside the guest.
//!
//! The guest is 20 bytes of code, which any /dev/kvm runs.

#![allow(clippy::print_stdout, reason = "a program for the terminal")]

use std::error::Error;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::path::Path;
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use boxbuild_engine::kvm::{Kvm, ROLE};
use boxbuild_engine::{Engine, Event, Machine, MountTag, RootDisk, Share, events};
use boxbuild_host::arch::Arch;
use boxbuild_jail::{Entered, Jail, Launch, Program, Role};
use boxbuild_vmm::disk::DiskConfig;
use boxbuild_vmm::machine::{self, PassthroughFs};
use boxbuild_vmm::threads::{Role as ThreadRole, Threads};
use vmm_sys_util::syscall::SyscallReturnCode;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Resets the machine through the keyboard controller: mov dx, 0x64; mov al, 0xfe; out dx, al; hlt.
const RESETS: &[u8] = &[0x66, 0xba, 0x64, 0x00, 0xb0, 0xfe, 0xee, 0xf4];
/// jmp $
const SPINS: &[u8] = &[0xeb, 0xfe];

const ROUNDS: usize = 31;

const CALLS: Role = Role {
    name: "calls",
    run: measure_calls,
};

/// An ELF file (System V ABI, chapter 4) with one segment of `code`.
fn kernel(code: &[u8]) -> Vec<u8> {
    const ADDRESS: u64 = 0x100_0000;
    let mut bytes = b"\x7fELF\x02\x01\x01".to_vec();
    bytes.resize(64 + 56, 0);
    bytes[18] = 62; // e_machine: EM_X86_64
    bytes[24..32].copy_from_slice(&ADDRESS.to_le_bytes());
    bytes[32] = 64; // e_phoff
    bytes[54] = 56; // e_phentsize
    bytes[56] = 1; // e_phnum
    bytes[64] = 1; // p_type: PT_LOAD
    let len = code.len() as u64;
    for (at, value) in [(8, 120), (24, ADDRESS), (32, len), (40, len)] {
        bytes[64 + at..64 + at + 8].copy_from_slice(&value.to_le_bytes());
    }
    bytes.extend(code);
    bytes
}

fn main() -> Result<()> {
    if let Some(_ended) = boxbuild_jail::enter(&[ROLE, CALLS]) {
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let folder = folder.path();
    for share in ["first", "second"] {
        fs::create_dir(folder.join(share))?;
    }
    fs::write(folder.join("disk"), vec![0; 1 << 20])?;

    fs::write(folder.join("kernel"), kernel(RESETS))?;
    let (mut jailed, mut within) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        jailed.push(jailed_machine(folder)?);
        within.push(machine_within(folder)?);
    }
    for (name, mut times) in [("a jailed process", jailed), ("this process", within)] {
        times.sort();
        println!(
            "start to end in {name}: {:?} at best, {:?} median of {ROUNDS}",
            times[0],
            times[ROUNDS / 2]
        );
    }

    let child = Launch::new(&Program::this(), CALLS.name).start(&())?;
    let report = child.channel().receive(None)?.unwrap_or_default();
    print!("{}", String::from_utf8_lossy(&report));

    fs::write(folder.join("kernel"), kernel(SPINS))?;
    let (sender, _receiver) = events();
    let _running = Kvm::default().start(jailed_config(folder)?, sender)?;
    std::thread::sleep(Duration::from_millis(500));
    println!(
        "private memory of the caller: {} KiB",
        private_memory("self")?
    );
    println!(
        "private memory of the machine, without its guest's: {} KiB",
        private_memory(&machine_process()?)?
    );
    Ok(())
}

fn jailed_config(folder: &Path) -> Result<Machine> {
    Ok(Machine {
        name: "cost".into(),
        arch: Arch::host(),
        kernel: folder.join("kernel"),
        kernel_sha256: "0".into(),
        unpack_kernel: false,
        initrd: File::open("/dev/null")?.into(),
        cmdline: String::new(),
        disk: RootDisk::InPlace(folder.join("disk")),
        memory_mib: 64,
        cpus: 2,
        nested: false,
        shares: shares(folder),
        network: Some(Default::default()),
        forward: None,
        handover: None,
        machine_type: None,
        cpu_model: None,
        cpu_level: Default::default(),
    })
}

fn shares(folder: &Path) -> Vec<Share> {
    vec![
        Share::new(MountTag::constant("first"), folder.join("first")),
        Share::new(MountTag::constant("second"), folder.join("second")),
    ]
}

fn jailed_machine(folder: &Path) -> Result<Duration> {
    let (sender, receiver) = events();
    let config = jailed_config(folder)?;
    let start = Instant::now();
    let running = Kvm::default().start(config, sender)?;
    loop {
        match receiver.next(Duration::from_secs(10)) {
            Some(Event::Ended(_)) => break,
            Some(_) => {}
            None => return Err("the machine did not end".into()),
        }
    }
    let time = start.elapsed();
    drop(running);
    Ok(time)
}

fn machine_within(folder: &Path) -> Result<Duration> {
    let (sender, receiver) = mpsc::channel();
    let sender = Mutex::new(sender);
    let disk = File::options()
        .read(true)
        .write(true)
        .open(folder.join("disk"))?;
    let config = machine::Config {
        kvm: None,
        threads: Threads::default(),
        memory_mib: 64,
        cpus: 2,
        nested: false,
        kernel: File::open(folder.join("kernel"))?,
        initrd: None,
        cmdline: String::new(),
        disks: vec![DiskConfig::Raw {
            file: disk,
            read_only: false,
        }],
        network: Some(Default::default()),
        shares: shares(folder)
            .into_iter()
            .map(PassthroughFs::new)
            .collect::<std::result::Result<_, _>>()?,
        config_ports: false,
        standard_devices: true,
    };
    let start = Instant::now();
    let handle = machine::start(
        config,
        Arc::new(move |event| {
            if let (machine::Event::Ended(_), Ok(sender)) = (event, sender.lock()) {
                // Fails if the receiver has given up.
                let _ = sender.send(());
            }
        }),
    )?;
    receiver.recv_timeout(Duration::from_secs(10))?;
    let time = start.elapsed();
    drop(handle);
    Ok(time)
}

/// The nanoseconds that one call takes: the best of 20 series.
fn nanoseconds(call: impl Fn()) -> u128 {
    const SERIES: u32 = 20_000;
    (0..20)
        .map(|_| {
            let start = Instant::now();
            for _ in 0..SERIES {
                call();
            }
            start.elapsed().as_nanos() / u128::from(SERIES)
        })
        .min()
        .unwrap_or_default()
}

#[allow(clippy::needless_pass_by_value, reason = "the type of a role")]
fn measure_calls(entered: Entered) -> std::result::Result<(), Box<dyn Error>> {
    let mut report = String::new();
    let mut measure = |name: &str| {
        // SAFETY: gettid has no arguments, and the ioctl names no descriptor.
        let gettid =
            nanoseconds(|| drop(SyscallReturnCode(unsafe { libc::gettid() }).into_result()));
        let ioctl = nanoseconds(|| {
            // SAFETY: fails with EBADF before it looks at an argument.
            let _ = SyscallReturnCode(unsafe { libc::ioctl(-1, 0xae80, 0) }).into_result();
        });
        // Writing to a string does not fail.
        let _ = writeln!(
            report,
            "{name}: gettid {gettid} ns, an ioctl whose request is checked {ioctl} ns"
        );
    };
    measure("without a filter");
    Jail::default().lock()?;
    measure("with the filter of the process");
    let (threads, _sender) = Threads::confined()?;
    let start = Instant::now();
    threads.enter(ThreadRole::Vcpu, "vcpu0")?;
    let installed = start.elapsed();
    measure("with that and the filter of a CPU's thread");
    let _ = writeln!(report, "installing the filter of a thread: {installed:?}");
    entered.channel().send(report.as_bytes(), &[])?;
    Ok(())
}

/// Private memory of a process in KiB, without mappings of 30 MiB and more: the guest's.
fn private_memory(pid: &str) -> Result<u64> {
    let (mut size, mut private) = (0, 0);
    for line in fs::read_to_string(format!("/proc/{pid}/smaps"))?.lines() {
        let value = || {
            line.split_whitespace()
                .nth(1)
                .and_then(|word| word.parse().ok())
                .unwrap_or(0)
        };
        if line.starts_with("Size:") {
            size = value();
        } else if line.starts_with("Private_Dirty:") && size < 30 << 10 {
            private += value();
        }
    }
    Ok(private)
}

/// The process of the machine: the last child that this thread has started.
fn machine_process() -> Result<String> {
    let children = fs::read_to_string("/proc/thread-self/children")?;
    let last = children.split_whitespace().last();
    Ok(last.ok_or("the machine has no process")?.to_owned())
}
