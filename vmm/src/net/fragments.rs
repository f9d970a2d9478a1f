//! Fragments of packets from the guest (RFC 791, section 3.2; RFC 8200, section 4.5), put together again.
//!
//! Linux sends them for UDP datagrams and echo requests that are larger than its link's frames.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::limits;

/// Time for all fragments of a packet to come (Linux' `ipfrag_time`).
const TIME: Duration = Duration::from_secs(30);
/// Bytes of an IPv4 packet's payload: the field of its length, which counts the header, has 16 bits.
const LARGEST: usize = 65515;
/// Bytes in which offsets are counted.
const UNIT: usize = 8;

/// A fragment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fragment<'p> {
    pub(super) packet: PacketId,
    /// Bytes of the whole before this one.
    pub(super) offset: usize,
    pub(super) more: bool,
    pub(super) payload: &'p [u8],
}

/// The packet that a fragment belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PacketId {
    pub(super) from: IpAddr,
    pub(super) to: IpAddr,
    pub(super) protocol: u8,
    pub(super) id: u32,
}

/// Packets of which some fragments have come.
#[derive(Debug, Default)]
pub(super) struct Fragments {
    /// The oldest first.
    packets: Vec<Partial>,
}

#[derive(Debug)]
struct Partial {
    id: PacketId,
    since: Instant,
    /// In order, none over another: offset and bytes. `None` if nothing can come of them.
    pieces: Option<Vec<(usize, Vec<u8>)>>,
    /// Bytes of the whole, if the last one has come.
    len: Option<usize>,
}

impl Partial {
    fn bytes(&self) -> usize {
        let pieces = self.pieces.iter().flatten();
        pieces.map(|(_, piece)| piece.len()).sum()
    }

    /// Takes a fragment. `None` if the packet is broken: it lies over another one (RFC 5722), or beyond
    /// the end. One that comes twice is no harm.
    fn add(&mut self, fragment: &Fragment<'_>) -> Option<()> {
        let pieces = self.pieces.as_mut()?;
        let (start, end) = (fragment.offset, fragment.offset + fragment.payload.len());
        let at = pieces.partition_point(|(offset, _)| *offset < start);
        if let Some((offset, piece)) = pieces.get(at)
            && *offset == start
            && piece == fragment.payload
            && fragment.more == (self.len != Some(end))
        {
            return Some(());
        }
        let before = at.checked_sub(1).and_then(|before| pieces.get(before));
        let overlaps = before.is_some_and(|(offset, piece)| offset + piece.len() > start)
            || pieces.get(at).is_some_and(|(offset, _)| *offset < end);
        let last = pieces
            .last()
            .map_or(0, |(offset, piece)| offset + piece.len());
        let beyond = match self.len {
            Some(len) => end > len || !fragment.more,
            None => !fragment.more && last > end,
        };
        if overlaps || beyond || pieces.len() >= limits::PIECES {
            return None;
        }
        if !fragment.more {
            self.len = Some(end);
        }
        pieces.insert(at, (start, fragment.payload.to_vec()));
        Some(())
    }

    /// The whole, if nothing is missing.
    fn whole(&self) -> Option<Vec<u8>> {
        let (pieces, len) = (self.pieces.as_ref()?, self.len?);
        // None lies over another: as many bytes as there are places.
        (self.bytes() == len).then(|| {
            let bytes: Vec<&[u8]> = pieces.iter().map(|(_, piece)| piece.as_slice()).collect();
            bytes.concat()
        })
    }
}

