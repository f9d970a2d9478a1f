//! Names of a hermetic network: the name server answers for those that are allowed, and remembers the
//! addresses that it gave.
//!
//! Nothing of the guest's question but the name goes further, and nothing of the answer but addresses
//! comes back: a question for another name never leaves the host.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr};

use smoltcp::wire::{
    DnsFlags, DnsOpcode, DnsPacket, DnsQueryType, DnsQuestion, DnsRcode, DnsRecord, DnsRecordData,
    DnsRepr,
};

use super::limits;
use super::policy::Allowed;

/// Bytes of a message's header, and of a message over UDP without extensions (RFC 1035, section 4.2.1).
const HEADER: usize = 12;
const MESSAGE: usize = 512;
/// A pointer to the name in the question, behind the header (RFC 1035, section 4.1.4).
const QUESTION_NAME: [u8; 2] = [0xc0, HEADER as u8];
/// Class "Internet".
const INTERNET: u16 = 1;
/// Records of an answer that are looked at.
const RECORDS: u16 = 64;

/// Names that the guest may ask for, and what came of it.
#[derive(Debug)]
pub(super) struct Names {
    allowed: Vec<Allowed>,
    /// Addresses that names had, with the rule that allowed the name; the oldest first.
    known: VecDeque<(IpAddr, usize)>,
    /// What the name servers have not answered yet, for each association of the NAT's.
    asked: HashMap<u64, VecDeque<Question>>,
}

/// A question of the guest's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Question {
    /// The guest's number for it, and ours.
    id: u16,
    own_id: u16,
    /// The name as it is in messages: as the guest wrote it, and in lower case.
    wire: Vec<u8>,
    lower: Vec<u8>,
    kind: DnsQueryType,
}

/// What becomes of a question.
#[derive(Debug)]
pub(super) enum Asked {
    /// It is answered here.
    Answered(Vec<u8>),
    /// A name server has to be asked this.
    Forwarded(Question, Vec<u8>),
    /// It is none.
    Ignored,
}

impl Names {
    pub(super) fn new(allowed: Vec<Allowed>) -> Names {
        Names {
            allowed,
            known: VecDeque::new(),
            asked: HashMap::new(),
        }
    }

    /// Whether the guest may go there.
    pub(super) fn allows(&self, to: SocketAddr) -> bool {
        let by_name = |(ip, rule): &(IpAddr, usize)| {
            let rule = self.allowed.get(*rule);
            *ip == to.ip() && rule.is_some_and(|rule| rule.is_for_port(to.port()))
        };
        self.allowed.iter().any(|rule| rule.is_for_address(to)) || self.known.iter().any(by_name)
    }

    /// Whether the guest may send anything at all there.
    pub(super) fn knows(&self, ip: IpAddr) -> bool {
        let own = |rule: &Allowed| rule.is_for_address(SocketAddr::new(ip, rule.port.unwrap_or(1)));
        self.allowed.iter().any(own) || self.known.iter().any(|(known, _)| *known == ip)
    }

    /// Decides on a question of the guest's.
    ///
    /// # Errors
    /// If the host has no random numbers.
    pub(super) fn ask(&self, message: &[u8]) -> io::Result<Asked> {
        let Some((id, wire, kind)) = read_question(message) else {
            return Ok(Asked::Ignored);
        };
        let Some(name) = text(&wire) else {
            return Ok(Asked::Ignored);
        };
        let mut own_id = [0; 2];
        crate::random(&mut own_id)?;
        let question = Question {
            id,
            own_id: u16::from_ne_bytes(own_id),
            lower: wire.to_ascii_lowercase(),
            wire,
            kind,
        };
        if self.rules_for(&name).next().is_none() {
            return Ok(Asked::Answered(question.answer(DnsRcode::NXDomain, &[])));
        }
        if !matches!(kind, DnsQueryType::A | DnsQueryType::Aaaa) {
            // There is such a name, with nothing but addresses.
            return Ok(Asked::Answered(question.answer(DnsRcode::NoError, &[])));
        }
        let forwarded = question.forwarded();
        Ok(Asked::Forwarded(question, forwarded))
    }

    /// Notes that a question was sent through an association.
    pub(super) fn asked(&mut self, association: u64, question: Question) {
        let waiting = self.asked.entry(association).or_default();
        if waiting.len() >= limits::QUESTIONS {
            waiting.pop_front();
        }
        waiting.push_back(question);
    }

