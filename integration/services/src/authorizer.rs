//! An HTTP authorization service for Envoy's `ext_authz`, deciding by an [`Acl`].
//!
//! | request | question |
//! |---|---|
//! | `POST /` | may the user have a session? |
//! | `POST /<topic>` | may the user publish there? |
//! | `GET /<topic filter>` | may the user subscribe to that? |
//!
//! The user and the password are in `authorization: Basic …`. The answer is 200, 401 or 403; its text reaches clients of
//! MQTT 5.0 as Reason String.

use std::sync::Arc;

use anyhow::Result;
use axum::Router;
use axum::extract::State;
use axum::http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use percent_encoding::percent_decode_str;
use tokio::net::TcpListener;

use crate::Service;
use crate::acl::{Acl, Action, Decision};

/// The service.
#[derive(Debug)]
pub struct Authorizer(pub Acl);

impl Service for Authorizer {
    async fn serve(self, listener: TcpListener) -> Result<()> {
        let router = Router::new().fallback(answer).with_state(Arc::new(self.0));
        Ok(axum::serve(listener, router).await?)
    }
}

async fn answer(
    State(acl): State<Arc<Acl>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let unknown = || {
        let challenge = [(WWW_AUTHENTICATE, "Basic realm=\"mqtt\"")];
        (StatusCode::UNAUTHORIZED, challenge, "unknown user or wrong password").into_response()
    };
    let Some((user, password)) = credentials(&headers) else { return unknown() };
    let path = uri.path().strip_prefix('/').unwrap_or_default();
    let Ok(topic) = percent_decode_str(path).decode_utf8() else {
        return (StatusCode::BAD_REQUEST, "not a topic").into_response();
    };
    let action = match method {
        Method::POST if topic.is_empty() => Action::Connect,
        Method::POST => Action::Publish(&topic),
        Method::GET => Action::Subscribe(&topic),
        _ => return StatusCode::METHOD_NOT_ALLOWED.into_response(),
    };
    match acl.decide(&user, &password, action) {
        Decision::Allowed => StatusCode::OK.into_response(),
        Decision::Unknown => unknown(),
        Decision::Denied => (StatusCode::FORBIDDEN, "not in the list").into_response(),
    }
}

/// User and password of `authorization: Basic …` (RFC 7617).
fn credentials(headers: &HeaderMap) -> Option<(String, Vec<u8>)> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, encoded) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let pair = BASE64_STANDARD.decode(encoded).ok()?;
    let colon = pair.iter().position(|&byte| byte == b':')?;
    let (user, password) = pair.split_at_checked(colon)?;
    Some((String::from_utf8(user.to_vec()).ok()?, password.get(1..)?.to_vec()))
}
