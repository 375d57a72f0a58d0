//! Envoy's filter state: what a filter tells the filters after it and the access log.

use prost::Message;
use proxy_wasm::hostcalls;

/// The argument of Envoy's foreign function `set_envoy_filter_state`
/// (`envoy.source.extensions.common.wasm.SetEnvoyFilterStateArguments`).
#[derive(Clone, PartialEq, Message)]
struct Arguments {
    #[prost(string, tag = "1")]
    path: String,
    #[prost(string, tag = "2")]
    value: String,
    #[prost(enumeration = "LifeSpan", tag = "3")]
    span: i32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
enum LifeSpan {
    FilterChain = 0,
    DownstreamRequest = 1,
    DownstreamConnection = 2,
}

/// Sets one filter state object of the connection in whose context this is called.
///
/// An object of Envoy's own (`envoy.…`) is made by Envoy, so that its filters understand it. Any
/// other one is a string that Envoy keeps under `wasm.` and the name.
pub(crate) fn set(name: &str, value: &str) {
    let result = if name.starts_with("envoy.") {
        let arguments = Arguments {
            path: name.to_owned(),
            value: value.to_owned(),
            span: LifeSpan::DownstreamConnection.into(),
        };
        let encoded = arguments.encode_to_vec();
        hostcalls::call_foreign_function("set_envoy_filter_state", Some(&encoded)).map(drop)
    } else {
        hostcalls::set_property(vec![name], Some(value.as_bytes()))
    };
    if let Err(status) = result {
        log::warn!("filter state {name} could not be set: {status:?}");
    }
}