    /// Forgets what was asked through an association.
    pub(super) fn closed(&mut self, association: u64) {
        self.asked.remove(&association);
    }

    /// Takes what a name server says. Returns the answer for the guest, with those addresses that `may`
    /// be reached, which are known from then on.
    pub(super) fn answered(
        &mut self,
        association: u64,
        message: &[u8],
        may: impl Fn(IpAddr) -> bool,
    ) -> Option<Vec<u8>> {
        let packet = DnsPacket::new_checked(message).ok()?;
        let (rest, asked) = DnsQuestion::parse(packet.payload()).ok()?;
        if !packet.flags().contains(DnsFlags::RESPONSE) || packet.question_count() != 1 {
            return None;
        }
        let waiting = self.asked.get_mut(&association)?;
        let at = waiting.iter().position(|question| {
            question.own_id == packet.transaction_id()
                && question.kind == asked.type_
                && question.lower.eq_ignore_ascii_case(asked.name)
        })?;
        let question = waiting.remove(at)?;
        let mut found = Vec::new();
        let mut rest = rest;
        for _ in 0..packet.answer_record_count().min(RECORDS) {
            let Ok((behind, record)) = DnsRecord::parse(rest) else {
                break;
            };
            rest = behind;
            let ip = match (record.data, question.kind) {
                (DnsRecordData::A(ip), DnsQueryType::A) => IpAddr::V4(ip),
                (DnsRecordData::Aaaa(ip), DnsQueryType::Aaaa) => IpAddr::V6(ip),
                _ => continue,
            };
            if may(ip) && question.fits(found.len() + 1) {
                found.push((ip, record.ttl));
            }
        }
        let name = text(&question.lower)?;
        for (ip, _) in &found {
            self.learn(*ip, &name);
        }
        Some(question.answer(packet.rcode(), &found))
    }

    fn rules_for<'n>(&'n self, name: &'n str) -> impl Iterator<Item = usize> + 'n {
        let rules = self.allowed.iter().enumerate();
        rules
            .filter(move |(_, rule)| rule.is_for_name(name))
            .map(|(number, _)| number)
    }

    fn learn(&mut self, ip: IpAddr, name: &str) {
        let rules: Vec<usize> = self.rules_for(name).collect();
        for rule in rules {
            // The newest are kept for longest.
            self.known.retain(|known| *known != (ip, rule));
            if self.known.len() >= limits::KNOWN_ADDRESSES {
                self.known.pop_front();
            }
            self.known.push_back((ip, rule));
        }
    }

    /// Returns how many addresses are known, and how many questions wait.
    #[cfg(test)]
    pub(super) fn load(&self) -> (usize, usize) {
        (
            self.known.len(),
            self.asked.values().map(VecDeque::len).sum(),
        )
    }
}

impl Question {
    /// The question as a name server gets it.
    fn forwarded(&self) -> Vec<u8> {
        let repr = DnsRepr {
            transaction_id: self.own_id,
            opcode: DnsOpcode::Query,
            flags: DnsFlags::RECURSION_DESIRED,
            question: DnsQuestion {
                name: &self.lower,
                type_: self.kind,
            },
        };
        let mut bytes = vec![0; repr.buffer_len()];
        repr.emit(&mut DnsPacket::new_unchecked(&mut bytes[..]));
        bytes
    }

    /// Bytes of a record with an address.
    fn record(&self) -> usize {
        let address = if self.kind == DnsQueryType::Aaaa {
            16
        } else {
            4
        };
        QUESTION_NAME.len() + 10 + address
    }

    /// Whether an answer with so many addresses needs no second one over TCP.
    fn fits(&self, addresses: usize) -> bool {
        HEADER + self.wire.len() + 4 + addresses * self.record() <= MESSAGE
    }

