//! What clients have sent, from a packet capture.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};

use etherparse::{EtherType, NetSlice, SlicedPacket, TransportSlice};
use pcap_parser::traits::PcapNGPacketBlock as _;
use pcap_parser::{Block, Linktype, PcapBlockOwned, PcapError, create_reader};

/// Octets that one client has sent to a server: the datagrams, or the stream, of one connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Talk {
    pub(crate) from: SocketAddr,
    pub(crate) is_tcp: bool,
    /// Of a stream there is one piece.
    pub(crate) pieces: Vec<Vec<u8>>,
    /// The stream goes on, but something of it is missing in the capture.
    pub(crate) is_cut: bool,
}

/// What a capture holds.
#[derive(Debug, Default)]
pub(crate) struct Captured {
    pub(crate) talks: Vec<Talk>,
    /// Packets that could not be looked into.
    pub(crate) skipped: usize,
}

/// The octets that clients have sent to these ports.
///
/// # Errors
/// Says at which octet the capture is none.
pub(crate) fn read(content: &[u8], ports: &[u16]) -> Result<Captured, String> {
    // All of it fits, so an incomplete block is the end of a file that was cut off.
    let mut reader = create_reader(content.len().max(1 << 16) + 1, content)
        .map_err(|_| "is no pcap or pcapng file".to_owned())?;
    let mut gathered = Gathered::default();
    let mut links: Vec<Linktype> = Vec::new();
    let mut at = 0;
    loop {
        let consumed = match reader.next() {
            Ok((consumed, block)) => {
                match block {
                    PcapBlockOwned::LegacyHeader(header) => links = vec![header.network],
                    PcapBlockOwned::Legacy(block) => {
                        gathered.frame(links.first(), block.data, ports)
                    }
                    // A section has interfaces of its own.
                    PcapBlockOwned::NG(Block::SectionHeader(_)) => links.clear(),
                    PcapBlockOwned::NG(Block::InterfaceDescription(of)) => links.push(of.linktype),
                    PcapBlockOwned::NG(Block::EnhancedPacket(block)) => {
                        let link = usize::try_from(block.if_id).ok().and_then(|id| links.get(id));
                        gathered.frame(link, block.packet_data(), ports);
                    }
                    PcapBlockOwned::NG(Block::SimplePacket(block)) => {
                        gathered.frame(links.first(), block.packet_data(), ports);
                    }
                    PcapBlockOwned::NG(_) => {}
                }
                consumed
            }
            Err(PcapError::Eof) => return Ok(gathered.finish()),
            Err(PcapError::Incomplete(_)) => {
                reader.refill().map_err(|_| format!("cannot be read at octet {at}"))?;
                continue;
            }
            Err(PcapError::UnexpectedEof | PcapError::BufferTooSmall) => {
                return Err(format!("is cut off: the block at octet {at} is not complete"));
            }
            Err(_) => return Err(format!("is no pcap or pcapng file: malformed at octet {at}")),
        };
        reader.consume(consumed);
        at += consumed;
    }
}

#[derive(Default)]
struct Gathered {
    talks: Vec<Gathering>,
    /// The last one between two addresses, over TCP or not.
    last: HashMap<(SocketAddr, SocketAddr, bool), usize>,
    skipped: usize,
}

struct Gathering {
    from: SocketAddr,
    what: Parts,
}

enum Parts {
    Datagrams(Vec<Vec<u8>>),
    Stream { first: u32, segments: BTreeMap<u32, Vec<u8>> },
}

