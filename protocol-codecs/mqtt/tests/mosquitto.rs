//! Whole connections of real peers: every packet decodes, and encodes to the same bytes.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "the helpers of the tests fail the test"
)]

use codec_mqtt::{
    Decoded, Packet, PacketType, Version, decode, decode_connect, decode_publish_header, frame,
};

/// The connections of `mosquitto.txt`: what the client sent, what the server sent.
fn connections() -> Vec<[Vec<u8>; 2]> {
    let mut lines = include_str!("mosquitto.txt").lines().filter(|line| !line.starts_with('#'));
    let mut connections = Vec::new();
    while let Some(line) = lines.next() {
        let client = hex(line.strip_prefix("client ").unwrap());
        let server = hex(lines.next().unwrap().strip_prefix("server ").unwrap());
        connections.push([client, server]);
    }
    connections
}

fn hex(digits: &str) -> Vec<u8> {
    (0..digits.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap())
        .collect()
}

fn version_of(client: &[u8]) -> Version {
    decode_connect(client).unwrap().complete().unwrap().version
}

#[test]
fn every_packet_decodes_and_encodes_to_the_same_bytes() {
    let mut seen = [0; 16];
    for [client, server] in connections() {
        let version = version_of(&client);
        for mut stream in [&client[..], &server[..]] {
            while !stream.is_empty() {
                let Ok(Decoded::Complete { packet, consumed }) = decode(stream, version) else {
                    panic!("{:?} of {stream:x?}", decode(stream, version));
                };
                let mut out = vec![0; consumed];
                assert_eq!(packet.encode(version, &mut out), Ok(consumed), "{packet:?}");
                assert_eq!(out, stream[..consumed], "{packet:?}");
                seen[usize::from(packet.packet_type().0)] += 1;
                stream = &stream[consumed..];
            }
        }
    }
    for (number, count) in seen.into_iter().enumerate().skip(1) {
        let packet_type = PacketType(number as u8);
        // The broker has no enhanced authentication.
        assert!(count > 0 || packet_type == PacketType::AUTH, "no {packet_type}");
    }
}

/// Splits a stream in two at every place: what is decoded does not depend on it, and `needed` keeps
/// its word.
#[test]
fn any_split_decodes_the_same() {
    for [client, server] in connections() {
        let version = version_of(&client);
        for mut stream in [&client[..], &server[..]] {
            while !stream.is_empty() {
                let whole = decode(stream, version).unwrap();
                let Decoded::Complete { consumed, .. } = whole else { panic!() };
                for cut in 0..consumed {
                    let part = &stream[..cut];
                    let Ok(Decoded::Incomplete { needed }) = decode(part, version) else {
                        panic!("{:?}", decode(part, version))
                    };
                    assert!(cut < needed && needed <= consumed);
                    check_parts(part, consumed, version);
                }
                assert_eq!(decode(&stream[..consumed], version), Ok(whole));
                stream = &stream[consumed..];
            }
        }
    }
}

fn check_parts(part: &[u8], consumed: usize, version: Version) {
    match frame(part, u32::MAX).unwrap() {
        Decoded::Complete { packet, .. } => assert_eq!(packet.len(), consumed),
        Decoded::Incomplete { needed } => assert!(part.len() < needed && needed <= consumed),
    }
    match part.first().map(|first| PacketType(first >> 4)) {
        Some(PacketType::CONNECT) => {
            let Ok(Decoded::Incomplete { needed }) = decode_connect(part) else { panic!() };
            assert!(part.len() < needed && needed <= consumed);
        }
        Some(PacketType::PUBLISH) => match decode_publish_header(part, version).unwrap() {
            Decoded::Complete { packet, consumed: offset } => {
                assert_eq!(offset + packet.payload_len, consumed);
            }
            Decoded::Incomplete { needed } => assert!(part.len() < needed && needed <= consumed),
        },
        _ => {}
    }
}

#[test]
fn what_the_peers_said() {
    let connections = connections();
    let with_will = connections
        .iter()
        .map(|[client, _]| decode_connect(client).unwrap().complete().unwrap())
        .find(|connect| connect.version == Version::V5 && connect.will.is_some())
        .unwrap();
    assert_eq!(with_will.client_id, "sub-5");
    assert_eq!(with_will.keep_alive, 30);
    assert_eq!((with_will.username, with_will.password), (Some("alice"), Some(&b"secret"[..])));
    assert_eq!(with_will.properties.session_expiry_interval(), Some(300));
    assert_eq!(with_will.properties.user_property("team"), Some("red"));
    let will = with_will.will.unwrap();
    assert_eq!((will.topic, will.payload), ("dev/will", &b"bye"[..]));
    assert_eq!(will.properties.correlation_data(), Some(&b"77"[..]));
    assert_eq!(will.properties.response_topic(), Some("dev/reply"));

    let traced = connections.iter().any(|[client, _]| {
        let mut stream = &client[..];
        while let Ok(Decoded::Complete { packet, consumed }) = decode(stream, Version::V5) {
            if let Packet::Publish(publish) = packet
                && publish.properties.user_property("traceparent").is_some()
            {
                assert_eq!(publish.properties.user_property("tenant"), Some("acmé"));
                assert_eq!(publish.properties.message_expiry_interval(), Some(86_400));
                return true;
            }
            stream = &stream[consumed..];
        }
        false
    });
    assert!(traced);
}
