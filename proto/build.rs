//! Generates the gRPC types. protox is a compiler in Rust: no `protoc` has to be installed.

use std::path::Path;

const SERVICES: [&str; 8] = [
    "gitlab/agent_configuration.proto",
    "gitlab/agent_registrar.proto",
    "gitlab/agentcfg.proto",
    "gitlab/gitlab_access.proto",
    "gitlab/kubernetes_api.proto",
    "gitlab/reverse_tunnel.proto",
    "remote_development/access.proto",
    "remote_development/reconcile.proto",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=gitlab");
    println!("cargo::rerun-if-changed=remote_development");
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let descriptors = protox::compile(SERVICES, [root])?;
    tonic_prost_build::configure()
        // The tunnel's method `Connect` would clash with the generated constructor `connect`.
        .build_transport(false)
        // Bodies pass through: `Bytes` shares them instead of copying.
        .bytes(".")
        .compile_fds(descriptors)?;
    Ok(())
}
