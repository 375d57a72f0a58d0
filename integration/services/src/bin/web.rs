//! An HTTP service to put behind a bridge; see `services::web` for what it has.

use anyhow::{Context, Result};
use services::web::Web;

fn main() -> Result<()> {
    let address = std::env::args().nth(1).context("usage: web <address:port>")?;
    services::run(Web::default(), address.parse()?)
}
