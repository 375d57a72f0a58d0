//! Kubernetes manifests for Istio and Envoy Gateway: read, and applied to the configuration of a
//! proxy as istiod and Envoy Gateway apply them.
//!
//! Only what our manifests use is supported; all else is an error, as is a patch that matches nothing: a control plane
//! would pass over it in silence.

pub mod envoy_filter;
pub mod envoy_patch_policy;
pub mod manifest;
mod merge;
pub mod proxy;
pub mod wasm_plugin;
