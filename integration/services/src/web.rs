//! An HTTP service with what a CoAP client may ask for across a bridge (RFC 8075). It remembers every request.
//!
//! | path | what it does |
//! |---|---|
//! | `/kept/<name>` | PUT keeps the content and its type, GET gives them back, DELETE forgets them; with `etag` and `cache-control: max-age=30`, and by `if-match` and `if-none-match` (RFC 9110 §13) |
//! | `/same` | answers with the content and the type that came |
//! | `/status/<code>?<name>=<value>` | answers with that status and those headers; no content |
//! | `/slow/<milliseconds>` | answers `slow`, then |
//! | `/events/<count>/<milliseconds>` | `text/event-stream` of so many events, one each: `0` at once |
//! | all others | answers with the request as JSON: `method`, `path`, `query`, `headers` (each a list), `content` as text |

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Result;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, Path, Request, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderName, HeaderValue, IF_MATCH, IF_NONE_MATCH,
};
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use axum::{Json, Router};
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::net::TcpListener;

use crate::Service;
use crate::recorder::Recorded;

/// The largest content of a request, in bytes.
const MAX_CONTENT: usize = 16 << 20;

/// Content and its type.
type Kept = (Bytes, HeaderValue);

/// The service; a clone shares what is remembered and kept.
#[derive(Debug, Clone, Default)]
pub struct Web {
    requests: Arc<Mutex<Vec<Recorded>>>,
    kept: Arc<Mutex<HashMap<String, Kept>>>,
}

impl Web {
    /// What came so far, before it was answered.
    #[must_use]
    pub fn requests(&self) -> Vec<Recorded> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn kept(&self) -> MutexGuard<'_, HashMap<String, Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Service for Web {
    async fn serve(self, listener: TcpListener) -> Result<()> {
        let router = Router::new()
            .route("/kept/{name}", any(kept))
            .route("/same", any(same))
            .route("/status/{code}", any(status))
            .route("/slow/{milliseconds}", any(slow))
            .route("/events/{count}/{milliseconds}", any(events))
            .fallback(echo)
            .layer(from_fn_with_state(self.clone(), record))
            .layer(DefaultBodyLimit::max(MAX_CONTENT))
            .with_state(self);
        Ok(axum::serve(listener, router).await?)
    }
}

async fn record(State(web): State<Web>, request: Request, next: Next) -> Response {
    let (head, content) = request.into_parts();
    let Ok(content) = axum::body::to_bytes(content, MAX_CONTENT).await else {
        return StatusCode::PAYLOAD_TOO_LARGE.into_response();
    };
    web.requests.lock().unwrap_or_else(PoisonError::into_inner).push(Recorded {
        method: head.method.clone(),
        path: head.uri.path().to_owned(),
        query: head.uri.query().unwrap_or_default().to_owned(),
        headers: head.headers.clone(),
        content: content.to_vec(),
    });
    next.run(Request::from_parts(head, Body::from(content))).await
}

async fn echo(method: Method, uri: Uri, headers: HeaderMap, content: Bytes) -> Json<Value> {
    let mut shown: HashMap<&str, Vec<String>> = HashMap::new();
    for (name, value) in &headers {
        let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
        shown.entry(name.as_str()).or_default().push(value);
    }
    Json(json!({
        "method": method.as_str(),
        "path": uri.path(),
        "query": uri.query().unwrap_or_default(),
        "headers": shown,
        "content": String::from_utf8_lossy(&content),
    }))
}

async fn kept(
    State(web): State<Web>,
    Path(name): Path<String>,
    method: Method,
    headers: HeaderMap,
    content: Bytes,
) -> Response {
    let mut all = web.kept();
    let current = all.get(&name).map(|(content, _)| etag(content));
    // An entity tag has no comma here: `etag` makes it of hexadecimal digits.
    let names = |header: &HeaderName| -> Option<bool> {
        let list = headers.get(header)?.to_str().unwrap_or_default();
        let mut tags = list.split(',').map(str::trim);
        Some(tags.any(|tag| match &current {
            Some(current) => tag == "*" || tag == current,
            None => false,
        }))
    };
    if names(&IF_MATCH) == Some(false) {
        return StatusCode::PRECONDITION_FAILED.into_response();
    }
    if names(&IF_NONE_MATCH) == Some(true) {
        let is_read = matches!(method, Method::GET | Method::HEAD);
        return match current {
            Some(etag) if is_read => {
                (StatusCode::NOT_MODIFIED, [(ETAG, etag.as_str()), MAX_AGE]).into_response()
            }
            _ => StatusCode::PRECONDITION_FAILED.into_response(),
        };
    }
    match method {
        Method::PUT => {
            let etag = etag(&content);
            let octets = HeaderValue::from_static("application/octet-stream");
            let media_type = headers.get(CONTENT_TYPE).cloned().unwrap_or(octets);
            let before = all.insert(name, (content, media_type));
            let status =
                if before.is_some() { StatusCode::NO_CONTENT } else { StatusCode::CREATED };
            (status, [(ETAG, etag)]).into_response()
        }
        Method::DELETE => match all.remove(&name) {
            Some(_) => StatusCode::NO_CONTENT.into_response(),
            None => StatusCode::NOT_FOUND.into_response(),
        },
        Method::GET | Method::HEAD => match all.get(&name) {
            Some((content, media_type)) => {
                let own = [(ETAG, etag(content)), (MAX_AGE.0, MAX_AGE.1.to_owned())];
                (own, [(CONTENT_TYPE, media_type.clone())], content.clone()).into_response()
            }
            None => StatusCode::NOT_FOUND.into_response(),
        },
        _ => StatusCode::METHOD_NOT_ALLOWED.into_response(),
    }
}

const MAX_AGE: (HeaderName, &str) = (CACHE_CONTROL, "max-age=30");

/// Eight digits, which as bytes are the longest that CoAP's ETag may have (RFC 7252 §5.10.6).
fn etag(content: &[u8]) -> String {
    let hash = Sha256::digest(content);
    let digits: String = hash.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    format!("\"{digits}\"")
}

async fn same(headers: HeaderMap, content: Bytes) -> Response {
    let mut response = content.into_response();
    response.headers_mut().remove(CONTENT_TYPE);
    if let Some(media_type) = headers.get(CONTENT_TYPE) {
        response.headers_mut().insert(CONTENT_TYPE, media_type.clone());
    }
    response
}

async fn status(Path(code): Path<u16>, uri: Uri) -> Response {
    let Ok(status) = StatusCode::from_u16(code) else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    let mut response = status.into_response();
    let arguments = uri.query().unwrap_or_default().split('&');
    for (name, value) in arguments.filter_map(|argument| argument.split_once('=')) {
        let value: Vec<u8> = percent_decode_str(value).collect();
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_bytes(&value))
        {
            response.headers_mut().append(name, value);
        }
    }
    response
}

async fn slow(Path(milliseconds): Path<u64>) -> &'static str {
    tokio::time::sleep(Duration::from_millis(milliseconds)).await;
    "slow"
}

async fn events(Path((count, milliseconds)): Path<(u64, u64)>) -> Response {
    let events = futures_util::stream::unfold(0, move |number| async move {
        if number >= count {
            return None;
        }
        if number > 0 {
            tokio::time::sleep(Duration::from_millis(milliseconds)).await;
        }
        Some((Ok::<_, std::convert::Infallible>(format!("data: {number}\n\n")), number + 1))
    });
    ([(CONTENT_TYPE, "text/event-stream")], Body::from_stream(events)).into_response()
}
