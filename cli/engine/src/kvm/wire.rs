//! What the machine's process and its parent say to each other.
//!
//! A message begins with one byte that tells what follows: bytes of a port as they are, or JSON.
//! Nothing that comes from the process is trusted: a guest may have broken into it.

use std::io;

use boxbuild_jail::Channel;
use boxbuild_vmm::net::{HostNetwork, Policy};
use boxbuild_vmm::virtio::console::Port;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::event::Ended;
use crate::handle::Moved;
use crate::wire_share::WireShare;

const CONSOLE: u8 = b'c';
const CONTROL: u8 = b't';
const JSON: u8 = b'j';

/// Longest text of a report in bytes; the rest is cut off.
const TEXT: usize = 16 << 10;

/// A machine, for its process. Its files follow as descriptors, in this order: `/dev/kvm`, kernel,
/// ramdisk, those of the disk, the listener, the channel of what is handed over, the roots of the shares.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct MachineConfig {
    pub(super) memory_mib: u64,
    pub(super) cpus: u32,
    pub(super) nested: bool,
    pub(super) cmdline: String,
    pub(super) disk: DiskConfig,
    pub(super) network: Option<NetworkConfig>,
    pub(super) shares: Vec<WireShare>,
}

/// The root disk. Names are for messages.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum DiskConfig {
    /// One file: the image.
    InPlace { name: String },
    /// The image, the blocks and the map of each that was kept, the lowest first, and the changes.
    Private {
        name: String,
        kept: usize,
        len: Option<u64>,
        scratch: String,
    },
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct NetworkConfig {
    pub(super) policy: Policy,
    pub(super) host: HostNetwork,
    /// The guest's port that the listener leads to.
    pub(super) forward: Option<u16>,
    /// The ports whose connections another process continues.
    pub(super) handover: Option<Vec<u16>>,
}

/// What the parent wants of the process.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Wish {
    /// End the machine.
    Stop,
    /// Tell [`Report::Figures`].
    Figures,
    /// The host has come to another network.
    HostNetwork(HostNetwork),
    /// Write the map of the changes into the file that comes with it.
    WriteMap,
    /// Take a checkpoint of the disk: the files that come with it take what is written from now on, and the
    /// map of what has been written. The answer is [`Report::MapWritten`].
    Checkpoint,
}

/// What the process tells.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Report {
    /// The machine runs. The text says what of the confinement is missing.
    Started {
        weakness: Option<String>,
        times: Times,
    },
    /// It cannot be put together; the process ends.
    NotStarted(StartFailure),
    Note(String),
    StorageFull(String),
    Figures(Figures),
    /// The answer to [`Wish::WriteMap`] and [`Wish::Checkpoint`]; an error in words.
    MapWritten(Result<(), String>),
    Ended(Ended),
}

/// When the process reached what, by the clock that all processes share, in microseconds.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Times {
    /// It runs.
    pub(super) process: u64,
    /// It is locked, and has begun with the machine.
    pub(super) machine: u64,
    /// The guest has the first CPU.
    pub(super) first_instruction: u64,
}

/// Bytes that the guest has moved.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(super) struct Figures {
    pub(super) disk: Option<Moved>,
    pub(super) shares: Option<Moved>,
    pub(super) network: Option<Moved>,
}

/// Why a machine did not start.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct StartFailure {
    pub(super) part: Part,
    /// The error and its causes.
    pub(super) chain: Vec<String>,
}

/// What of the machine is to blame.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) enum Part {
    Image,
    Kept,
    Changes,
    Memory,
    Machine,
}

/// A message to the parent.
#[derive(Debug)]
pub(super) enum FromMachine {
    Console(Vec<u8>),
    Control(Vec<u8>),
    Report(Report),
}

/// A message to the process.
#[derive(Debug)]
pub(super) enum ToMachine {
    Input(Port, Vec<u8>),
    Wish(Wish),
}

impl FromMachine {
    pub(super) fn decode(message: &[u8]) -> io::Result<FromMachine> {
        let (kind, rest) = split(message)?;
        Ok(match kind {
            CONSOLE => FromMachine::Console(rest.to_vec()),
            CONTROL => FromMachine::Control(rest.to_vec()),
            _ => FromMachine::Report(json(kind, rest)?),
        })
    }
}

impl ToMachine {
    pub(super) fn decode(message: &[u8]) -> io::Result<ToMachine> {
        let (kind, rest) = split(message)?;
        Ok(match kind {
            CONSOLE => ToMachine::Input(Port::Console, rest.to_vec()),
            CONTROL => ToMachine::Input(Port::Control, rest.to_vec()),
            _ => ToMachine::Wish(json(kind, rest)?),
        })
    }
}

fn split(message: &[u8]) -> io::Result<(u8, &[u8])> {
    let (kind, rest) = message.split_first().ok_or(io::ErrorKind::InvalidData)?;
    Ok((*kind, rest))
}

fn json<T: DeserializeOwned>(kind: u8, bytes: &[u8]) -> io::Result<T> {
    if kind != JSON {
        return Err(io::ErrorKind::InvalidData.into());
    }
    Ok(serde_json::from_slice(bytes)?)
}

/// The message with bytes of a port.
pub(super) fn port(port: Port, bytes: &[u8]) -> Vec<u8> {
    let kind = match port {
        Port::Console => CONSOLE,
        Port::Control => CONTROL,
    };
    let mut message = vec![kind];
    message.extend_from_slice(bytes);
    message
}

