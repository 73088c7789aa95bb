//! Generated types of the wire protocol between server and agent, and nothing else.
//!
//! The `.proto` files under `remote_development/` are ours. Those under `gitlab/` are written from the published behaviour of GitLab's agent (each names its
//! counterpart there); field numbers are GitLab's, so that either side can be replaced by GitLab's own.
//! Conversions to types of ours live with each side, in its one `convert` module.

// Generated code is not written to this project's lints.
#![allow(unreachable_pub, missing_debug_implementations, clippy::all)]

/// Packages as in the `.proto` files.
pub mod gitlab {
    /// `gitlab.agent`.
    pub mod agent {
        /// Configuration pushed to the agent.
        pub mod agent_configuration {
            /// The gRPC service.
            pub mod rpc {
                tonic::include_proto!("gitlab.agent.agent_configuration.rpc");
            }
        }
        /// Presence of agent Pods.
        pub mod agent_registrar {
            /// The gRPC service.
            pub mod rpc {
                tonic::include_proto!("gitlab.agent.agent_registrar.rpc");
            }
        }
        /// The agent's configuration.
        pub mod agentcfg {
            tonic::include_proto!("gitlab.agent.agentcfg");
        }
        /// Who an agent Pod is.
        pub mod entity {
            tonic::include_proto!("gitlab.agent.entity");
        }
        /// Calls of modules to GitLab.
        pub mod gitlab_access {
            /// The gRPC service.
            pub mod rpc {
                tonic::include_proto!("gitlab.agent.gitlab_access.rpc");
            }
        }
        /// HTTP over a gRPC stream.
        pub mod grpctool {
            tonic::include_proto!("gitlab.agent.grpctool");
        }
        /// Calls into the cluster.
        pub mod kubernetes_api {
            /// The gRPC service.
            pub mod rpc {
                tonic::include_proto!("gitlab.agent.kubernetes_api.rpc");
            }
        }
        /// HTTP messages as data.
        pub mod prototool {
            tonic::include_proto!("gitlab.agent.prototool");
        }
        /// The reverse tunnel.
        pub mod reverse_tunnel {
            /// What an agent serves.
            pub mod info {
                tonic::include_proto!("gitlab.agent.reverse_tunnel.info");
            }
            /// The gRPC service.
            pub mod rpc {
                tonic::include_proto!("gitlab.agent.reverse_tunnel.rpc");
            }
        }
    }
}

/// Our own service, `remote_development`: workspaces, between our server and our agent.
pub mod remote_development {
    /// The gRPC service.
    pub mod rpc {
        tonic::include_proto!("remote_development.rpc");
    }
}

pub use gitlab::agent::*;

/// The metadata with which our agent names its cluster in every call: the SHA-256 of the CA certificates that it was given
/// for the API server (DER, one after the other), in lowercase hexadecimal. GitLab's agent sends none, its server ignores it.
pub const CLUSTER_METADATA: &str = "remote-development-cluster";

/// The type URL of `gitlab.agent.kubernetes_api.rpc.HeaderExtra` inside `Any`.
pub const KUBERNETES_API_HEADER_EXTRA: &str =
    "type.googleapis.com/gitlab.agent.kubernetes_api.rpc.HeaderExtra";

/// The type URL of `gitlab.agent.gitlab_access.rpc.HeaderExtra` inside `Any`.
pub const GITLAB_ACCESS_HEADER_EXTRA: &str =
    "type.googleapis.com/gitlab.agent.gitlab_access.rpc.HeaderExtra";

/// The metadata with which our server tells its version in its answer to GetConfiguration. GitLab's agent ignores it.
pub const SERVER_VERSION_METADATA: &str = "remote-development-server-version";
