//! The way to the server, step by step, and what the server says.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use model::version;
use proto::agent_configuration::rpc::ConfigurationRequest;
use rustls::pki_types::CertificateDer;
use tonic::{Code, Status};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::ASK_TIMEOUT;
use super::report::{Check, Verdict};
use crate::config::{Config, VERSION};
use crate::convert;
use crate::kas::{Connector, Credentials, health::chain};
use crate::kubernetes;

/// A certificate that ends sooner is told of.
const EXPIRES_SOON: SignedDuration = SignedDuration::from_hours(14 * 24);
/// A clock that is wrong by more makes certificates and tokens look older or newer than they are.
const CLOCK_WARNING: SignedDuration = SignedDuration::from_secs(30);
const CLOCK_FAILURE: SignedDuration = SignedDuration::from_secs(300);

pub(super) async fn examine(config: &Config) -> Vec<Check> {
    let mut checks = vec![address(config), proxy(config)];
    let host = match &config.kas_proxy {
        None => config.kas_address.host.clone(),
        Some(proxy) => proxy.uri.host().unwrap_or_default().to_owned(),
    };
    let resolved = name("name", &host).await;
    let is_resolved = resolved.verdict == Verdict::Ok;
    checks.push(resolved);
    let connector = match connector(config).await {
        Ok(connector) => connector,
        Err(check) => {
            checks.push(*check);
            return checks;
        }
    };
    if !is_resolved {
        return checks;
    }
    if transport(&connector, config, &mut checks).await {
        checks.extend(service(&connector, config).await);
    }
    checks
}

fn address(config: &Config) -> Check {
    let address = &config.kas_address;
    let seen = address.to_string();
    let is_local = address.host == "localhost"
        || address
            .host
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback());
    if address.tls || is_local {
        return Check::ok("address", seen);
    }
    Check::warning(
        "address",
        format!("{seen} is not encrypted: who is on the way can read the token"),
        "use grpcs:// or wss://, unless the network between is your own",
    )
}

fn proxy(config: &Config) -> Check {
    Check::ok(
        "proxy",
        match &config.kas_proxy {
            None => "none, by HTTPS_PROXY and NO_PROXY".to_owned(),
            Some(proxy) => format!("{proxy:?}, by HTTPS_PROXY"),
        },
    )
}

/// Looks a name up as the agent does.
pub(super) async fn name(check: &'static str, host: &str) -> Check {
    let bare = host.trim_matches(['[', ']']);
    if bare.parse::<IpAddr>().is_ok() {
        return Check::ok(check, format!("{host} is an address"));
    }
    let lookup = tokio::time::timeout(ASK_TIMEOUT, tokio::net::lookup_host((bare, 0))).await;
    let why = match lookup {
        Err(_) => format!("no answer within {ASK_TIMEOUT:?}"),
        Ok(Err(error)) => error.to_string(),
        Ok(Ok(found)) => {
            let mut addresses: Vec<String> = found.map(|it| it.ip().to_string()).collect();
            addresses.sort();
            addresses.dedup();
            if !addresses.is_empty() {
                return Check::ok(check, format!("{host} is {}", addresses.join(", ")));
            }
            "it has no address".to_owned()
        }
    };
    Check::failed(
        check,
        format!("{host} cannot be resolved: {why}"),
        "check the name; inside a cluster also its DNS (kube-system) and network policies that block port 53; hostAliases in \
         the chart's values can name an address",
    )
}

async fn connector(config: &Config) -> Result<Connector, Box<Check>> {
    let token = |error: &(dyn std::error::Error + 'static)| {
        Box::new(Check::failed(
            "token",
            chain(error),
            "the Secret of the token has to have it under the key token: `kas-stub agent token create NAME` makes one",
        ))
    };
    let cluster = kubernetes::cluster_id(&config.cluster).await.ok().flatten();
    let headers = if config.kas_address.is_websocket() {
        &[][..]
    } else {
        &config.kas_headers[..]
    };
    let credentials = Credentials::try_new(config.token.clone(), headers, cluster)
        .map_err(|error| token(&error))?;
    Connector::try_new(config, Arc::new(credentials)).map_err(|error| {
        Box::new(Check::failed(
            "tls",
            chain(&error),
            "config.kasCaCert of the chart has to be the PEM that `kas-stub ca` prints",
        ))
    })
}

/// TCP and TLS; whether there is a connection.
async fn transport(connector: &Connector, config: &Config, checks: &mut Vec<Check>) -> bool {
    let dialer = connector.dialer();
    let reached = timely(dialer.reach()).await;
    let stream = match reached {
        Ok(stream) => stream,
        Err(error) => {
            checks.push(Check::failed(
                "tcp",
                format!("{}: {}", config.kas_address, chain(&error)),
                "check host and port, that the server listens on that address and not on loopback alone, firewalls and \
                 network policies; where only a proxy leads out, set HTTPS_PROXY in extraEnv",
            ));
            return false;
        }
    };
    let peer = stream
        .peer_addr()
        .map_or_else(|_| "connected".to_owned(), |it| it.to_string());
    checks.push(Check::ok("tcp", peer));
    if !config.kas_address.tls {
        return true;
    }
    match timely(dialer.secure(stream)).await {
        Ok(stream) => {
            checks.push(certificate(
                stream.peer_certificate(),
                config,
                Timestamp::now(),
            ));
            true
        }
        Err(error) => {
            checks.push(Check::failed(
                "tls",
                chain(&error),
                "with an authority of the server's own, config.kasCaCert has to be what `kas-stub ca` prints",
            ));
            false
        }
    }
}

