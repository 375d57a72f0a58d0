//! The filter's configuration as Envoy hands it over.

use prost::Message;
use prost_types::value::Kind;
use prost_types::{Struct, Value};
use serde::de::IgnoredAny;

/// The configuration as JSON.
///
/// Envoy passes on the text of a `google.protobuf.StringValue` as it is. A `google.protobuf.Struct`
/// comes as JSON or in its binary form, depending on Envoy's version and on the kind of filter.
pub(crate) fn as_json(configuration: Vec<u8>) -> Vec<u8> {
    if serde_json::from_slice::<IgnoredAny>(&configuration).is_ok() {
        return configuration;
    }
    match Struct::decode(&*configuration) {
        Ok(document) => json_object(document).to_string().into_bytes(),
        Err(_) => configuration,
    }
}

fn json_object(object: Struct) -> serde_json::Value {
    object.fields.into_iter().map(|(key, value)| (key, json(value))).collect()
}

fn json(value: Value) -> serde_json::Value {
    match value.kind {
        None | Some(Kind::NullValue(_)) => serde_json::Value::Null,
        Some(Kind::NumberValue(number)) => number.into(),
        Some(Kind::StringValue(text)) => text.into(),
        Some(Kind::BoolValue(flag)) => flag.into(),
        Some(Kind::StructValue(object)) => json_object(object),
        Some(Kind::ListValue(list)) => list.values.into_iter().map(json).collect(),
    }
}
