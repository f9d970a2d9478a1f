//! How a machine starts and ends, with kernels of a few bytes: any /dev/kvm can run these.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test"
)]

use std::fs::File;
use std::io::Write;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use boxbuild_vmm::machine::{self, Config, Ended, Event, Handle, StartError};

/// For what takes milliseconds.
const LIMIT: Duration = Duration::from_secs(60);

/// `jmp` to itself.
const SPINS: [u8; 2] = [0xeb, 0xfe];
/// Writes the reset command to the keyboard controller's port.
const RESETS: [u8; 8] = [0x66, 0xba, 0x64, 0x00, 0xb0, 0xfe, 0xee, 0xf4];

/// Sets EFER.SVME, without which there is no instruction of SVM (AMD APM volume 2, 15.4).
const SWITCHES_SVM_ON: [u8; 14] = [
    0xb9, 0x80, 0x00, 0x00, 0xc0, // mov ecx, 0xc0000080
    0x0f, 0x32, // rdmsr
    0x0d, 0x00, 0x10, 0x00, 0x00, // or eax, 0x1000
    0x0f, 0x30, // wrmsr
];
/// Sets CR4.VMXE, without which there is none of VMX (Intel SDM volume 3C, 24.7).
const SWITCHES_VMX_ON: [u8; 11] = [
    0x0f, 0x20, 0xe0, // mov rax, cr4
    0x0d, 0x00, 0x20, 0x00, 0x00, // or eax, 0x2000
    0x0f, 0x22, 0xe0, // mov cr4, rax
];

/// Writes 7 and 8 to port 0x80.
const MARKS: [u8; 8] = [0xb0, 0x07, 0xe6, 0x80, 0xb0, 0x08, 0xe6, 0x80];

/// An ELF file that begins with `code`.
fn kernel(code: &[u8]) -> File {
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
    file(&bytes)
}

fn file(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file
}

fn start(kernel: File, cpus: u32) -> (Result<Handle, StartError>, Receiver<Event>) {
    let (sender, events) = channel();
    let sender = Mutex::new(sender);
    let config = Config {
        kvm: None,
        threads: boxbuild_vmm::threads::Threads::default(),
        memory_mib: 64,
        cpus,
        kernel,
        initrd: None,
        cmdline: String::new(),
        disks: Vec::new(),
        network: None,
        shares: Vec::new(),
        config_ports: false,
        standard_devices: true,
        nested: false,
    };
    let hand_on = move |event| {
        let _ = sender.lock().unwrap().send(event);
    };
    (machine::start(config, Arc::new(hand_on)), events)
}

fn has_kvm() -> bool {
    let open = File::options().read(true).write(true).open("/dev/kvm");
    if let Err(error) = &open {
        println!("skipped: start of a machine: /dev/kvm: {error}");
    }
    open.is_ok()
}

#[test]
fn the_guest_ends_itself_or_is_ended() {
    if !has_kvm() {
        return;
    }
    for cpus in [1, 3] {
        let (running, events) = start(kernel(&RESETS), cpus);
        let mut running = running.unwrap();
        assert_eq!(events.recv_timeout(LIMIT), Ok(Event::Ended(Ended::Reset)));
        running.wait();

        let (running, events) = start(kernel(&SPINS), cpus);
        let running = running.unwrap();
        assert!(events.recv_timeout(Duration::from_millis(50)).is_err());
        running.stop();
        assert_eq!(events.recv_timeout(LIMIT), Ok(Event::Ended(Ended::Killed)));
        drop(running);
        // The machine is gone: no event can follow.
        assert!(events.recv().is_err());

        let (running, events) = start(kernel(&SPINS), cpus);
        drop(running.unwrap());
        assert_eq!(events.recv(), Ok(Event::Ended(Ended::Killed)));
    }
}

#[test]
fn marks_are_events() {
    if !has_kvm() {
        return;
    }
    let (running, events) = start(kernel(&[MARKS, RESETS].concat()), 1);
    let _running = running.unwrap();
    let marks: Vec<u8> = events
        .iter()
        .take_while(|event| !matches!(event, Event::Ended(_)))
        .filter_map(|event| match event {
            Event::Mark(mark) => Some(mark.code),
            _ => None,
        })
        .collect();
    assert_eq!(marks, [7, 8]);
}

#[test]
fn what_cannot_run_says_so_and_leaves_nothing() {
    if !has_kvm() {
        return;
    }
    let (running, events) = start(file(b"no kernel"), 2);
    assert!(matches!(running, Err(StartError::Boot(_))), "{running:?}");
    assert!(events.recv().is_err());
    let (running, events) = start(kernel(&SPINS), 1000);
    assert!(matches!(running, Err(StartError::Vcpu(_))), "{running:?}");
    assert!(events.recv().is_err());
}

/// Whatever this host's processor has: the guest's has neither, and faults.
#[test]
fn a_guest_cannot_switch_virtualization_on() {
    if !has_kvm() {
        return;
    }
    for switch in [&SWITCHES_SVM_ON[..], &SWITCHES_VMX_ON] {
        let (running, events) = start(kernel(&[switch, &RESETS].concat()), 1);
        let _running = running.unwrap();
        let ended = events.recv_timeout(LIMIT).unwrap();
        assert!(
            matches!(
                ended,
                Event::Ended(Ended::TripleFault(_) | Ended::Failed(_))
            ),
            "{ended:?}"
        );
    }
}