impl Fragments {
    /// Whether no packet waits for the rest of it.
    pub(super) fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }

    /// Takes a fragment. Returns the payload of its packet if it was the last one missing.
    pub(super) fn add(&mut self, fragment: &Fragment<'_>, now: Instant) -> Option<Vec<u8>> {
        let len = fragment.payload.len();
        // Only the last one has any length.
        let odd = fragment.more && !len.is_multiple_of(UNIT);
        if len == 0 || odd || fragment.offset + len > LARGEST {
            return None;
        }
        // Alone, it has nothing to do with others of the same number (RFC 6946).
        if fragment.offset == 0 && !fragment.more {
            return Some(fragment.payload.to_vec());
        }
        let known = self
            .packets
            .iter()
            .position(|packet| packet.id == fragment.packet);
        let at = known.unwrap_or_else(|| {
            self.packets.push(Partial {
                id: fragment.packet,
                since: now,
                pieces: Some(Vec::new()),
                len: None,
            });
            self.packets.len() - 1
        });
        let packet = self.packets.get_mut(at)?;
        if packet.add(fragment).is_none() {
            // What comes of it later is dropped as well.
            packet.pieces = None;
            return None;
        }
        let whole = packet.whole();
        if whole.is_some() {
            self.packets.remove(at);
        }
        while self.packets.len() > limits::FRAGMENTED
            || self.packets.iter().map(Partial::bytes).sum::<usize>() > limits::FRAGMENT_BYTES
        {
            self.packets.remove(0);
        }
        whole
    }

    /// Drops packets whose rest has not come in time. Returns those whose sender is told, with their
    /// first bytes: where the beginning has come (RFC 792, RFC 4443 section 3.3).
    pub(super) fn expire(&mut self, now: Instant) -> Vec<(PacketId, Vec<u8>)> {
        let mut told = Vec::new();
        self.packets.retain_mut(|packet| {
            let keeps = now.duration_since(packet.since) < TIME;
            if !keeps {
                let pieces = packet.pieces.take().unwrap_or_default().into_iter();
                let first = pieces.take(1).find(|(offset, _)| *offset == 0);
                told.extend(first.map(|(_, piece)| (packet.id, piece)));
            }
            keeps
        });
        told
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn packet(id: u32) -> PacketId {
        PacketId {
            from: IpAddr::from([10, 0, 2, 15]),
            to: IpAddr::from([192, 0, 2, 1]),
            protocol: 17,
            id,
        }
    }

    fn fragment(id: u32, offset: usize, more: bool, payload: &[u8]) -> Fragment<'_> {
        Fragment {
            packet: packet(id),
            offset,
            more,
            payload,
        }
    }

    #[test]
    fn they_may_come_in_any_order_and_twice() {
        let data: Vec<u8> = (0..40).collect();
        let parts = [(0, true, 16), (16, true, 16), (32, false, 8)];
        for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0], [2, 0, 1]] {
            let (mut fragments, now) = (Fragments::default(), Instant::now());
            let mut whole = None;
            for at in order {
                assert_eq!(whole, None);
                let (start, more, len) = parts[at];
                let part = fragment(1, start, more, &data[start..start + len]);
                whole = fragments.add(&part, now);
                if at != order[2] {
                    assert_eq!(fragments.add(&part, now), None);
                }
            }
            assert_eq!(whole.unwrap(), data);
            assert!(fragments.is_empty());
        }
    }

    /// RFC 5722: the packet is lost, with what comes of it later.
    #[test]
    fn one_that_lies_over_another_ends_its_packet() {
        let now = Instant::now();
        let data = [1; 64];
        for bad in [
            fragment(1, 8, true, &data[..16]),
            fragment(1, 0, true, &data[..8]),
            fragment(1, 0, true, &data[..24]),
            fragment(1, 8, false, &data[..4]),
        ] {
            let mut fragments = Fragments::default();
            assert!(
                fragments
                    .add(&fragment(1, 0, true, &data[..16]), now)
                    .is_none()
            );
            assert!(
                fragments
                    .add(&fragment(1, 24, true, &data[..8]), now)
                    .is_none()
            );
            assert!(fragments.add(&bad, now).is_none());
            assert!(
                fragments
                    .add(&fragment(1, 16, true, &data[..8]), now)
                    .is_none()
            );
            assert!(
                fragments
                    .add(&fragment(1, 32, false, &data[..8]), now)
                    .is_none()
            );
            // Another packet is not touched.
            assert!(
                fragments
                    .add(&fragment(2, 0, true, &data[..8]), now)
                    .is_none()
            );
            assert!(
                fragments
                    .add(&fragment(2, 8, false, &data[..1]), now)
                    .is_some()
            );
        }
    }

    #[test]
    fn what_cannot_be_is_dropped() {
        let (mut fragments, now) = (Fragments::default(), Instant::now());
        let data = vec![1; LARGEST];
        for bad in [
            fragment(1, 0, true, &data[..7]),
            fragment(1, 0, true, &[]),
            fragment(1, 65512, false, &data[..8]),
        ] {
            assert!(fragments.add(&bad, now).is_none());
        }
        assert!(fragments.is_empty());
        assert_eq!(
            fragments.add(&fragment(1, 0, false, b"all"), now).unwrap(),
            b"all"
        );
        // Behind the end, and a second end.
        for bad in [
            fragment(1, 16, true, &data[..8]),
            fragment(1, 16, false, &data[..8]),
        ] {
            let mut fragments = Fragments::default();
            assert!(
                fragments
                    .add(&fragment(1, 8, false, &data[..8]), now)
                    .is_none()
            );
            assert!(fragments.add(&bad, now).is_none());
            assert!(
                fragments
                    .add(&fragment(1, 0, true, &data[..8]), now)
                    .is_none()
            );
        }
    }

    #[test]
    fn memory_and_time_are_bounded() {
        let (mut fragments, now) = (Fragments::default(), Instant::now());
        let data = vec![1; 60_000];
        for id in 0..1000 {
            assert!(fragments.add(&fragment(id, 8, true, &data), now).is_none());
            let bytes: usize = fragments.packets.iter().map(Partial::bytes).sum();
            assert!(bytes <= limits::FRAGMENT_BYTES);
        }
        for id in 0..1000 {
            assert!(
                fragments
                    .add(&fragment(id, 8, true, &data[..8]), now)
                    .is_none()
            );
        }
        assert_eq!(fragments.packets.len(), limits::FRAGMENTED);
        // Many small ones.
        for at in 1..8000 {
            let part = fragment(2000, 8 * at, true, &data[..8]);
            assert!(fragments.add(&part, now).is_none());
        }
        let last = fragments.packets.last().unwrap();
        assert!(last.bytes() <= 8 * limits::PIECES);
        assert!(fragments.expire(now + TIME / 2).is_empty());
        fragments.add(&fragment(3000, 0, true, &data[..8]), now);
        let told = fragments.expire(now + TIME);
        assert_eq!(told, [(packet(3000), vec![1; 8])]);
        assert!(fragments.is_empty());
    }

    proptest! {
        #[test]
        fn what_comes_whole_is_what_was_sent(
            cuts in prop::collection::btree_set(1..400_usize, 0..20),
            len in 3201..4000_usize,
            seed in any::<u64>(),
        ) {
            let data: Vec<u8> = (0..len).map(|at| (at % 251) as u8).collect();
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut * UNIT).collect();
            cuts.insert(0, 0);
            cuts.push(len);
            let mut parts: Vec<(usize, usize)> =
                cuts.windows(2).map(|pair| (pair[0], pair[1])).collect();
            // Any order.
            parts.sort_by_key(|(start, _)| (*start as u64 + 1).wrapping_mul(seed | 1));
            let (mut fragments, now) = (Fragments::default(), Instant::now());
            let mut whole = None;
            for (start, end) in parts {
                prop_assert!(whole.is_none());
                whole = fragments.add(&fragment(1, start, end < len, &data[start..end]), now);
            }
            prop_assert!(whole.unwrap() == data);
        }
    }
}
