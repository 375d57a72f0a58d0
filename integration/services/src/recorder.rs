//! An HTTP service that takes everything, answers 204 or what it was told to, and remembers what came.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use tokio::net::TcpListener;

use crate::Service;

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// The method.
    pub method: Method,
    /// The path, still percent-encoded.
    pub path: String,
    /// The query, still percent-encoded; empty if there is none.
    pub query: String,
    /// The headers.
    pub headers: HeaderMap,
    /// The content.
    pub content: Vec<u8>,
}

impl Recorded {
    /// A header's value; empty if there is none, or if it is not text.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

/// What a request is answered with, and after which time.
#[derive(Debug, Clone, Default)]
pub struct Answer {
    /// How long the answer takes.
    pub after: Duration,
    /// The status.
    pub status: StatusCode,
    /// The content.
    pub content: Vec<u8>,
}

/// The service; a clone shares what is remembered.
#[derive(Debug, Clone, Default)]
pub struct Recorder {
    requests: Arc<Mutex<Vec<Recorded>>>,
    print: bool,
    answer: Option<fn(&Recorded) -> Answer>,
}

impl Recorder {
    /// One that prints each request.
    #[must_use]
    pub fn printing() -> Self {
        Self { print: true, ..Self::default() }
    }

    /// One that answers as told. What it remembers came before it was answered.
    #[must_use]
    pub fn answering(answer: fn(&Recorded) -> Answer) -> Self {
        Self { answer: Some(answer), ..Self::default() }
    }

    /// What came so far.
    #[must_use]
    pub fn requests(&self) -> Vec<Recorded> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Service for Recorder {
    async fn serve(self, listener: TcpListener) -> Result<()> {
        let router = Router::new().fallback(record).with_state(self);
        Ok(axum::serve(listener, router).await?)
    }
}

async fn record(
    State(recorder): State<Recorder>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    content: Bytes,
) -> (StatusCode, Vec<u8>) {
    let recorded = Recorded {
        method,
        path: uri.path().to_owned(),
        query: uri.query().unwrap_or_default().to_owned(),
        headers,
        content: content.to_vec(),
    };
    let no_content = Answer { status: StatusCode::NO_CONTENT, ..Answer::default() };
    let answer = recorder.answer.map_or(no_content, |answer| answer(&recorded));
    if recorder.print {
        println!("{recorded:?}");
    } else {
        recorder.requests.lock().unwrap_or_else(PoisonError::into_inner).push(recorded);
    }
    tokio::time::sleep(answer.after).await;
    (answer.status, answer.content)
}