    /// An answer for the guest.
    fn answer(&self, code: DnsRcode, addresses: &[(IpAddr, u32)]) -> Vec<u8> {
        let flags =
            DnsFlags::RESPONSE | DnsFlags::RECURSION_DESIRED | DnsFlags::RECURSION_AVAILABLE;
        let mut bytes = self.id.to_be_bytes().to_vec();
        bytes.extend((flags.bits() | u16::from(u8::from(code) & 0xf)).to_be_bytes());
        bytes.extend(1_u16.to_be_bytes());
        bytes.extend((addresses.len() as u16).to_be_bytes());
        bytes.extend([0; 4]);
        bytes.extend(&self.wire);
        let kind = u16::from(self.kind).to_be_bytes();
        bytes.extend(kind);
        bytes.extend(INTERNET.to_be_bytes());
        for (ip, ttl) in addresses {
            bytes.extend(QUESTION_NAME);
            bytes.extend(kind);
            bytes.extend(INTERNET.to_be_bytes());
            bytes.extend(ttl.to_be_bytes());
            match ip {
                IpAddr::V4(ip) => {
                    bytes.extend(4_u16.to_be_bytes());
                    bytes.extend(ip.octets());
                }
                IpAddr::V6(ip) => {
                    bytes.extend(16_u16.to_be_bytes());
                    bytes.extend(ip.octets());
                }
            }
        }
        bytes
    }
}

/// The number, the name and the type that a message asks for, if that is all it does.
fn read_question(message: &[u8]) -> Option<(u16, Vec<u8>, DnsQueryType)> {
    let packet = DnsPacket::new_checked(message).ok()?;
    if packet.flags().contains(DnsFlags::RESPONSE)
        || packet.opcode() != DnsOpcode::Query
        || packet.question_count() != 1
    {
        return None;
    }
    let (_, question) = DnsQuestion::parse(packet.payload()).ok()?;
    Some((
        packet.transaction_id(),
        question.name.to_vec(),
        question.type_,
    ))
}