/// The message with a [`Report`] or a [`Wish`].
pub(super) fn message(value: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut message = vec![JSON];
    serde_json::to_writer(&mut message, value)?;
    Ok(message)
}

/// Sends a report. It is lost if the parent is gone, and the process with it.
pub(super) fn report(channel: &Channel, report: &Report) {
    if let Ok(message) = message(report) {
        let _ = channel.send(&message, &[]);
    }
}

/// A text that fits into a report.
pub(super) fn cut(mut text: String) -> String {
    let mut len = TEXT.min(text.len());
    while !text.is_char_boundary(len) {
        len -= 1;
    }
    text.truncate(len);
    text
}

#[cfg(test)]
mod tests {
    use boxbuild_jail::MAX_MESSAGE;
    use boxbuild_virtiofs::{DirectoryId, Hidden, HiddenNames, MountTag, Share};
    use boxbuild_vmm::net::{HostName, Resolver};

    use super::*;

    #[test]
    fn messages_are_read_as_they_were_written() {
        let bytes = port(Port::Control, b"exit 0\n");
        let decoded = FromMachine::decode(&bytes).unwrap();
        assert!(matches!(decoded, FromMachine::Control(bytes) if bytes == b"exit 0\n"));
        let bytes = message(&Report::Ended(Ended::TripleFault(String::from("CPU 0")))).unwrap();
        let decoded = FromMachine::decode(&bytes).unwrap();
        assert!(matches!(
            decoded,
            FromMachine::Report(Report::Ended(Ended::TripleFault(text))) if text == "CPU 0"
        ));
        let bytes = message(&Wish::WriteMap).unwrap();
        let decoded = ToMachine::decode(&bytes).unwrap();
        assert!(matches!(decoded, ToMachine::Wish(Wish::WriteMap)));
        // An address of one link goes with the number of its interface.
        let host = HostNetwork {
            resolver: Resolver {
                servers: vec!["[fe80::1%7]:53".parse().unwrap()],
                search: vec![String::from("corp.example")],
                ..Resolver::default()
            },
            hosts: vec![HostName {
                name: String::from("mirror"),
                ip: "10.1.2.3".parse().unwrap(),
            }],
            ipv6: true,
            ..HostNetwork::default()
        };
        let bytes = message(&Wish::HostNetwork(host.clone())).unwrap();
        let decoded = ToMachine::decode(&bytes).unwrap();
        assert!(matches!(decoded, ToMachine::Wish(Wish::HostNetwork(got)) if got == host));
    }

    /// Its parts are bounded each by themselves: the hosts file and the list of domains
    /// (`boxbuild_vmm::net`), and the names of results (`output_dir`).
    #[test]
    fn the_largest_machine_fits_a_message() {
        const HOSTS: usize = 48 << 10;
        const HIDDEN: usize = 16 << 10;
        let ip: std::net::IpAddr = "2001:db8:1111:2222:3333:4444:5555:6666".parse().unwrap();
        let name = "n".repeat(253);
        let host = HostNetwork {
            resolver: Resolver {
                search: vec![name.clone(); 16],
                ..Resolver::default()
            },
            hosts: vec![HostName { name, ip }; HOSTS / (253 + 45 + 20)],
            ..HostNetwork::default()
        };
        let bytes = message(&Wish::HostNetwork(host.clone())).unwrap();
        assert!(bytes.len() > HOSTS * 9 / 10 && bytes.len() <= MAX_MESSAGE / 2);
        let mut share = Share::new(MountTag::new("description").unwrap(), "/d");
        // Short names cost most.
        let letters = 'a'..='z';
        let names = letters.clone().flat_map(|one| {
            letters.clone().flat_map(move |two| {
                let names = ('a'..='z').map(move |three| format!("{one}{two}{three}x"));
                names.map(std::ffi::OsString::from)
            })
        });
        let id = DirectoryId {
            device: u64::MAX,
            inode: u64::MAX,
        };
        let names = HiddenNames::These(names.take(HIDDEN / 4).collect());
        share.hidden = Hidden {
            everywhere: Vec::new(),
            inside: Some((id, names)),
        };
        let config = MachineConfig {
            memory_mib: 1024,
            cpus: 2,
            nested: false,
            cmdline: "c".repeat(2048),
            disk: DiskConfig::InPlace {
                name: String::new(),
            },
            network: Some(NetworkConfig {
                policy: Policy::default(),
                host,
                forward: Some(22),
                handover: Some(vec![u16::MAX; 32]),
            }),
            shares: vec![WireShare::from(&share)],
        };
        // The rest is for the paths of other shares, and for what the user allows.
        let len = serde_json::to_vec(&config).unwrap().len();
        assert!(len + (16 << 10) <= MAX_MESSAGE, "{len} bytes");
    }

    #[test]
    fn what_is_no_message_is_an_error() {
        for bytes in [&b""[..], b"x", b"j{\"Ended\":1}", b"j\xff"] {
            assert!(FromMachine::decode(bytes).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn a_long_text_is_cut_at_a_character() {
        let text = cut("ä".repeat(TEXT));
        assert_eq!(text.len(), TEXT);
        let text = cut(format!("x{}", "ä".repeat(TEXT)));
        assert_eq!(text.len(), TEXT - 1);
    }
}
