//! The MQTT filter as a proxy-wasm module.
