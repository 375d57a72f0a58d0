//! Protobuf's merge, on messages in their JSON form.

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Map, Value};

const TYPE: &str = "@type";

/// Merges a message into one of the same type: fields replace, messages merge, lists append.
///
/// A scalar that has its type's default value is no field to protobuf, and would change nothing: an error, where it was
/// meant to change something. A message of type Any replaces another. Of a `oneof` both members stay, which Envoy refuses.
pub(crate) fn merge(into: &mut Value, from: &Value) -> Result<()> {
    merge_fields(object_mut(into)?, object(from)?)
}

/// Merges an Any into one of the same type.
pub(crate) fn merge_any(into: &mut Value, from: &Value) -> Result<()> {
    let (existing, more) = (into.get(TYPE), from.get(TYPE));
    ensure!(existing == more, "{more:?} cannot be merged into {existing:?}");
    merge(into, from)
}

fn merge_fields(into: &mut Map<String, Value>, from: &Map<String, Value>) -> Result<()> {
    for (name, value) in from {
        match into.get_mut(name) {
            Some(existing) => merge_field(existing, value).with_context(|| format!("in {name}"))?,
            None => {
                into.insert(name.clone(), value.clone());
            }
        }
    }
    Ok(())
}

fn merge_field(into: &mut Value, from: &Value) -> Result<()> {
    // Lists append even so, and messages can hold lists.
    if into == from && !from.is_array() && !from.is_object() {
        return Ok(());
    }
    match (&mut *into, from) {
        (Value::Object(existing), Value::Object(fields)) if !fields.contains_key(TYPE) => {
            return merge_fields(existing, fields);
        }
        (Value::Array(existing), Value::Array(more)) => existing.extend_from_slice(more),
        (Value::Object(_), Value::Object(_)) => *into = from.clone(),
        (Value::Object(_) | Value::Array(_), _) | (_, Value::Object(_) | Value::Array(_)) => {
            bail!("{from} is of another type than what is there")
        }
        (_, Value::Null | Value::Bool(false)) => bail!("a merge cannot set {from}"),
        (_, Value::Number(number)) if number.as_f64() == Some(0.0) => bail!("a merge cannot set 0"),
        (_, Value::String(text)) if text.is_empty() => bail!("a merge cannot empty a text"),
        _ => *into = from.clone(),
    }
    Ok(())
}

fn object(value: &Value) -> Result<&Map<String, Value>> {
    value.as_object().with_context(|| format!("no message: {value}"))
}

fn object_mut(value: &mut Value) -> Result<&mut Map<String, Value>> {
    value.as_object_mut().context("no message to merge into")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn merged(into: Value, from: Value) -> Result<Value> {
        let mut into = into;
        merge(&mut into, &from)?;
        Ok(into)
    }

    #[test]
    fn fields_replace_messages_merge_and_lists_append() {
        let into = json!({"a": 1, "b": {"c": "x", "d": [1]}, "e": "stays"});
        let from = json!({"a": 2, "b": {"c": "y", "d": [2]}, "f": false});
        let expected = json!({"a": 2, "b": {"c": "y", "d": [1, 2]}, "e": "stays", "f": false});
        assert_eq!(merged(into, from).unwrap(), expected);
    }

    #[test]
    fn a_default_value_cannot_replace_another() {
        for (existing, default) in
            [(json!(true), json!(false)), (json!(1), json!(0)), (json!("x"), json!(""))]
        {
            let result = merged(json!({"a": existing}), json!({"a": default}));
            assert!(result.is_err(), "{result:?}");
            merged(json!({"a": default}), json!({"a": default})).unwrap();
        }
        // A Duration is a message.
        assert_eq!(merged(json!({"a": "5s"}), json!({"a": "0s"})).unwrap(), json!({"a": "0s"}));
    }

    #[test]
    fn messages_and_scalars_do_not_mix() {
        assert!(merged(json!({"a": {"b": 1}}), json!({"a": 1})).is_err());
        assert!(merged(json!({"a": 1}), json!({"a": [1]})).is_err());
    }

    #[test]
    fn an_any_is_replaced_unless_it_is_what_is_merged() {
        let into = json!({"a": {"@type": "x", "b": 1}});
        let from = json!({"a": {"@type": "x", "c": 2}});
        assert_eq!(merged(into.clone(), from.clone()).unwrap(), from);

        let mut any = into["a"].clone();
        merge_any(&mut any, &from["a"]).unwrap();
        assert_eq!(any, json!({"@type": "x", "b": 1, "c": 2}));
        assert!(merge_any(&mut any, &json!({"@type": "y"})).is_err());
        assert!(merge_any(&mut any, &json!({"c": 3})).is_err());
    }
}
