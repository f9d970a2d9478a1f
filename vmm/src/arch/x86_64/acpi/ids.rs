//! What the headers of all tables say about their origin.

/// `OEMID`.
pub(super) const OEM: [u8; 6] = *b"BOXBLD";
/// `OEM Table ID`.
pub(super) const TABLE: [u8; 8] = *b"BOXBUILD";
/// `OEM Revision`.
pub(super) const REVISION: u32 = 1;
