//! A share on its way to the process that serves it. Its open root goes beside it.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::time::Duration;

use boxbuild_jail::FileAccess;
use boxbuild_virtiofs::{MountTag, MountTagError, Share};
use serde::{Deserialize, Serialize};

/// A [`Share`] on its way.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct WireShare {
    tag: String,
    /// Only for messages; any bytes.
    root: Vec<u8>,
    read_only: bool,
    guest_uid: u32,
    guest_gid: u32,
    timeout: Duration,
    keep_cache: bool,
    writeback: bool,
}

impl WireShare {
    /// What the process that serves it does beneath its root.
    pub(crate) fn access(&self) -> FileAccess {
        if self.read_only {
            FileAccess::Read
        } else {
            FileAccess::Write
        }
    }
}

impl From<&Share> for WireShare {
    fn from(share: &Share) -> WireShare {
        WireShare {
            tag: share.tag.as_str().to_owned(),
            root: share.root.as_os_str().as_bytes().to_vec(),
            read_only: share.read_only,
            guest_uid: share.guest_uid,
            guest_gid: share.guest_gid,
            timeout: share.timeout,
            keep_cache: share.keep_cache,
            writeback: share.writeback,
        }
    }
}

impl TryFrom<WireShare> for Share {
    type Error = MountTagError;

    fn try_from(wire: WireShare) -> Result<Share, MountTagError> {
        let mut share = Share::new(MountTag::new(wire.tag)?, OsString::from_vec(wire.root));
        share.read_only = wire.read_only;
        share.guest_uid = wire.guest_uid;
        share.guest_gid = wire.guest_gid;
        share.timeout = wire.timeout;
        share.keep_cache = wire.keep_cache;
        share.writeback = wire.writeback;
        Ok(share)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_arrives_as_it_was() {
        let name = OsString::from_vec(b"/any\xffbytes".to_vec());
        let mut share = Share::new(MountTag::new("tag").unwrap(), name).read_only();
        share.guest_uid = 7;
        share.timeout = Duration::from_millis(1500);
        share.writeback = true;
        let wire = serde_json::to_vec(&WireShare::from(&share)).unwrap();
        let wire: WireShare = serde_json::from_slice(&wire).unwrap();
        assert_eq!(Share::try_from(wire).unwrap(), share);
    }
}
