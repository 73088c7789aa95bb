//! `agent doctor` with things broken on purpose, each found and told apart from what is whole.

use agent::config::{Config, Secret, TokenSource};
use agent::doctor::{Report, Verdict, examine};
use tonic::transport::Identity;

use crate::fixture::{Certificate, Cluster, within};
use crate::kas::Kas;

/// A cluster, a server over TLS, and an agent's configuration for both that is whole.
struct Whole {
    kas: Kas,
    cluster: Cluster,
    config: Config,
}

impl Whole {
    async fn new() -> Self {
        let certificate = Certificate::new("127.0.0.1");
        let identity = Identity::from_pem(&certificate.pem, &certificate.key_pem);
        let kas = Kas::start_with(Some(identity)).await;
        let cluster = Cluster::start().await;
        let ca = cluster.folder.path().join("kas-ca.crt");
        std::fs::write(&ca, &certificate.pem).unwrap();
        let mut config = cluster.config(kas.address);
        config.kas_address = format!("grpcs://{}", kas.address).parse().unwrap();
        config.kas_tls.ca_cert_file = Some(ca);
        config.user_access = Some("system:serviceaccount:ns:people".to_owned());
        Self {
            kas,
            cluster,
            config,
        }
    }

    async fn examined(&self) -> Report {
        within("the doctor", examine(&self.config)).await
    }
}

/// The names of the checks that ended so.
fn with(report: &Report, verdict: Verdict) -> Vec<&'static str> {
    let checks = report.checks().iter();
    checks
        .filter(|check| check.verdict == verdict)
        .map(|check| check.name)
        .collect()
}

/// The one check that failed says this.
#[track_caller]
fn assert_fails(report: &Report, name: &str, seen: &str) {
    assert_eq!(with(report, Verdict::Failed), [name], "{}", report.text());
    let check = report.checks().iter().find(|check| check.name == name);
    let check = check.unwrap();
    assert!(check.seen.contains(seen), "{}", report.text());
    assert!(!check.advice.is_empty(), "{}", report.text());
}

#[tokio::test]
async fn what_is_whole_is_ok() {
    let whole = Whole::new().await;
    let report = whole.examined().await;
    assert!(!report.has_failed(), "{}", report.text());
    assert_eq!(
        with(&report, Verdict::Ok),
        [
            "address",
            "proxy",
            "name",
            "tcp",
            "tls",
            "token",
            "clock",
            "API server",
            "cluster's clock",
            "rights: native",
            "rights: operator",
            "rights: people",
            "storage class",
        ],
        "{}",
        report.text()
    );
    assert!(!report.text().contains("good"), "the token is not shown");
}

#[tokio::test]
async fn trouble_on_the_way_to_the_server_is_told_apart() {
    let mut whole = Whole::new().await;
    let authority = whole.config.kas_tls.ca_cert_file.clone().unwrap();
    let right = std::fs::read(&authority).unwrap();
    std::fs::write(&authority, Certificate::new("127.0.0.1").pem).unwrap();
    let report = whole.examined().await;
    assert_fails(&report, "tls", "an authority that is not known");
    std::fs::write(&authority, right).unwrap();

    whole.config.kas_tls.server_name = Some("other.example.com".to_owned());
    assert_fails(&whole.examined().await, "tls", "is for another name");
    whole.config.kas_tls.server_name = None;

    whole.config.token = TokenSource::Given(Secret::new("bad"));
    assert_fails(&whole.examined().await, "token", "Unauthenticated");
    whole.config.token = TokenSource::File("/does/not/exist".into());
    assert_fails(&whole.examined().await, "token", "/does/not/exist");
    whole.config.token = TokenSource::Given(Secret::new("good"));

    let right = whole.config.kas_address.clone();
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = closed.local_addr().unwrap();
    drop(closed);
    whole.config.kas_address = format!("grpcs://{address}").parse().unwrap();
    assert_fails(&whole.examined().await, "tcp", "refused");
    whole.config.kas_address = "grpcs://does-not-exist.invalid".parse().unwrap();
    assert_fails(&whole.examined().await, "name", "cannot be resolved");
    // Plaintext to a server that speaks TLS.
    whole.config.kas_address = format!("grpc://{}", whole.kas.address).parse().unwrap();
    assert_fails(&whole.examined().await, "token", "use grpcs://");
    whole.config.kas_address = right;
    assert!(!whole.examined().await.has_failed());
}

#[tokio::test]
async fn what_the_cluster_lacks_is_told_apart() {
    let whole = Whole::new().await;
    let offer = |change: fn(&mut crate::api_server::Offer)| {
        let mut offer = whole.cluster.api_server.offer.lock().unwrap();
        *offer = crate::api_server::Offer::default();
        change(&mut offer);
    };
    offer(|it| it.denied = vec!["watch pods", "update leases"]);
    let report = whole.examined().await;
    assert_fails(&report, "rights: native", "watch pods everywhere");
    assert!(
        report
            .text()
            .contains("update leases.coordination.k8s.io in namespace ns")
    );
    offer(|it| it.denied = vec!["impersonate serviceaccounts"]);
    assert_fails(&whole.examined().await, "rights: people", "ns:people");
    offer(|it| it.version = "v1.28.4");
    assert_fails(&whole.examined().await, "API server", "1.33 is the oldest");
    offer(|it| it.storage_class = None);
    let report = whole.examined().await;
    assert_eq!(with(&report, Verdict::Warning), ["storage class"]);
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    whole.cluster.lead_to(gone.local_addr().unwrap());
    drop(gone);
    assert_fails(&whole.examined().await, "API server", "refused");
}

#[tokio::test]
async fn the_command_ends_with_a_code_and_json() {
    let whole = Whole::new().await;
    let folder = whole.cluster.folder.path();
    let run = async |token: &str| {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_agent"));
        command
            .arg("doctor")
            .arg(format!("--kas-address=grpcs://{}", whole.kas.address))
            .arg(format!(
                "--kas-ca-cert-file={}",
                folder.join("kas-ca.crt").display()
            ))
            .arg(format!(
                "--kubeconfig={}",
                folder.join("kubeconfig").display()
            ))
            .arg("--output=json")
            .env_clear()
            .envs([
                ("POD_NAMESPACE", "ns"),
                ("POD_NAME", "a"),
                ("AGENTK_TOKEN", token),
            ])
            .kill_on_drop(true);
        within("the doctor", command.output()).await.unwrap()
    };
    let fine = run("good").await;
    let text = String::from_utf8(fine.stdout).unwrap();
    assert_eq!(fine.status.code(), Some(0), "{text}");
    let report: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(report["failed"], false);
    let bad = run("bad").await;
    assert_eq!(bad.status.code(), Some(1));
    let report: serde_json::Value = serde_json::from_slice(&bad.stdout).unwrap();
    let failed: Vec<_> = report["checks"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|check| check["verdict"] == "fail")
        .map(|check| check["name"].as_str().unwrap())
        .collect();
    assert_eq!(failed, ["token"]);
}
