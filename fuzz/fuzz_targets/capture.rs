//! Captures given to `beyond-http explain --pcap -`: frames of clients that are about right, in files that are too, and files
//! that are none.
#![no_main]

use entry_points_fuzz::Choices;
use libfuzzer_sys::fuzz_target;

const LINKS: [u32; 10] = [1, 101, 113, 276, 0, 108, 12, 228, 229, 147];

/// An IPv4 packet with a UDP datagram or a TCP segment, none of whose checksums is looked at.
fn packet(choices: &mut Choices<'_>) -> Vec<u8> {
    let is_tcp = choices.below(2) == 0;
    let payload = choices.octets(80);
    let port: u16 = choices.one_of(&[1883, 5683, 53, 7]);
    let mut transport = [40_000_u16.to_be_bytes(), port.to_be_bytes()].concat();
    if is_tcp {
        transport.extend((choices.below(64) as u32).wrapping_sub(8).to_be_bytes());
        transport.extend([0, 0, 0, 0, choices.one_of(&[0x50, 0x60, 0xf0, 0x10])]);
        transport.extend([choices.one_of(&[0x10, 0x02, 0x12, 0x11]), 0xff, 0xff, 0, 0, 0, 0]);
    } else {
        let len = payload.len() as u16 + 8;
        transport.extend(choices.one_of(&[len, len + 1, 3, 0]).to_be_bytes());
        transport.extend([0, 0]);
    }
    transport.extend(payload);
    let len = (20 + transport.len() as u16).to_be_bytes();
    let protocol = if is_tcp { 6 } else { 17 };
    let fragment = choices.one_of(&[0, 0, 0, 0x20]);
    let mut packet = vec![0x45, 0, len[0], len[1], 0, 1, fragment, 0, 64, protocol, 0, 0];
    packet.extend([192, 0, 2, 7, 192, 0, 2, 1]);
    packet.extend(transport);
    packet
}

fn file(choices: &mut Choices<'_>) -> Vec<u8> {
    let link = choices.one_of(&LINKS);
    let is_ng = choices.below(2) == 0;
    let mut file = if is_ng {
        let mut file =
            vec![0x0a, 0x0d, 0x0d, 0x0a, 28, 0, 0, 0, 0x4d, 0x3c, 0x2b, 0x1a, 1, 0, 0, 0];
        file.extend([0xff; 8]);
        file.extend([28, 0, 0, 0, 1, 0, 0, 0, 20, 0, 0, 0]);
        file.extend([link.to_le_bytes(), [0; 4], 20_u32.to_le_bytes()].concat());
        file
    } else {
        let mut file = vec![0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0];
        file.extend(link.to_le_bytes());
        file
    };
    while !choices.is_empty() {
        let mut frame = match link {
            1 => [&[2; 12][..], &[8, 0]].concat(),
            113 => [&[0; 14][..], &[8, 0]].concat(),
            276 => [&[8, 0][..], &[0; 18]].concat(),
            0 | 108 => vec![2, 0, 0, 0],
            _ => vec![],
        };
        frame.extend(packet(choices));
        if choices.once_in(4) {
            let at = choices.below(256) % (frame.len() + 1);
            frame.splice(at..at, choices.octets(8).iter().copied());
        }
        let len = (frame.len() as u32).to_le_bytes();
        if is_ng {
            frame.resize(frame.len().next_multiple_of(4), 0);
            let total = (frame.len() as u32 + 32).to_le_bytes();
            file.extend([[6, 0, 0, 0], total, [0; 4], [0; 4], [0; 4], len, len].concat());
            file.extend(frame);
            file.extend(total);
        } else {
            file.extend([[0; 4], [0; 4], len, len].concat());
            file.extend(frame);
        }
        if choices.once_in(8) {
            let at = choices.below(256) % (file.len() + 1);
            file.splice(at..at, choices.octets(8).iter().copied());
        }
    }
    file
}

fuzz_target!(|octets: &[u8]| {
    let mut choices = Choices::new(octets);
    let protocol = choices.one_of(&["mqtt", "coap", "dns"]);
    let file = if choices.once_in(4) { choices.rest().to_vec() } else { file(&mut choices) };
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let code = beyond_http::run(
        ["beyond-http", "explain", protocol, "--pcap", "-"],
        &mut beyond_http::Io {
            input: &mut &*file,
            out: &mut out,
            err: &mut err,
            asks: false,
            colour: false,
        },
    );
    assert!(code == 0 || !err.is_empty(), "refused without a reason");
    let text = String::from_utf8(out).expect("text");
    // What a client sent cannot speak to the terminal.
    assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "{text:?}");
});
