//! Modbus as HTTP: the header contract, and what a status means to a client.

use bridge::{Request, StatusCode};
use codec_modbus::{Exception, Frame};

use crate::config::{Carry, Settings};

/// The header section for a request, or for the stream of its unit.
///
/// | header | in | value |
/// |---|---|---|
/// | `:method`, `:authority` | all | `POST`, as configured |
/// | `:path` | `flow` | `/<unit>` |
/// | | `check`, `request` | `/<unit>/<function>`: its name, or its number where it has none |
/// | `x-protocol`, `x-carry` | all | `modbus`; `flow`, `check` or `request` |
/// | `x-modbus-first`, `x-modbus-last` | `check`, `request` | the addresses it is about, where it has any |
///
/// All of it is numbers, and words of our own: a client cannot forge a header.
pub(crate) fn request(
    settings: &Settings,
    carry: Carry,
    frame: &Frame<'_>,
) -> Result<Request<()>, Exception> {
    let Frame { unit, function, .. } = frame;
    let path = match carry {
        Carry::Flow => format!("/{unit}"),
        Carry::Check | Carry::Request => format!("/{unit}/{function}"),
    };
    let mut request = Request::post(format!("http://{}{path}", settings.authority))
        .header("x-protocol", "modbus")
        .header("x-carry", carry.label());
    if carry != Carry::Flow
        && let Some(span) = frame.span()
    {
        request = request.header("x-modbus-first", span.first).header("x-modbus-last", span.last);
    }
    // It cannot fail: the authority was checked, and the rest is ours.
    request.body(()).map_err(|_| Exception::SERVER_DEVICE_FAILURE)
}

/// What a client is told of a status other than 2xx, or of no answer.
pub(crate) fn exception(status: Option<StatusCode>) -> Exception {
    match status.map(|status| status.as_u16()) {
        Some(400) => Exception::ILLEGAL_DATA_VALUE,
        Some(401 | 403) => Exception::ILLEGAL_FUNCTION,
        Some(404) => Exception::GATEWAY_PATH_UNAVAILABLE,
        Some(429) => Exception::SERVER_DEVICE_BUSY,
        _ => Exception::GATEWAY_TARGET_FAILED,
    }
}
