//! Names to addresses: A, AAAA and SRV records, with how long they hold.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_resolver::config::{ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::RData;
use hickory_resolver::proto::rr::rdata::SRV;
use hickory_resolver::{Resolver, TokioResolver};

use crate::spec::{Endpoint, EndpointUrl, MAX_WEIGHT};

/// A name server has so long to answer, and is asked so often.
const TIMEOUT: Duration = Duration::from_secs(2);
const ATTEMPTS: usize = 2;
/// A name that leads to more than these is not believed.
pub(super) const MAX_ENDPOINTS: usize = 1_000;

/// Asks name servers. It remembers nothing: whoever asks knows when to ask again.
pub(super) struct Names(TokioResolver);

/// What a name leads to.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) endpoints: Vec<Endpoint>,
    /// How long that holds, by its records.
    pub(super) holds: Duration,
}

impl Names {
    /// Of these servers, or those of the system where there are none.
    pub(super) fn new(servers: &[SocketAddr]) -> Result<Self, String> {
        let provider = TokioRuntimeProvider::default();
        let mut builder = if servers.is_empty() {
            Resolver::builder(provider).map_err(|error| error.to_string())?
        } else {
            let servers = servers.iter().map(|server| {
                let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
                    connection.port = server.port();
                    connection
                });
                NameServerConfig::new(server.ip(), true, connections.into())
            });
            Resolver::builder_with_config(ResolverConfig::from_name_servers(servers.collect()), provider)
        };
        let options = builder.options_mut();
        options.timeout = TIMEOUT;
        options.attempts = ATTEMPTS;
        options.cache_size = 0;
        options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        builder.build().map(Self).map_err(|error| error.to_string())
    }

    /// The addresses of a URL's name.
    pub(super) async fn addresses(&self, url: &EndpointUrl) -> Result<Found, String> {
        let (mut addresses, holds) = self.of_host(&url.host).await?;
        addresses.sort();
        addresses.dedup();
        let endpoints: Vec<Endpoint> = addresses.into_iter().map(|address| endpoint(url, address, 1)).collect();
        whole(endpoints, holds)
    }

    /// The targets of a service's SRV records with the highest priority, by weight (RFC 2782).
    pub(super) async fn service(&self, name: &str, is_tls: bool) -> Result<Found, String> {
        let looked_up = self.0.srv_lookup(name).await.map_err(|error| error.to_string())?;
        let records: Vec<(&SRV, u32)> = looked_up
            .answers()
            .iter()
            .filter_map(|record| match &record.data {
                RData::SRV(service) => Some((service, record.ttl)),
                _ => None,
            })
            .collect();
        // The lower number is the higher priority.
        let first = records.iter().map(|(service, _)| service.priority).min();
        let mut holds = Duration::MAX;
        let mut endpoints = Vec::new();
        for (service, ttl) in records.iter().filter(|(service, _)| Some(service.priority) == first) {
            let host = service.target.to_ascii().trim_end_matches('.').to_owned();
            if host.is_empty() {
                return Err(format!("`{name}` says that there is no such service"));
            }
            let (addresses, of_address) = self.of_host(&service.target.to_ascii()).await?;
            let url = EndpointUrl { is_tls, host, port: service.port };
            let weight = u32::from(service.weight).clamp(1, MAX_WEIGHT);
            endpoints.extend(addresses.into_iter().map(|address| endpoint(&url, address, weight)));
            holds = holds.min(of_address).min(Duration::from_secs((*ttl).into()));
        }
        endpoints.sort_by(|one, other| one.url.cmp(&other.url));
        endpoints.dedup_by(|one, other| one.url == other.url);
        whole(endpoints, holds)
    }

    async fn of_host(&self, host: &str) -> Result<(Vec<IpAddr>, Duration), String> {
        let looked_up = self.0.lookup_ip(host).await.map_err(|error| error.to_string())?;
        let ttl = looked_up.as_lookup().answers().iter().map(|record| record.ttl).min();
        Ok((looked_up.iter().collect(), ttl.map_or(Duration::MAX, |ttl| Duration::from_secs(ttl.into()))))
    }
}

fn endpoint(url: &EndpointUrl, address: IpAddr, weight: u32) -> Endpoint {
    let at = EndpointUrl { host: address.to_string(), ..url.clone() };
    Endpoint { weight, name: Some(url.host.clone()), ..Endpoint::at(at) }
}

fn whole(endpoints: Vec<Endpoint>, holds: Duration) -> Result<Found, String> {
    match endpoints.len() {
        0 => Err("it leads to no address".into()),
        1..=MAX_ENDPOINTS => Ok(Found { endpoints, holds }),
        count => Err(format!("it leads to {count} endpoints, which is more than {MAX_ENDPOINTS}")),
    }
}
