//! Block-wise transfers (RFC 7959) of requests and responses that are HTTP's.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail by panicking"
)]

use std::time::Duration;

use crate::support::message::{Msg, con, get, post};
use crate::support::{ANNA, Bench, Worker, rules, seconds};
use codec_coap::{Code, OptionNumber};

const BLOCK1: OptionNumber = OptionNumber::BLOCK1;
const BLOCK2: OptionNumber = OptionNumber::BLOCK2;

/// Octets of which no two blocks are the same.
fn body(len: usize) -> Vec<u8> {
    (0..len).map(|n| (n / 16 * 31 + n) as u8).collect()
}

/// Sends a body in blocks, and returns the answer to the last one; the others are 2.31.
fn upload(bench: &mut Bench, body: &[u8], szx: u8, mut id: u16) -> Vec<Msg> {
    let size = 16 << szx;
    let last = body.len().div_ceil(size) - 1;
    for (num, block) in body.chunks(size).enumerate() {
        let more = num < last;
        let num = u32::try_from(num).unwrap();
        id = id.wrapping_add(1);
        bench.client(&post(id, "r/up", block).block1(num, more, szx));
        if more {
            let got = bench.got_one();
            assert_eq!((got.code, got.id()), (Code::CONTINUE, id));
            assert_eq!(got.block(BLOCK1), Some((num, true, szx)));
        }
    }
    bench.got()
}

/// Fetches the blocks after the first one.
fn download(bench: &mut Bench, first: &Msg, mut id: u16) -> Vec<u8> {
    let (_, mut more, szx) = first.block(BLOCK2).expect("a block");
    let tag = first.opaque(OptionNumber::ETAG).expect("what tells one body from another");
    let mut body = first.payload.clone();
    while more {
        let num = u32::try_from(body.len() >> (4 + szx)).unwrap();
        id = id.wrapping_add(1);
        bench.client(&get(id, "r/down").block2(num, false, szx));
        let got = bench.got_one();
        assert_eq!((got.code, got.id()), (Code::CONTENT, id), "{got}");
        assert_eq!(got.opaque(OptionNumber::ETAG).as_ref(), Some(&tag));
        let (now, is_more, same) = got.block(BLOCK2).expect("a block");
        assert_eq!((now, same), (num, szx));
        more = is_more;
        body.extend(&got.payload);
    }
    body
}

// Requests (Block1).

#[test]
fn blocks_in_their_order_are_one_http_request() {
    for (len, szx) in [(1, 6), (16, 0), (17, 0), (5000, 4), (2048, 6), (3000, 6)] {
        let mut bench = Bench::new(&rules(""));
        let body = body(len);
        assert!(upload(&mut bench, &body, szx, 0).is_empty());
        let stream = bench.asked_one();
        assert_eq!(bench.streams[stream].body, body);
        assert_eq!(bench.streams[stream].header("content-length"), Some(&*len.to_string()));
        bench.answer(stream, 200, &[], b"");
        let got = bench.got_one();
        let last = u32::try_from(len.div_ceil(16 << szx) - 1).unwrap();
        assert_eq!((got.code, got.block(BLOCK1)), (Code::CHANGED, Some((last, false, szx))));
        assert_eq!(bench.streams.len(), 1);
    }
}

