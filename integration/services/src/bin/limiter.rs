//! The rate-limit service of `envoy-configs/recipes/global-rate-limit.yaml`.

use anyhow::Result;
use services::limiter::Limiter;

fn main() -> Result<()> {
    let (address, limits) = services::address_and_file("limiter <address:port> <limits.json>")?;
    services::run(Limiter::read(&limits)?, address)
}
