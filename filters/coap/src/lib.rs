//! prototype
use bridge::*;
#[derive(Debug)]
#[allow(missing_docs)]
pub struct Session {
    flow: Option<StreamId>,
    idle: bool,
}
impl Session {
    #[allow(missing_docs)]
    pub fn new(link: &mut Link) -> Self {
        link.set_deadline(Some(link.now() + std::time::Duration::from_millis(200)));
        Self { flow: None, idle: true }
    }
}
impl Protocol for Session {
    fn handle_native(&mut self, link: &mut Link, input: &mut Input) -> Want {
        self.idle = false;
        let flow = match self.flow {
            Some(f) => f,
            None => {
                let mut r = Request::new(());
                *r.method_mut() = Method::POST;
                *r.uri_mut() = Uri::from_static("http://coap/x");
                let Ok(f) = link.open(r, false) else {
                    input.clear();
                    return Want::More;
                };
                self.flow = Some(f);
                f
            }
        };
        let n = input.len();
        if link.send(flow, input, n) < n { Want::Room } else { Want::More }
    }
    fn handle_native_end(&mut self, link: &mut Link) {
        link.close()
    }
    fn handle_response(&mut self, link: &mut Link, _stream: StreamId, r: Response<()>) {
        if r.headers().get("x-d").is_some() {
            link.reply(Bytes::from_static(b"\x00\x0d\x00\x64\x45\x00\x00aaaa\xb1a"))
        }
    }
    fn handle_body(&mut self, link: &mut Link, _stream: StreamId, body: Bytes) {
        link.reply(body)
    }
    fn handle_ended(&mut self, _link: &mut Link, _stream: StreamId, _how: Ended) {}
    fn handle_timeout(&mut self, link: &mut Link) {
        if self.idle {
            link.close()
        } else {
            self.idle = true;
            link.set_deadline(Some(link.now() + std::time::Duration::from_millis(200)));
        }
    }
    fn handle_close(&mut self, _by: Peer) {}
}
