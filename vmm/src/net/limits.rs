//! What one guest can make the host spend. docs/network.md has the sums.

/// TCP connections; more are refused. Fewer where the process may not open as many files.
pub const CONNECTIONS: usize = 1024;
/// TCP connections into the guest, among those; more wait in the host's backlog.
pub const INBOUND: usize = 64;
/// UDP and ICMP associations; one more takes the place of the one idle for longest.
pub const ASSOCIATIONS: usize = 256;
/// Bytes that wait for the guest, and bytes that wait for the host, per TCP connection, while others may
/// need what is left of [`BUFFERS`].
pub const FAIR_BUFFER: usize = 512 << 10;
/// The same while at least half of [`BUFFERS`] is left for the others.
pub const BUFFER: usize = 4 << 20;
/// Memory for what waits in either direction of all TCP connections together, in bytes.
pub const BUFFERS: usize = 64 << 20;
/// Bytes of that which each connection may always have, or all that there may be could starve.
pub const FLOOR: usize = 8 << 10;
/// TCP connections whose buffers in the kernel grow with the way, up to what the host's administrator
/// allows (tcp(7), `tcp_rmem` and `tcp_wmem`). All others have [`KERNEL_BUFFER`].
pub const TUNED: usize = 32;
/// Bytes that the kernel buffers each way of a connection's or an association's socket. It counts twice
/// that, with its own structures (socket(7), `SO_RCVBUF`).
pub const KERNEL_BUFFER: usize = 32 << 10;
/// Frames that wait for the guest apart from those of TCP, and their bytes; more are lost.
pub const REPLIES: usize = 4096;
/// See [`REPLIES`].
pub const REPLY_BYTES: usize = 2 << 20;
/// Datagrams of one association that are taken before others have their turn.
pub const BURST: usize = 32;
/// Addresses that a hermetic network remembers; the oldest is forgotten.
pub const KNOWN_ADDRESSES: usize = 1024;
/// Questions to name servers that wait for their answers; more are lost.
pub const QUESTIONS: usize = 4096;
/// Sockets for questions to one name server; more questions share them.
pub const SERVER_SOCKETS: usize = 32;
/// Name servers that are asked at one time, those of a network that the host has left included.
pub const SERVERS: usize = 4;
/// Packets of which some fragments have come; the oldest is dropped.
pub const FRAGMENTED: usize = 64;
/// Bytes of their fragments.
pub const FRAGMENT_BYTES: usize = 1 << 20;
/// Fragments of one packet: 64 KiB in the smallest that any link demands (RFC 791: 576 bytes).
pub const PIECES: usize = 128;
/// Connections that another process continues at one time; further ones are continued here.
pub const HANDED_OVER: usize = 256;
/// Bytes that the kernel buffers each way of a stream to that process. It counts twice that.
pub const HANDOVER_BUFFER: usize = 128 << 10;
/// File descriptors that are left to the rest of the process.
pub const OTHER_FILES: usize = 256;

const _: () = assert!(CONNECTIONS * FLOOR < BUFFERS);
const _: () = assert!(BUFFER < BUFFERS / 2);
