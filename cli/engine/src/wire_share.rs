//! A share on its way to the process that serves it. Its open root goes beside it.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use boxbuild_jail::FileAccess;
use boxbuild_virtiofs::{DirectoryId, Hidden, HiddenNames, MountTag, MountTagError, Share};
use serde::{Deserialize, Serialize};

/// A name or a path: any bytes, as Base64. JSON has four bytes for most of them otherwise, and the names
/// of many results would not fit a message.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
struct WireName(OsString);

impl From<&OsStr> for WireName {
    fn from(name: &OsStr) -> WireName {
        WireName(name.to_owned())
    }
}

impl From<WireName> for String {
    fn from(name: WireName) -> String {
        STANDARD.encode(name.0.as_bytes())
    }
}

impl TryFrom<String> for WireName {
    type Error = base64::DecodeError;

    fn try_from(text: String) -> Result<WireName, base64::DecodeError> {
        STANDARD.decode(text).map(OsString::from_vec).map(WireName)
    }
}

/// A [`Share`] on its way.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct WireShare {
    tag: String,
    /// Only for messages.
    root: WireName,
    read_only: bool,
    guest_uid: u32,
    guest_gid: u32,
    timeout: Duration,
    keep_cache: bool,
    writeback: bool,
    hidden: WireHidden,
}

/// [`Hidden`] on its way.
#[derive(Debug, Default, Serialize, Deserialize)]
struct WireHidden {
    everywhere: Vec<WireName>,
    inside: Option<WireInside>,
}

#[derive(Debug, Serialize, Deserialize)]
struct WireInside {
    device: u64,
    inode: u64,
    /// All names if there is no list.
    names: Option<Vec<WireName>>,
}

impl From<&Hidden> for WireHidden {
    fn from(hidden: &Hidden) -> WireHidden {
        let inside = hidden.inside.as_ref().map(|(id, names)| WireInside {
            device: id.device,
            inode: id.inode,
            names: match names {
                HiddenNames::All => None,
                HiddenNames::These(names) => Some(wire(names)),
            },
        });
        WireHidden {
            everywhere: wire(&hidden.everywhere),
            inside,
        }
    }
}

fn wire<'n>(names: impl IntoIterator<Item = &'n OsString>) -> Vec<WireName> {
    names.into_iter().cloned().map(WireName).collect()
}

impl From<WireHidden> for Hidden {
    fn from(wire: WireHidden) -> Hidden {
        let names = |names: Vec<WireName>| names.into_iter().map(|name| name.0);
        let inside = wire.inside.map(|inside| {
            let id = DirectoryId {
                device: inside.device,
                inode: inside.inode,
            };
            let list = inside.names.map(|list| names(list).collect());
            (id, list.map_or(HiddenNames::All, HiddenNames::These))
        });
        Hidden {
            everywhere: names(wire.everywhere).collect(),
            inside,
        }
    }
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
            root: share.root.as_os_str().into(),
            read_only: share.read_only,
            guest_uid: share.guest_uid,
            guest_gid: share.guest_gid,
            timeout: share.timeout,
            keep_cache: share.keep_cache,
            writeback: share.writeback,
            hidden: WireHidden::from(&share.hidden),
        }
    }
}

impl TryFrom<WireShare> for Share {
    type Error = MountTagError;

    fn try_from(wire: WireShare) -> Result<Share, MountTagError> {
        let mut share = Share::new(MountTag::new(wire.tag)?, wire.root.0);
        share.read_only = wire.read_only;
        share.guest_uid = wire.guest_uid;
        share.guest_gid = wire.guest_gid;
        share.timeout = wire.timeout;
        share.keep_cache = wire.keep_cache;
        share.writeback = wire.writeback;
        share.hidden = wire.hidden.into();
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
        let id = DirectoryId {
            device: 1 << 40,
            inode: 2,
        };
        let names = OsString::from_vec(b"old\xff".to_vec());
        share.hidden = Hidden {
            everywhere: vec![names.clone()],
            inside: Some((id, HiddenNames::These([names].into()))),
        };
        let wire = serde_json::to_vec(&WireShare::from(&share)).unwrap();
        let wire: WireShare = serde_json::from_slice(&wire).unwrap();
        assert_eq!(Share::try_from(wire).unwrap(), share);
    }
}