impl Gathered {
    /// One packet as it was on a link.
    fn frame(&mut self, link: Option<&Linktype>, octets: &[u8], ports: &[u16]) {
        let packet = match link {
            Some(&Linktype::ETHERNET) => SlicedPacket::from_ethernet(octets),
            Some(&Linktype::LINUX_SLL) => SlicedPacket::from_linux_sll(octets),
            // LINKTYPE_LINUX_SLL2: the protocol comes first, and the header is 20 octets long.
            Some(&Linktype(276)) => match (octets.first_chunk(), octets.get(20..)) {
                (Some(&protocol), Some(rest)) => {
                    SlicedPacket::from_ether_type(EtherType(u16::from_be_bytes(protocol)), rest)
                }
                _ => return self.skipped += 1,
            },
            // LINKTYPE_NULL and LINKTYPE_LOOP: four octets with the address family.
            Some(&Linktype(0 | 108)) => SlicedPacket::from_ip(octets.get(4..).unwrap_or_default()),
            // LINKTYPE_RAW, by all its numbers, LINKTYPE_IPV4 and LINKTYPE_IPV6.
            Some(&Linktype(12 | 14 | 101 | 228 | 229)) => SlicedPacket::from_ip(octets),
            _ => return self.skipped += 1,
        };
        let Ok(packet) = packet else { return self.skipped += 1 };
        let addresses: Option<(IpAddr, IpAddr)> = match &packet.net {
            Some(NetSlice::Ipv4(ip)) => {
                let header = ip.header();
                Some((header.source_addr().into(), header.destination_addr().into()))
            }
            Some(NetSlice::Ipv6(ip)) => {
                let header = ip.header();
                Some((header.source_addr().into(), header.destination_addr().into()))
            }
            _ => None,
        };
        let Some((source, destination)) = addresses else { return };
        match &packet.transport {
            Some(TransportSlice::Udp(udp)) if ports.contains(&udp.destination_port()) => {
                let from = SocketAddr::new(source, udp.source_port());
                let to = SocketAddr::new(destination, udp.destination_port());
                self.datagram(from, to, udp.payload());
            }
            Some(TransportSlice::Tcp(tcp)) if ports.contains(&tcp.destination_port()) => {
                let from = SocketAddr::new(source, tcp.source_port());
                let to = SocketAddr::new(destination, tcp.destination_port());
                self.segment(from, to, tcp.sequence_number(), tcp.syn(), tcp.payload());
            }
            None if packet.is_ip_payload_fragmented() => self.skipped += 1,
            _ => {}
        }
    }

    fn datagram(&mut self, from: SocketAddr, to: SocketAddr, payload: &[u8]) {
        match self.known(from, to, false) {
            Some(Parts::Datagrams(datagrams)) => datagrams.push(payload.to_vec()),
            _ => self.begin(from, to, Parts::Datagrams(vec![payload.to_vec()])),
        }
    }

    fn segment(
        &mut self,
        from: SocketAddr,
        to: SocketAddr,
        number: u32,
        syn: bool,
        payload: &[u8],
    ) {
        let number = number.wrapping_add(u32::from(syn));
        match self.known(from, to, true) {
            // Another SYN is another connection with the same port.
            Some(Parts::Stream { first, .. }) if !syn || *first == number => {}
            _ => {
                self.begin(from, to, Parts::Stream { first: number, segments: BTreeMap::new() });
            }
        }
        let Some(Parts::Stream { first, segments }) = self.known(from, to, true) else { return };
        let at = number.wrapping_sub(*first);
        // What comes before the first that was captured belongs to what is not known; half of all numbers are before.
        if payload.is_empty() || at > u32::MAX / 2 {
            return;
        }
        let segment = segments.entry(at).or_default();
        if segment.len() < payload.len() {
            *segment = payload.to_vec();
        }
    }

    fn known(&mut self, from: SocketAddr, to: SocketAddr, is_tcp: bool) -> Option<&mut Parts> {
        let index = *self.last.get(&(from, to, is_tcp))?;
        self.talks.get_mut(index).map(|talk| &mut talk.what)
    }

    fn begin(&mut self, from: SocketAddr, to: SocketAddr, what: Parts) {
        let is_tcp = matches!(what, Parts::Stream { .. });
        self.last.insert((from, to, is_tcp), self.talks.len());
        self.talks.push(Gathering { from, what });
    }

    fn finish(self) -> Captured {
        let talks = self.talks.into_iter().filter_map(|talk| {
            let (is_tcp, pieces, is_cut) = match talk.what {
                Parts::Datagrams(datagrams) => (false, datagrams, false),
                Parts::Stream { segments, .. } => {
                    let (stream, is_cut) = in_order(&segments);
                    (true, vec![stream], is_cut)
                }
            };
            let is_empty = pieces.iter().all(Vec::is_empty);
            (!is_empty).then_some(Talk { from: talk.from, is_tcp, pieces, is_cut })
        });
        Captured { talks: talks.collect(), skipped: self.skipped }
    }
}

/// The stream up to the first gap, and whether there is one.
fn in_order(segments: &BTreeMap<u32, Vec<u8>>) -> (Vec<u8>, bool) {
    let mut stream = Vec::new();
    for (at, segment) in segments {
        let Some(known) = stream.len().checked_sub(*at as usize) else { return (stream, true) };
        stream.extend_from_slice(segment.get(known..).unwrap_or_default());
    }
    (stream, false)
}

#[cfg(test)]
mod tests {
    use etherparse::PacketBuilder;

    use super::*;