/// A name in words and in lower case, without a dot at its end. `None` if it has other characters than
/// names of hosts, or is not whole.
fn text(wire: &[u8]) -> Option<String> {
    let mut name = String::new();
    let mut rest = wire;
    // Length of a name (RFC 1035, section 2.3.4).
    if wire.len() > 255 {
        return None;
    }
    loop {
        let (len, behind) = rest.split_first()?;
        let len = usize::from(*len);
        if len == 0 {
            return behind.is_empty().then_some(name);
        }
        // Larger ones are pointers, of which a question has none.
        if len > 63 {
            return None;
        }
        let label = behind.get(..len)?;
        let good = |b: &u8| b.is_ascii_alphanumeric() || *b == b'-' || *b == b'_';
        if !label.iter().all(good) {
            return None;
        }
        if !name.is_empty() {
            name.push('.');
        }
        name.extend(label.iter().map(|b| char::from(b.to_ascii_lowercase())));
        rest = behind.get(len..)?;
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A name as it is in messages.
    pub(crate) fn wire(name: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        for label in name.split('.').filter(|label| !label.is_empty()) {
            bytes.push(label.len() as u8);
            bytes.extend(label.as_bytes());
        }
        bytes.push(0);
        bytes
    }

    /// A question as programs ask it.
    pub(crate) fn query(id: u16, name: &str, kind: u16) -> Vec<u8> {
        let mut bytes = id.to_be_bytes().to_vec();
        bytes.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
        bytes.extend(wire(name));
        bytes.extend(kind.to_be_bytes());
        bytes.extend(INTERNET.to_be_bytes());
        bytes
    }

    /// An answer of a name server to `query`, with an alias before the addresses.
    pub(crate) fn response(query: &[u8], addresses: &[IpAddr]) -> Vec<u8> {
        let mut bytes = query.to_vec();
        bytes[2..4].copy_from_slice(&[0x81, 0x80]);
        bytes[6..8].copy_from_slice(&(addresses.len() as u16 + 1).to_be_bytes());
        let mut record = |kind: u16, data: &[u8]| {
            bytes.extend(QUESTION_NAME);
            bytes.extend(kind.to_be_bytes());
            bytes.extend(INTERNET.to_be_bytes());
            bytes.extend(300_u32.to_be_bytes());
            bytes.extend((data.len() as u16).to_be_bytes());
            bytes.extend(data);
        };
        record(5, &wire("cdn.example"));
        for ip in addresses {
            match ip {
                IpAddr::V4(ip) => record(1, &ip.octets()),
                IpAddr::V6(ip) => record(28, &ip.octets()),
            }
        }
        bytes
    }

    fn names(rules: &[&str]) -> Names {
        Names::new(rules.iter().map(|rule| rule.parse().unwrap()).collect())
    }

    fn code(answer: &[u8]) -> u8 {
        answer[3] & 0xf
    }

    #[test]
    fn other_names_are_not_asked_for() {
        let names = names(&["packages.example", "*.example.org:443", "192.0.2.1"]);
        for name in [
            "example.com",
            "example",
            "secret.packages.example",
            "example.org",
            "192.0.2.1",
            "",
        ] {
            match names.ask(&query(7, name, 1)).unwrap() {
                Asked::Answered(answer) => {
                    assert_eq!(code(&answer), 3, "{name}");
                    assert_eq!(answer[..2], [0, 7]);
                }
                other => panic!("{name}: {other:?}"),
            }
        }
        // Nothing but the name leaves the host: no case, no further sections, not the guest's number.
        let mut question = query(7, "PackAges.Example", 1);
        question[11] = 1;
        question.extend(b"smuggled");
        let Asked::Forwarded(_, sent) = names.ask(&question).unwrap() else {
            panic!("not asked");
        };
        assert_eq!(sent[2..], query(7, "packages.example", 1)[2..]);
        // Other types are not asked for: they carry text.
        for kind in [12, 16, 33, 65, 255] {
            let Asked::Answered(answer) = names.ask(&query(7, "packages.example", kind)).unwrap()
            else {
                panic!("type {kind} was asked");
            };
            assert_eq!((code(&answer), answer[7]), (0, 0));
        }
    }

    #[test]
    fn addresses_are_known_once_a_name_server_gave_them() {
        let mut names = names(&["a.example:80", "a.example:443", "b.example"]);
        let ip = IpAddr::from([198, 51, 100, 7]);
        let to = |port| SocketAddr::new(ip, port);
        assert!(!names.allows(to(80)));
        let Asked::Forwarded(question, sent) = names.ask(&query(9, "A.example", 1)).unwrap() else {
            panic!("not asked");
        };
        names.asked(1, question);
        let answer = response(&sent, &[ip, IpAddr::from([10, 0, 0, 1])]);
        // Of another association, with another number, for another name: not believed.
        assert!(names.answered(2, &answer, |_| true).is_none());
        let mut forged = answer.clone();
        forged[0] ^= 1;
        assert!(names.answered(1, &forged, |_| true).is_none());
        let other = response(
            &query(u16::from_be_bytes([sent[0], sent[1]]), "b.example", 1),
            &[ip],
        );
        assert!(names.answered(1, &other, |_| true).is_none());
        assert!(!names.allows(to(80)));
        let given = names
            .answered(1, &answer, |ip| ip != IpAddr::from([10, 0, 0, 1]))
            .unwrap();
        assert_eq!((given[..2].to_vec(), given[7]), (vec![0, 9], 1));
        assert_eq!(given[12..12 + 11], *b"\x01A\x07example\x00");
        assert!(names.allows(to(80)) && names.allows(to(443)) && !names.allows(to(22)));
        assert!(!names.allows(SocketAddr::from(([10, 0, 0, 1], 80))));
        // An answer counts once.
        assert!(names.answered(1, &answer, |_| true).is_none());
        assert_eq!(names.load(), (2, 0));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut names = names(&["*.example"]);
        for number in 0..2000_u32 {
            let name = format!("n{number}.example");
            let Asked::Forwarded(question, sent) = names.ask(&query(1, &name, 28)).unwrap() else {
                panic!("not asked");
            };
            names.asked(1, question.clone());
            if number % 2 == 0 {
                let ip = IpAddr::V6(std::net::Ipv6Addr::from_bits(u128::from(number)));
                names.answered(1, &response(&sent, &[ip; 40]), |_| true);
            }
        }
        assert_eq!(
            names.load(),
            (limits::KNOWN_ADDRESSES.min(1000), limits::QUESTIONS)
        );
        names.closed(1);
        assert_eq!(names.load().1, 0);
    }

    proptest! {
        /// Neither the guest nor a name server can make it fail, or say more than a message may have.
        #[test]
        fn garbage(message in prop::collection::vec(any::<u8>(), 0..600), sane in any::<bool>()) {
            let mut names = names(&["*.example"]);
            let Ok(Asked::Forwarded(question, mut sent)) = names.ask(&query(1, "a.example", 1)) else {
                return Err(TestCaseError::fail("not asked"));
            };
            names.asked(1, question);
            if sane {
                sent[2] |= 0x80;
                sent[6..8].fill(0xff);
                sent.extend(&message);
            } else {
                sent = message.clone();
            }
            if let Some(answer) = names.answered(1, &sent, |_| true) {
                prop_assert!(answer.len() <= MESSAGE);
            }
            let _ = names.ask(&message);
        }
    }
}
