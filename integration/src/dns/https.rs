//! curl as a client over HTTPS (RFC 8484): HTTP is its business, and what it sends is the test's.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use codec_dns::HEADER_LEN;

use super::query::{Answer, Query};
use crate::PATIENCE;
use crate::process::{Process, program};

/// A request about to be sent, over HTTP/2 and with the development CA trusted.
#[derive(Debug, Clone)]
pub struct Request {
    port: u16,
    path: String,
    args: Vec<String>,
    content: Option<Vec<u8>>,
}

impl Request {
    /// One for this path and query.
    #[must_use]
    pub fn new(server: SocketAddr, path: &str) -> Self {
        Self { port: server.port(), path: path.to_owned(), args: Vec::new(), content: None }
    }

    /// A GET with this query (RFC 8484 §4.1).
    pub fn get(server: SocketAddr, query: &Query) -> Result<Self> {
        Ok(Self::new(server, &format!("/dns-query?dns={}", base64url(&query.octets()?))))
    }

    /// A POST with this query (RFC 8484 §4.1).
    pub fn post(server: SocketAddr, query: &Query) -> Result<Self> {
        let request = Self::new(server, "/dns-query").content(query.octets()?);
        Ok(request.header("content-type: application/dns-message"))
    }

    /// With this content, so as a POST.
    #[must_use]
    pub fn content(mut self, octets: Vec<u8>) -> Self {
        self.content = Some(octets);
        self
    }

    /// With this header line; one that ends with its colon removes what curl would send.
    #[must_use]
    pub fn header(self, line: &str) -> Self {
        self.args(&["-H", line])
    }

    /// More arguments, as on curl's command line.
    #[must_use]
    pub fn args(mut self, args: &[&str]) -> Self {
        self.args.extend(args.iter().map(|&arg| arg.to_owned()));
        self
    }

    /// Sends it.
    pub fn send(self) -> Result<Response> {
        let responses = send_all(&[self])?;
        responses.into_iter().next().context("one request has one response")
    }

    fn arguments(&self, dir: &Path, number: usize) -> Result<Vec<String>> {
        let file = |kind: &str| dir.join(format!("{number}.{kind}")).to_string_lossy().into_owned();
        let (port, path) = (self.port, &self.path);
        let mut args = vec![
            "--resolve".to_owned(),
            format!("localhost:{port}:127.0.0.1"),
            "--cacert".to_owned(),
            ".build/certs/ca.crt".to_owned(),
            "--http2".to_owned(),
            "--dump-header".to_owned(),
            file("head"),
            "--output".to_owned(),
            file("content"),
        ];
        if let Some(content) = &self.content {
            fs::write(file("sent"), content)?;
            args.extend(["--data-binary".to_owned(), format!("@{}", file("sent"))]);
        }
        args.extend(self.args.iter().cloned());
        args.push(format!("https://localhost:{port}{path}"));
        Ok(args)
    }
}

/// Sends all of these, up to a hundred at once, over one connection if they are for the same server; the responses in
/// their order.
pub fn send_all(requests: &[Request]) -> Result<Vec<Response>> {
    let mut curl = Process::start("curl", &program("curl")?, |dir| {
        let limit = PATIENCE.as_secs().to_string();
        let mut args = ["-q", "--silent", "--show-error", "--max-time", &limit].to_vec();
        // Above a hundred, curl opens connections.
        args.extend(["--parallel", "--parallel-max", "100"]);
        let mut args: Vec<String> = args.into_iter().map(str::to_owned).collect();
        for (number, request) in requests.iter().enumerate() {
            if number > 0 {
                args.push("--next".to_owned());
            }
            args.extend(request.arguments(dir, number)?);
        }
        Ok(args)
    })?;
    let status = curl.wait(PATIENCE)?;
    ensure!(status.success(), "curl: {status}\n{}", curl.stderr());
    let read = |number| Response::read(curl.dir(), number);
    (0..requests.len()).map(read).collect()
}

/// A response as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    head: String,
    /// Its content.
    pub content: Vec<u8>,
}

impl Response {
    fn read(dir: &Path, number: usize) -> Result<Self> {
        let head = fs::read_to_string(dir.join(format!("{number}.head")))?;
        // Without content there is no file.
        let content = fs::read(dir.join(format!("{number}.content"))).unwrap_or_default();
        Ok(Self { head, content })
    }

    /// Its status.
    pub fn status(&self) -> Result<u16> {
        let status = self.head.split(' ').nth(1).context("no status")?;
        Ok(status.parse()?)
    }

    /// A field of its header section, by its name in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(':'));
        let mut values = lines.filter(|(line, _)| *line == name).map(|(_, value)| value.trim());
        values.next()
    }

    /// The text in it.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.content).into_owned()
    }

    /// The message in it; an error if it has none.
    pub fn answer(&self) -> Result<Answer> {
        let status = self.status()?;
        ensure!(status == 200, "{status}: {}", self.text());
        let media_type = self.header("content-type");
        ensure!(media_type == Some("application/dns-message"), "{media_type:?}");
        ensure!(self.content.len() >= HEADER_LEN, "{:?}", self.content);
        Ok(Answer(self.content.clone()))
    }
}

/// base64url without padding (RFC 4648 §5).
#[must_use]
pub fn base64url(octets: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut out = String::new();
    for group in octets.chunks(3) {
        let bits = (0..3).fold(0, |bits, n| bits << 8 | group.get(n).copied().map_or(0, u32::from));
        for n in 0..=group.len() {
            let index = (bits >> (18 - 6 * n)) as usize & 63;
            out.push(ALPHABET.get(index).copied().map_or('A', char::from));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use codec_dns::RecordType;

    use super::super::authority::Authority;
    use super::super::dnsdist::{Dnsdist, Encrypted};
    use super::*;

    #[test]
    fn octets_become_characters_that_a_url_takes() {
        let encoded = ["", "f", "fo", "foo", "foob"].map(|text| base64url(text.as_bytes()));
        assert_eq!(encoded, ["", "Zg", "Zm8", "Zm9v", "Zm9vYg"]);
        assert_eq!(base64url(&[0xfb, 0xff]), "-_8");
    }

    #[test]
    fn it_asks_another_server_over_https() {
        let authority = Authority::with_address([192, 0, 2, 1].into(), 60).unwrap();
        let server = Dnsdist::start(authority.address(), false, Encrypted::Yes).unwrap();
        let query = Query::new("a.example", RecordType::A).unwrap();
        for request in [Request::get, Request::post] {
            let response = request(server.https(), &query).unwrap().send().unwrap();
            let answer = response.answer().unwrap();
            assert!(query.is_answered_by(&answer).unwrap(), "{response:?}");
        }
    }
}
