//! An HTTP/2 client that keeps to nothing, in front of the HTTP server and a service that echoes.
#![no_main]

use std::collections::BTreeSet;
use std::time::Duration;

use bridge::{Bridge, Bytes, Ended, Link, Peer, Request, Response, StreamId};
use entry_points_fuzz::{Choices, NoTls, PREFACE, any_frame, field, frame, kind};
use http_server::{Clients, HttpServer, Limits, RequestId, Service};
use libfuzzer_sys::fuzz_target;

const LIMITS: Limits = Limits {
    max_requests: 4,
    max_header_list_size: 4096,
    max_content: 200,
    max_held: 300,
    stream_window: 1000,
    connection_window: 3000,
};

#[derive(Default)]
struct Echo {
    seen: BTreeSet<RequestId>,
    gone: BTreeSet<RequestId>,
    waiting: Vec<RequestId>,
    closed: bool,
}

impl Service for Echo {
    fn handle_request(
        &mut self,
        link: &mut Link,
        clients: &mut Clients,
        id: RequestId,
        request: Request<Bytes>,
    ) {
        assert!(self.seen.insert(id), "a request comes once");
        assert!(request.body().len() <= LIMITS.max_content);
        for value in request.headers().values() {
            assert!(!value.as_bytes().iter().any(|octet| matches!(octet, b'\r' | b'\n' | 0)));
        }
        if request.uri().path() == "/later" {
            self.waiting.push(id);
            link.set_deadline(Some(link.now() + Duration::from_secs(1)));
        } else {
            clients.respond_with(id, Response::new(()), request.into_body());
        }
    }

    fn handle_gone(&mut self, _: &mut Link, _: &mut Clients, id: RequestId) {
        assert!(self.seen.contains(&id) && self.gone.insert(id), "it was there, and goes once");
    }

    fn handle_room(&mut self, _: &mut Link, _: &mut Clients) {}
    fn handle_response(&mut self, _: &mut Link, _: &mut Clients, _: StreamId, _: Response<()>) {}
    fn handle_body(&mut self, _: &mut Link, _: &mut Clients, _: StreamId, _: Bytes) {}
    fn handle_ended(&mut self, _: &mut Link, _: &mut Clients, _: StreamId, _: Ended) {}

    fn handle_timeout(&mut self, _: &mut Link, clients: &mut Clients) {
        for id in self.waiting.drain(..) {
            clients.respond_with(id, Response::new(()), Bytes::from(vec![b'x'; 5000]));
        }
    }

    fn handle_close(&mut self, _: Peer) {
        assert!(!std::mem::replace(&mut self.closed, true));
    }
}

fn blocks() -> Vec<Vec<u8>> {
    let request = |path: &[u8], more: &[(&[u8], &[u8])]| {
        let mut block = Vec::new();
        field(&mut block, b":method", b"POST");
        field(&mut block, b":scheme", b"http");
        field(&mut block, b":authority", b"device");
        field(&mut block, b":path", path);
        for (name, value) in more {
            field(&mut block, name, value);
        }
        block
    };
    vec![
        request(b"/echo", &[]),
        request(b"/later", &[]),
        request(b"/echo", &[(b"content-length", b"3")]),
        request(b"/echo", &[(b"content-length", b"99999999999999999999")]),
        request(b"/a b\r\nx: y", &[]),
        request(b"/", &[(b"x-a", b"b\r\nc: d"), (b"connection", b"close")]),
        request(b"/", &[(b"transfer-encoding", b"chunked"), (b"te", b"gzip")]),
        request(b"/", &[(b":path", b"/twice"), (b"Upper", b"case"), (b"", b"no name")]),
        request(b"/", &[(b"x-large", &[b'a'; 5000])]),
        request(b"*", &[(b"cookie", b"a"), (b"cookie", b"b")]),
        vec![0x82, 0x86, 0x84],
        vec![],
    ]
}

fuzz_target!(|octets: &[u8]| {
    let mut choices = Choices::new(octets);
    let blocks = blocks();
    let mut now = Duration::from_secs(10);
    let mut bridge = Bridge::new(bridge::Limits::default(), Box::new(NoTls), now, |_| {
        HttpServer::new(Echo::default(), &LIMITS)
    });
    if !choices.once_in(16) {
        let hello = [PREFACE, &frame(kind::SETTINGS, 0, 0, &[])].concat();
        bridge.handle_native(now, hello.into());
    }
    let mut piece = usize::MAX;
    while !choices.is_empty() {
        match choices.below(16) {
            0..=12 => {
                let octets = any_frame(&mut choices, &blocks);
                for octets in octets.chunks(piece) {
                    bridge.handle_native(now, Bytes::copy_from_slice(octets));
                }
            }
            13 => {
                now += Duration::from_millis(100 << choices.below(8));
                bridge.handle_timeout(now);
            }
            14 => piece = choices.one_of(&[usize::MAX, 1, 7, 30]),
            _ if choices.once_in(4) => bridge.handle_native_end(now),
            _ => bridge.handle_http(now, any_frame(&mut choices, &blocks).into()),
        }
        let _ = (bridge.take_native(), bridge.take_http());
        let service = bridge.protocol().service();
        let open = service.waiting.iter().filter(|id| !service.gone.contains(id)).count();
        assert!(open <= LIMITS.max_requests as usize, "{open} requests at once");
    }
    bridge.handle_close(Peer::Native);
});
