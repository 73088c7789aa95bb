//! Command lines, and what is made of them.

use super::*;

fn args(arguments: &[&str]) -> Args {
    let common = [
        "agent",
        "--pod-namespace=ns",
        "--pod-name=agent-0",
        "--token-file=/token",
    ];
    Args::try_parse_from(common.iter().chain(arguments)).unwrap()
}

fn parse(arguments: &[&str]) -> Result<Config, Error> {
    Config::try_from(args(arguments))
}

#[test]
fn the_flags_are_consistent() {
    use clap::CommandFactory as _;
    Args::command().debug_assert();
}

#[test]
fn a_whole_command_line_is_understood() {
    let config = parse(&[
        "--kas-address=grpcs://kas.example.com",
        "--kas-header=X-Proxy: a:b",
        "--kas-tls-server-name=other.example.com",
        "--user-access-service-account=people",
        "--observability-listen-address=:0",
    ])
    .unwrap();
    assert_eq!(
        config.kas_address.to_string(),
        "grpcs://kas.example.com:443"
    );
    assert_eq!(config.kas_headers[0].value, "a:b");
    assert_eq!(config.observability_address.port(), 0);
    assert_eq!(
        config.user_access.as_deref(),
        Some("system:serviceaccount:ns:people")
    );
}

#[test]
fn a_proxy_in_front_of_a_websocket_may_be_given_an_authorization_of_its_own() {
    let config = parse(&[
        "--kas-address=wss://kas.example.com/agents/",
        "--kas-header=Authorization: Basic aHVzaA==",
        "--ca-cert-file=/ca",
        "--max-tunnels=20",
    ])
    .unwrap();
    assert_eq!(config.kas_headers[0].name, "authorization");
    assert_eq!(config.kas_tls.ca_cert_file, Some("/ca".into()));
    assert_eq!(config.max_tunnels, 20);
}

#[test]
fn what_workspaces_may_have_is_said_at_the_start() {
    let address = "--kas-address=grpc://kas";
    let Workspaces { policy, role } = parse(&[
        address,
        "--service-account-name=agent",
        "--workspaces-policy=baseline",
        "--workspaces-kinds=Deployment,Service",
        "--workspaces-isolating-runtime-classes=",
        "--workspaces-cluster-role=role",
    ])
    .unwrap()
    .workspaces;
    assert_eq!(policy.level, agent_core::guard::Level::Baseline);
    assert_eq!(policy.kinds.map(|kinds| kinds.len()), Some(2));
    assert!(policy.isolating_runtime_classes.is_empty());
    let role = role.unwrap();
    assert_eq!(
        (
            &*role.cluster_role,
            &*role.service_account,
            &*role.namespace
        ),
        ("role", "agent", "ns")
    );
    assert_eq!(parse(&[address]).unwrap().workspaces, Workspaces::default());
    for (flag, expected) in [
        ("--workspaces-kinds=Node", "it knows ResourceQuota"),
        ("--workspaces-cluster-role=role", "SERVICE_ACCOUNT_NAME"),
        ("--workspaces-shared-namespace=ns", "agent's own namespace"),
    ] {
        let error = parse(&[address, flag]).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn secrets_are_not_in_the_debug_form() {
    let mut config = parse(&["--kas-address=grpc://kas", "--kas-header=X-Key: hush"]).unwrap();
    config.token = TokenSource::Given(Secret::new("hush"));
    let text = format!("{config:?}");
    assert!(text.contains("x-key") && !text.contains("hush"), "{text}");
}

#[test]
fn wrong_arguments_name_the_flag_and_what_would_be_right() {
    let cases = [
        (
            vec!["--kas-address=grpc://kas", "--kas-header=novalue"],
            "\"Name: value\"",
        ),
        (
            vec!["--kas-address=grpc://kas", "--kas-header=Authorization: x"],
            "authorization is set by",
        ),
        (
            vec![
                "--kas-address=ws://kas",
                "--kas-header=Sec-WebSocket-Protocol: x",
            ],
            "sec-websocket-protocol is set by",
        ),
        (
            vec![
                "--kas-address=grpc://kas",
                "--observability-listen-address=here",
            ],
            ":8080",
        ),
        (
            vec![
                "--kas-address=grpc://kas",
                "--observability-listen-network=unix",
            ],
            "expected tcp",
        ),
        (
            vec!["--kas-address=grpc://kas", "--kas-tls-server-name=x"],
            "use grpcs://",
        ),
    ];
    for (arguments, expected) in cases {
        let error = parse(&arguments).unwrap_err().to_string();
        assert!(error.contains(expected), "{arguments:?}: {error}");
    }
}
