//! The HTTP service, asked by curl.

// Tests may stop at the first surprise; clippy's own exception does not cover their helper functions.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use std::net::TcpListener;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;
use services::Running;
use services::web::Web;

struct Server {
    web: Web,
    port: u16,
    _running: Running,
}

impl Server {
    fn start() -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let web = Web::default();
        Self { web: web.clone(), port, _running: services::start(web, port).unwrap() }
    }

    /// Head and content of the answer.
    fn curl(&self, path: &str, args: &[&str]) -> (String, String) {
        let uri = format!("http://127.0.0.1:{}{path}", self.port);
        let output = Command::new("curl").args(["-sSi", "-m", "20", &uri]).args(args).output();
        let output = output.unwrap();
        assert!(output.status.success(), "{output:?}");
        let answer = String::from_utf8(output.stdout).unwrap();
        // What curl waits for before it sends a large content.
        let answer = answer.strip_prefix("HTTP/1.1 100 Continue\r\n\r\n").unwrap_or(&answer);
        let (head, content) = answer.split_once("\r\n\r\n").unwrap();
        (head.to_owned(), content.to_owned())
    }

    fn status(&self, path: &str, args: &[&str]) -> String {
        self.curl(path, args).0.split(' ').nth(1).unwrap().to_owned()
    }
}

#[test]
fn a_request_comes_back_as_json_and_is_remembered() {
    let server = Server::start();
    let args = ["-X", "PATCH", "-H", "a: 1", "-H", "a: 2", "-d", "content"];
    let (_, content) = server.curl("/a/b%20c?x=1&y", &args);
    let echo: Value = serde_json::from_str(&content).unwrap();
    assert_eq!((&echo["method"], &echo["path"]), (&"PATCH".into(), &"/a/b%20c".into()));
    assert_eq!((&echo["query"], &echo["content"]), (&"x=1&y".into(), &"content".into()));
    assert_eq!(echo["headers"]["a"], serde_json::json!(["1", "2"]));
    let seen = server.web.requests();
    assert_eq!((seen.len(), seen[0].query.as_str()), (1, "x=1&y"));
    assert_eq!(seen[0].content, b"content");
}

#[test]
fn what_was_put_is_kept_under_conditions() {
    let server = Server::start();
    let megabyte = "x".repeat(1 << 20);
    let file = std::env::temp_dir().join(format!("web-{}", std::process::id()));
    std::fs::write(&file, &megabyte).unwrap();
    let upload = format!("@{}", file.display());
    let put = ["-X", "PUT", "--data-binary", &upload, "-H", "content-type: text/plain"];
    assert_eq!(server.status("/kept/a", &[]), "404");
    assert_eq!(server.status("/kept/a", &put), "201");
    assert_eq!(server.status("/kept/a", &put), "204");
    let (head, content) = server.curl("/kept/a", &[]);
    assert!(content == megabyte && head.contains("content-type: text/plain"), "{head}");
    assert!(head.contains("cache-control: max-age=30"), "{head}");
    let etag = head.lines().find_map(|line| line.strip_prefix("etag: ")).unwrap();
    assert_eq!(server.status("/kept/a", &["-H", &format!("if-none-match: {etag}")]), "304");
    assert_eq!(server.status("/kept/a", &["-H", "if-none-match: \"0\""]), "200");
    let only_new = [&put[..], &["-H", "if-none-match: *"]].concat();
    assert_eq!(server.status("/kept/a", &only_new), "412");
    assert_eq!(server.status("/kept/b", &only_new), "201");
    let only_other = [&put[..], &["-H", "if-match: \"0\""]].concat();
    assert_eq!(server.status("/kept/a", &only_other), "412");
    assert_eq!(server.status("/kept/a", &["-X", "DELETE"]), "204");
    assert_eq!(server.status("/kept/a", &["-X", "DELETE"]), "404");
    std::fs::remove_file(file).unwrap();
}

#[test]
fn it_answers_as_the_path_says() {
    let server = Server::start();
    let (head, _) = server.curl("/status/429?retry-after=7&x=a%20b", &[]);
    assert!(head.starts_with("HTTP/1.1 429 "), "{head}");
    assert!(head.contains("retry-after: 7\r\n") && head.contains("x: a b"), "{head}");
    let start = Instant::now();
    assert_eq!(server.curl("/slow/200", &[]).1, "slow");
    assert!(start.elapsed() >= Duration::from_millis(200));
    let (head, content) = server.curl("/events/3/10", &[]);
    assert!(head.contains("content-type: text/event-stream"), "{head}");
    assert_eq!(content, "data: 0\n\ndata: 1\n\ndata: 2\n\n");
    let (head, content) = server.curl("/same", &["-d", "{}", "-H", "content-type: a/b"]);
    assert!(head.contains("content-type: a/b"), "{head}");
    assert_eq!(content, "{}");
}
