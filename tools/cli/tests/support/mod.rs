//! The tool, run in this process.
#![allow(dead_code, unreachable_pub, missing_docs, reason = "each test uses its own part")]

use std::path::{Path, PathBuf};

/// What a run of the tool has left.
#[derive(Debug)]
pub struct Run {
    pub code: u8,
    pub out: String,
    pub err: String,
}

/// Runs the tool with these arguments, and this on standard input.
pub fn run_with(args: &[&str], input: &str, asks: bool) -> Run {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let args = std::iter::once("beyond-http").chain(args.iter().copied());
    let code = beyond_http::run(
        args,
        &mut beyond_http::Io {
            input: &mut input.as_bytes(),
            out: &mut out,
            err: &mut err,
            asks,
            colour: false,
        },
    );
    let text = |octets| String::from_utf8(octets).expect("text");
    Run { code, out: text(out), err: text(err) }
}

/// Runs the tool, with nobody to ask.
pub fn run(args: &[&str]) -> Run {
    run_with(args, "", false)
}

/// A folder of the test's own, which is gone with it.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("beyond-http-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a folder");
        Self(path)
    }

    /// A file in it.
    pub fn file(&self, name: &str) -> String {
        self.0.join(name).to_str().expect("a path in UTF-8").to_owned()
    }

    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let file = self.file(name);
        std::fs::write(&file, content).expect("a file");
        file
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A file of the repository.
pub fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}
