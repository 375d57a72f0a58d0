//! An HTTP service for `envoy-configs/recipes/mirror.yaml`: it prints what comes.

use anyhow::{Context, Result};
use services::recorder::Recorder;

fn main() -> Result<()> {
    let address = std::env::args().nth(1).context("usage: recorder <address:port>")?;
    services::run(Recorder::printing(), address.parse()?)
}
