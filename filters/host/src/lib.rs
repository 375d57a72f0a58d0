//! Runs a bridge protocol inside Envoy: the only crate that touches proxy-wasm.
