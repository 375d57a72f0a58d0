//! Real Envoy, real clients, real servers: tests, load, benches and the demo.