async fn timely<T>(future: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let late = || {
        io::Error::new(
            io::ErrorKind::TimedOut,
            format!("no answer within {ASK_TIMEOUT:?}"),
        )
    };
    tokio::time::timeout(ASK_TIMEOUT, future)
        .await
        .unwrap_or_else(|_| Err(late()))
}

fn certificate(shown: Option<&CertificateDer<'_>>, config: &Config, now: Timestamp) -> Check {
    const NAME: &str = "tls";
    if config.kas_tls.insecure_skip_verify {
        return Check::warning(
            NAME,
            "the server's certificate is not checked",
            "take --kas-insecure-skip-tls-verify away; it lets others read the token",
        );
    }
    let ends = shown.and_then(|shown| {
        let (_, certificate) = X509Certificate::from_der(shown).ok()?;
        Timestamp::from_second(certificate.validity().not_after.timestamp()).ok()
    });
    let Some(ends) = ends else {
        return Check::ok(NAME, "the server's certificate is trusted");
    };
    let seen = format!("the server's certificate is trusted, until {ends}");
    if ends.duration_since(now) < EXPIRES_SOON {
        return Check::warning(
            NAME,
            seen,
            "renew it on the server; its files are read again by themselves",
        );
    }
    Check::ok(NAME, seen)
}

/// What the server says to this agent.
async fn service(connector: &Connector, config: &Config) -> Vec<Check> {
    let request = ConfigurationRequest {
        commit_id: String::new(),
        agent_meta: Some(convert::configuration::agent_meta(&config.pod, None)),
        skip_register: true,
    };
    let client = connector.connect();
    let asked = tokio::time::timeout(ASK_TIMEOUT, client.get_configuration(request)).await;
    let asked = asked.unwrap_or_else(|_| {
        Err(Status::deadline_exceeded(format!(
            "no answer within {ASK_TIMEOUT:?}"
        )))
    });
    let opened = match asked {
        Ok(opened) => opened,
        Err(status) => return vec![refused(&status)],
    };
    let mut checks = vec![Check::ok("token", "the server accepts it")];
    checks.extend(opened.server_version.map(|server| {
        version::skew(VERSION, &server).map_or_else(
            || Check::ok("versions", format!("agent {VERSION}, server {server}")),
            |text| Check::warning("versions", text, "they may be one minor version apart"),
        )
    }));
    checks.extend(
        opened
            .date
            .map(|date| clock("clock", "the server's", date, Timestamp::now())),
    );
    checks
}

fn refused(status: &Status) -> Check {
    let advice = match status.code() {
        Code::Unauthenticated | Code::PermissionDenied | Code::NotFound => {
            "it may be revoked, or of another server: make a new one there (`kas-stub agent token create NAME`) and put it \
             into the Secret under the key token; the agent takes it up by itself"
        }
        Code::AlreadyExists => {
            "each cluster needs an agent of its own; if the other cluster is gone: kas-stub agent accept-cluster NAME"
        }
        _ => {
            "what answers at this address may be no agent server, or a proxy whose server is away; look at its log"
        }
    };
    Check::failed("token", chain(status), advice)
}

/// How far this machine's clock and another are apart.
pub(super) fn clock(name: &'static str, whose: &str, other: Timestamp, now: Timestamp) -> Check {
    let apart = now.duration_since(other).abs();
    let seen = format!("{} s beside {whose}", apart.as_secs());
    let advice = "let the nodes and the server's machine keep their time by NTP";
    if apart > CLOCK_FAILURE {
        Check::failed(name, seen, advice)
    } else if apart > CLOCK_WARNING {
        Check::warning(name, seen, advice)
    } else {
        Check::ok(name, seen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_that_are_minutes_apart_are_told_of() {
        let now: Timestamp = "2026-11-25T12:00:00Z".parse().unwrap();
        for (other, verdict) in [
            ("Wed, 25 Nov 2026 12:00:05 GMT", Verdict::Ok),
            ("Wed, 25 Nov 2026 12:01:00 GMT", Verdict::Warning),
            ("Wed, 25 Nov 2026 11:59:00 GMT", Verdict::Warning),
            ("Wed, 25 Nov 2026 11:00:00 GMT", Verdict::Failed),
        ] {
            let other = kubernetes::date(Some(other)).unwrap();
            assert_eq!(clock("clock", "its", other, now).verdict, verdict);
        }
        assert_eq!(kubernetes::date(Some("yesterday")), None);
    }

    #[test]
    fn refusals_are_told_apart() {
        for (code, expected) in [
            (Code::Unauthenticated, "token create"),
            (Code::AlreadyExists, "accept-cluster"),
            (Code::Unavailable, "no agent server"),
        ] {
            let check = refused(&Status::new(code, "because"));
            assert!(check.advice.contains(expected) && check.seen.contains("because"));
        }
    }
}
