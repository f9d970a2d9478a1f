//! What one guest can make the host spend.

/// TCP connections; more are refused. Fewer where the process may not open as many files.
pub const CONNECTIONS: usize = 4096;
/// TCP connections into the guest, among those; more wait in the host's backlog.
pub const INBOUND: usize = 64;
/// UDP and ICMP associations; one more takes the place of the one idle for longest.
pub const ASSOCIATIONS: usize = 512;
/// Bytes that wait for the guest, and bytes that wait for the host, per TCP connection.
pub const BUFFER: usize = 512 << 10;
/// Bytes that wait in either direction of all TCP connections together. Above it, no
/// connection buffers more than a segment.
pub const BUFFERS: usize = 64 << 20;
/// Frames that wait for the guest apart from those of TCP; more are lost.
pub const REPLIES: usize = 256;
/// File descriptors that are left to the rest of the process.
pub const OTHER_FILES: usize = 256;