#[test]
fn a_body_up_to_the_limit_is_taken_and_none_above_it() {
    let mut bench = Bench::new(&rules(r#""max_body_size": 1000"#));
    upload(&mut bench, &body(1000), 4, 0);
    assert_eq!(bench.streams[0].body, body(1000));
    bench.answer(0, 200, &[], b"");
    bench.got_one();
    for num in 0..3 {
        bench.client(&post(100 + num, "r/up", [1; 256]).block1(num.into(), true, 4));
        assert_eq!(bench.got_one().code, Code::CONTINUE);
    }
    bench.client(&post(103, "r/up", [1; 256]).block1(3, true, 4));
    let got = bench.got_one();
    assert_eq!(got.code, Code::REQUEST_ENTITY_TOO_LARGE);
    assert_eq!(got.uint(OptionNumber::SIZE1), Some(1000));
    assert_eq!(got.block(BLOCK1), Some((3, true, 4)));
    assert_eq!(bench.streams.len(), 1);
}

#[test]
fn a_block_out_of_order_is_not_taken() {
    let mut bench = Bench::new(&rules(""));
    bench.client(&post(1, "r/up", [1; 16]).block1(1, true, 0));
    assert_eq!(bench.got_one().code, Code::REQUEST_ENTITY_INCOMPLETE);
    bench.client(&post(2, "r/up", [1; 16]).block1(0, true, 0));
    assert_eq!(bench.got_one().code, Code::CONTINUE);
    bench.client(&post(3, "r/up", [1; 16]).block1(2, false, 0));
    assert_eq!(bench.got_one().code, Code::REQUEST_ENTITY_INCOMPLETE);
    assert!(bench.streams.is_empty());
    // It can be begun again.
    upload(&mut bench, &body(40), 0, 10);
    assert_eq!(bench.streams[0].body, body(40));
}

#[test]
fn a_first_block_begins_again() {
    let mut bench = Bench::new(&rules(""));
    for id in 1..3 {
        bench.client(&post(id, "r/up", [9; 16]).block1(0, true, 0));
        assert_eq!(bench.got_one().code, Code::CONTINUE);
    }
    bench.client(&post(3, "r/up", "end").block1(1, false, 0));
    assert_eq!(bench.streams[0].body, [&[9; 16][..], b"end"].concat());
}

#[test]
fn a_retransmitted_block_counts_once() {
    let mut bench = Bench::new(&rules(""));
    let blocks = [
        post(1, "r/up", [1; 16]).block1(0, true, 0),
        post(2, "r/up", [2; 16]).block1(1, true, 0),
        post(3, "r/up", "end").block1(2, false, 0),
    ];
    for block in &blocks {
        bench.client(block);
        let first = bench.got_octets();
        bench.client(block);
        assert_eq!(bench.got_octets(), first);
    }
    assert_eq!(bench.streams.len(), 1);
    assert_eq!(bench.streams[0].body, [&[1; 16][..], &[2; 16], b"end"].concat());
}

#[test]
fn a_block_that_is_not_as_long_as_it_says_is_refused() {
    let mut bench = Bench::new(&rules(""));
    for (id, len, more) in [(1, 15, true), (2, 17, true), (3, 17, false), (4, 0, true)] {
        bench.client(&post(id, "r/up", vec![1; len]).block1(0, more, 0));
        assert_eq!(bench.got_one().code, Code::BAD_REQUEST);
    }
    assert!(bench.streams.is_empty());
}

#[test]
fn transfers_of_several_resources_do_not_mix() {
    let mut bench = Bench::new(&rules(""));
    let block =
        |id, path: &str, payload: &[u8], num, more| post(id, path, payload).block1(num, more, 0);
    bench.client(&block(1, "r/a", &[1; 16], 0, true));
    bench.client(&block(2, "r/b", &[2; 16], 0, true));
    // Nor do those that Request-Tag tells apart (RFC 9175 §3.3).
    let tag = OptionNumber::REQUEST_TAG;
    bench.client(&block(3, "r/a", &[3; 16], 0, true).opt(tag, &b"t"[..]));
    bench.client(&block(4, "r/b", b"B", 1, false));
    bench.client(&block(5, "r/a", b"A", 1, false));
    bench.client(&block(6, "r/a", b"T", 1, false).opt(tag, &b"t"[..]));
    let bodies: Vec<_> = bench.streams.iter().map(|stream| &*stream.body).collect();
    let expected =
        [(2, b'B'), (1, b'A'), (3, b'T')].map(|(n, end)| [&[n; 16][..], &[end]].concat());
    assert_eq!(bodies, expected);
}

#[test]
fn the_oldest_of_too_many_transfers_is_forgotten() {
    let mut bench = Bench::new(&rules(r#""max_transfers": 2"#));
    for (id, path) in [(1, "r/a"), (2, "r/b"), (3, "r/c")] {
        bench.pass(Duration::from_millis(1));
        bench.client(&post(id, path, [1; 16]).block1(0, true, 0));
        assert_eq!(bench.got_one().code, Code::CONTINUE);
    }
    for (id, path, code) in
        [(4, "r/a", Some(Code::REQUEST_ENTITY_INCOMPLETE)), (5, "r/b", None), (6, "r/c", None)]
    {
        bench.client(&post(id, path, "x").block1(1, false, 0));
        assert_eq!(bench.got().first().map(|got| got.code), code);
    }
    assert_eq!(bench.streams.len(), 2);
}

#[test]
fn a_transfer_that_does_not_go_on_is_forgotten() {
    let mut bench = Bench::new(&rules(r#""transfer_timeout": "10s""#));
    bench.client(&post(1, "r/up", [1; 16]).block1(0, true, 0));
    bench.pass(seconds(9));
    bench.client(&post(2, "r/up", [2; 16]).block1(1, true, 0));
    bench.pass(seconds(9));
    assert_eq!(bench.got().len(), 2);
    assert!(!bench.is_closed());
    bench.pass(seconds(4));
    let labels = [("direction", "from_client"), ("outcome", "timeout")];
    assert_eq!(bench.counter("coap_block_transfers_total", &labels), 1);
    assert!(bench.is_closed());
}

#[test]
fn a_worker_keeps_only_so_many_octets_of_bodies() {
    let worker = Worker::new(&rules(r#""max_transfer_memory": 40"#));
    let mut anna = worker.session(ANNA, Duration::ZERO);
    let mut bob = worker.session("192.0.2.2:1", Duration::ZERO);
    anna.client(&post(1, "r/up", [1; 32]).block1(0, true, 1));
    assert_eq!(anna.got_one().code, Code::CONTINUE);
    bob.client(&post(1, "r/up", [1; 16]).block1(0, true, 0));
    assert_eq!(bob.got_one().code, Code::SERVICE_UNAVAILABLE);
    // It comes back when the transfer is done.
    anna.client(&post(2, "r/up", "x").block1(1, false, 1));
    bob.client(&post(2, "r/up", [1; 16]).block1(0, true, 0));
    assert_eq!(bob.got_one().code, Code::CONTINUE);
    bob.client(&get(3, "r/down"));
    bob.answer_one(200, &[], &body(2000));
    assert_eq!(bob.got_one().code, Code::SERVICE_UNAVAILABLE);
}

// Responses (Block2).

#[test]
fn a_response_that_fits_is_no_block() {
    let mut bench = Bench::new(&rules(""));
    bench.client(&get(1, "r/down"));
    bench.answer_one(200, &[], &body(1024));
    let got = bench.got_one();
    assert_eq!((got.block(BLOCK2), got.payload), (None, body(1024)));
}

#[test]
fn a_response_that_does_not_fit_comes_in_blocks() {
    for (more, len, szx) in [
        ("", 1025, 6),
        ("", 10_000, 6),
        (r#""block_size": 64"#, 65, 2),
        (r#""block_size": 16"#, 1000, 0),
    ] {
        let mut bench = Bench::new(&rules(more));
        bench.client(&get(1, "r/down"));
        bench.answer_one(200, &[("content-type", "application/cbor")], &body(len));
        let first = bench.got_one();
        assert_eq!(first.block(BLOCK2), Some((0, true, szx)));
        assert_eq!(first.uint(OptionNumber::SIZE2), u32::try_from(len).ok());
        assert_eq!(first.uint(OptionNumber::CONTENT_FORMAT), Some(60));
        assert_eq!(download(&mut bench, &first, 1), body(len));
        assert_eq!(bench.streams.len(), 1);
    }
}

#[test]
fn the_entity_tag_of_a_response_is_that_of_its_blocks() {
    let mut bench = Bench::new(&rules(""));
    bench.client(&get(1, "r/down"));
    bench.answer_one(200, &[("etag", "\"0badcafe\"")], &body(3000));
    let first = bench.got_one();
    assert_eq!(first.opaque(OptionNumber::ETAG).unwrap(), b"\x0b\xad\xca\xfe");
    assert_eq!(download(&mut bench, &first, 1), body(3000));
}

#[test]
fn different_bodies_have_different_entity_tags() {
    let mut bench = Bench::new(&rules(""));
    let tags: Vec<_> = (1..3)
        .map(|id| {
            bench.client(&get(id, "r/down"));
            bench.answer_one(200, &[], &[vec![id as u8], body(3000)].concat());
            bench.got_one().opaque(OptionNumber::ETAG).expect("an entity tag")
        })
        .collect();
    assert_ne!(tags[0], tags[1]);
}

#[test]
fn the_client_chooses_smaller_blocks() {
    let mut bench = Bench::new(&rules(""));
    // From the beginning.
    bench.client(&get(1, "r/down").block2(0, false, 2));
    bench.answer_one(200, &[], &body(1000));
    let first = bench.got_one();
    assert_eq!(first.block(BLOCK2), Some((0, true, 2)));
    assert_eq!(download(&mut bench, &first, 1), body(1000));
    // Or on the way (RFC 7959 §2.4): block 2 of 512 octets is where block 1 of 1024 began.
    bench.client(&get(100, "r/down"));
    bench.answer_one(200, &[], &body(2000));
    bench.got_one();
    bench.client(&get(101, "r/down").block2(2, false, 5));
    let got = bench.got_one();
    assert_eq!(got.block(BLOCK2), Some((2, true, 5)));
    assert_eq!(got.payload, &body(2000)[1024..1536]);
    // Also for what is smaller than one.
    bench.client(&get(102, "r/small").block2(0, false, 4));
    bench.answer_one(200, &[], b"small");
    let got = bench.got_one();
    assert_eq!((got.block(BLOCK2), got.text()), (Some((0, false, 4)), "small"));
}

#[test]
fn the_last_block_can_be_asked_for_again_by_retransmission() {
    let mut bench = Bench::new(&rules(""));
    bench.client(&get(1, "r/down"));
    bench.answer_one(200, &[], &body(1500));
    bench.got_one();
    let last = get(2, "r/down").block2(1, false, 6);
    bench.client(&last);
    let first = bench.got_octets();
    bench.client(&last);
    assert_eq!(bench.got_octets(), first);
    assert_eq!(bench.streams.len(), 1);
}

#[test]
fn a_block_behind_the_end_is_refused() {
    let mut bench = Bench::new(&rules(""));
    bench.client(&get(1, "r/down"));
    bench.answer_one(200, &[], &body(1500));
    bench.got_one();
    bench.client(&get(2, "r/down").block2(2, false, 6));
    let got = bench.got_one();
    assert_eq!(got.code.class(), 4, "{got}");
    assert_eq!(bench.streams.len(), 1);
}

#[test]
fn a_late_block_of_a_read_is_fetched_anew_and_of_a_write_is_gone() {
    let mut bench = Bench::new(&rules(r#""transfer_timeout": "10s""#));
    bench.client(&get(1, "r/down"));
    bench.client(&post(2, "r/act", "x"));
    // The session goes on for another reason.
    bench.client(&get(9, "r/slow"));
    for (stream, len) in [(0, 3000), (1, 3000)] {
        bench.answer(stream, 200, &[], &body(len));
    }
    bench.got();
    bench.pass(seconds(13));
    bench.got();
    bench.client(&get(3, "r/down").block2(1, false, 6));
    assert_eq!(bench.asked(), ["request GET /r/slow", "request GET /r/down"]);
    bench.answer(3, 200, &[], &body(3000));
    let got = bench.got_one();
    assert_eq!((got.block(BLOCK2), &*got.payload), (Some((1, true, 6)), &body(3000)[1024..2048]));
    bench.client(&con(Code::POST, 4).path("r/act").block2(1, false, 6));
    assert_eq!(bench.got_one().code, Code::REQUEST_ENTITY_INCOMPLETE);
    assert_eq!(bench.streams.len(), 4);
}

#[test]
fn a_response_to_blocks_may_come_in_blocks() {
    let mut bench = Bench::new(&rules(""));
    assert!(upload(&mut bench, &body(3000), 6, 0).is_empty());
    bench.answer_one(200, &[], &body(2500));
    let first = bench.got_one();
    assert_eq!(first.block(BLOCK1), Some((2, false, 6)));
    assert_eq!(first.block(BLOCK2), Some((0, true, 6)));
    let mut whole = first.payload;
    for (id, num) in [(100, 1), (101, 2)] {
        bench.client(&con(Code::POST, id).path("r/up").block2(num, false, 6));
        let got = bench.got_one();
        assert_eq!((got.code, got.block(BLOCK1)), (Code::CHANGED, None));
        whole.extend(got.payload);
    }
    assert_eq!(whole, body(2500));
    assert_eq!(bench.streams.len(), 1);
}

#[test]
fn a_megabyte_goes_and_comes_over_udp() {
    let mut bench = Bench::new(&rules(""));
    let mega = body(1 << 20);
    assert!(upload(&mut bench, &mega, 6, 0).is_empty());
    assert!(bench.streams[0].body == mega);
    bench.answer(0, 200, &[], b"");
    bench.got_one();
    bench.client(&get(2000, "r/down"));
    bench.answer_one(200, &[], &mega);
    let first = bench.got_one();
    assert!(download(&mut bench, &first, 2000) == mega);
    assert_eq!(bench.streams.len(), 2);
    for direction in ["from_client", "to_client"] {
        let labels = [("direction", direction), ("outcome", "complete")];
        assert_eq!(bench.counter("coap_block_transfers_total", &labels), 1);
    }
}

// In a flow they are the server's.

#[test]
fn a_transfer_in_a_flow_keeps_the_session() {
    let mut bench = Bench::new(&rules(r#""transfer_timeout": "10s", "idle_timeout": "1s""#));
    let request = get(1, "a").block2(0, false, 6);
    bench.client(&request);
    bench.server(0, &request.reply(Code::CONTENT).block2(0, true, 6).payload([1; 1024]));
    bench.pass(seconds(9));
    assert!(!bench.is_closed());
    let request = get(2, "a").block2(1, false, 6);
    bench.client(&request);
    bench.server(0, &request.reply(Code::CONTENT).block2(1, false, 6).payload("end"));
    let took = bench.closes_within(seconds(3));
    assert!(took >= seconds(1));
}

#[test]
fn a_body_is_not_kept_longer_because_the_session_is() {
    let mut bench = Bench::new(&rules(r#""transfer_timeout": "10s", "idle_timeout": "100s""#));
    bench.client(&get(1, "r/down"));
    bench.answer_one(200, &[], &[1; 3000]);
    bench.pass(seconds(21));
    bench.client(&get(3, "r/down").block2(1, false, 6));
    assert_eq!(bench.asked(), ["request GET /r/down"]);
}