    /// A classic capture of these frames on a link of this type.
    fn pcap(link: u32, frames: &[Vec<u8>]) -> Vec<u8> {
        let mut file = Vec::new();
        file.extend(0xa1b2_c3d4_u32.to_le_bytes());
        file.extend([2, 0, 4, 0]);
        for number in [0, 0, 65_535, link] {
            file.extend(number.to_le_bytes());
        }
        for frame in frames {
            let len = frame.len() as u32;
            for number in [0, 0, len, len] {
                file.extend(number.to_le_bytes());
            }
            file.extend(frame);
        }
        file
    }

    /// The same as a pcapng file.
    fn pcapng(link: u16, frames: &[Vec<u8>]) -> Vec<u8> {
        let block = |of: u32, body: &[u8]| {
            let len = (12 + body.len()) as u32;
            [&of.to_le_bytes()[..], &len.to_le_bytes(), body, &len.to_le_bytes()].concat()
        };
        let section = [&0x1a2b_3c4d_u32.to_le_bytes()[..], &[1, 0, 0, 0], &[0xff; 8]].concat();
        let interface = [&link.to_le_bytes()[..], &[0; 6]].concat();
        let mut file = [block(0x0a0d_0d0a, &section), block(1, &interface)].concat();
        for frame in frames {
            let len = (frame.len() as u32).to_le_bytes();
            let padding = vec![0; frame.len().next_multiple_of(4) - frame.len()];
            let body = [&[0; 12][..], &len, &len, frame, &padding].concat();
            file.extend(block(6, &body));
        }
        file
    }

    fn udp(from: u16, to: u16, payload: &[u8]) -> Vec<u8> {
        let builder = PacketBuilder::ethernet2([1; 6], [2; 6])
            .ipv4([192, 0, 2, 7], [192, 0, 2, 1], 64)
            .udp(from, to);
        let mut frame = Vec::new();
        builder.write(&mut frame, payload).expect("a frame");
        frame
    }

    fn tcp(number: u32, syn: bool, payload: &[u8]) -> Vec<u8> {
        let builder = PacketBuilder::ipv6([1; 16], [2; 16], 64).tcp(40_000, 1883, number, 1000);
        let builder = if syn { builder.syn() } else { builder.ack(1) };
        let mut packet = Vec::new();
        builder.write(&mut packet, payload).expect("a packet");
        packet
    }

    #[test]
    fn datagrams_to_a_port_are_found_in_both_kinds_of_files() {
        let frames =
            [udp(40_000, 53, b"one"), udp(53, 40_000, b"answer"), udp(40_000, 53, b"three")];
        for file in [pcap(1, &frames), pcapng(1, &frames)] {
            let captured = read(&file, &[53]).expect("a capture");
            let from = "192.0.2.7:40000".parse().expect("an address");
            let pieces = vec![b"one".to_vec(), b"three".to_vec()];
            assert_eq!(captured.talks, [Talk { from, is_tcp: false, pieces, is_cut: false }]);
            assert_eq!(captured.skipped, 0);
        }
    }

    #[test]
    fn a_stream_is_put_in_order() {
        // The numbers wrap around; one segment comes twice, and longer the second time.
        let start = u32::MAX - 2;
        let frames = [
            tcp(start, true, b""),
            tcp(start.wrapping_add(6), false, b"fgh"),
            tcp(start.wrapping_add(1), false, b"ab"),
            tcp(start.wrapping_add(1), false, b"abcde"),
        ];
        let captured = read(&pcap(101, &frames), &[1883]).expect("a capture");
        assert_eq!(captured.talks[0].pieces, [b"abcdefgh"]);
        assert!(!captured.talks[0].is_cut);
        let captured = read(&pcap(101, &frames[..2]), &[1883]).expect("a capture");
        assert!(captured.talks.is_empty());
        let frames = [tcp(5, true, b""), tcp(6, false, b"a"), tcp(9, false, b"d")];
        let captured = read(&pcap(101, &frames), &[1883]).expect("a capture");
        assert_eq!((&captured.talks[0].pieces[0][..], captured.talks[0].is_cut), (&b"a"[..], true));
    }

    #[test]
    fn what_is_no_capture_is_refused() {
        assert!(read(b"", &[53]).is_err());
        assert!(read(b"hello, this is no capture at all", &[53]).is_err());
        let file = pcap(1, &[udp(1, 53, b"whole")]);
        for len in 25..file.len() {
            let cut = read(&file[..len], &[53]);
            let error = cut.expect_err("a capture that is cut off");
            assert!(error.contains("octet 24"), "{len}: {error}");
        }
        // Any octet may be anything.
        for at in 0..file.len() {
            let mut file = file.clone();
            file[at] ^= 0xff;
            let _ = read(&file, &[53]);
        }
    }
}
