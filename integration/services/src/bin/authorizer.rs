//! The authorization service of `envoy-configs/recipes/ext-authz.yaml`.

use anyhow::Result;
use services::acl::Acl;
use services::authorizer::Authorizer;

fn main() -> Result<()> {
    let (address, list) = services::address_and_file("authorizer <address:port> <file.acl>")?;
    services::run(Authorizer(Acl::read(&list)?), address)
}
