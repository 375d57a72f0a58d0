//! A rate-limit service for Envoy's `ratelimit` filter: Limitador's limits and counters behind Envoy's gRPC API
//! (`envoy.service.ratelimit.v3`), as in Limitador's own server, whose file of limits this one reads, if it is JSON.

use std::collections::HashMap;

use anyhow::{Context, Result};
use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_response::Code;
use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_service_server::{
    RateLimitService, RateLimitServiceServer,
};
use envoy_types::pb::envoy::service::ratelimit::v3::{RateLimitRequest, RateLimitResponse};
use limitador::RateLimiter;
use limitador::limit::{Context as Values, Limit};
use tokio::net::TcpListener;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

use crate::Service;

/// How many users, clients and so on are counted at once; the least recently seen is forgotten first.
const MAX_COUNTERS: u64 = 100_000;

/// The service.
pub struct Limiter(RateLimiter);

impl Limiter {
    /// Reads a list of limits in JSON.
    ///
    /// `conditions` and `variables` are CEL expressions; `descriptors[0]` is what Envoy's first matching action says.
    pub fn read(text: &str) -> Result<Self> {
        let limits: Vec<Limit> = serde_json::from_str(text).context("the limits")?;
        let limiter = RateLimiter::new(MAX_COUNTERS);
        for limit in limits {
            limiter.add_limit(limit);
        }
        Ok(Self(limiter))
    }
}

impl Service for Limiter {
    async fn serve(self, listener: TcpListener) -> Result<()> {
        let service = RateLimitServiceServer::new(self);
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        Ok(Server::builder().add_service(service).serve_with_incoming(incoming).await?)
    }
}

#[tonic::async_trait]
impl RateLimitService for Limiter {
    async fn should_rate_limit(
        &self,
        request: Request<RateLimitRequest>,
    ) -> Result<Response<RateLimitResponse>, Status> {
        let request = request.into_inner();
        let descriptors = request.descriptors.into_iter().map(|descriptor| {
            descriptor.entries.into_iter().map(|entry| (entry.key, entry.value)).collect()
        });
        let descriptors: Vec<HashMap<String, String>> = descriptors.collect();
        let mut values = Values::default();
        values.list_binding("descriptors".to_owned(), descriptors);
        // Zero stands for one.
        let hits = u64::from(request.hits_addend.max(1));
        let checked = self
            .0
            .check_rate_limited_and_update(&request.domain.into(), &values, hits)
            .map_err(|error| Status::internal(error.to_string()))?;
        let code = if checked.limited { Code::OverLimit } else { Code::Ok };
        let response = RateLimitResponse { overall_code: code.into(), ..Default::default() };
        Ok(Response::new(response))
    }
}
