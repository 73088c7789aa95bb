//! How people sign in with a provider of OpenID Connect.

use std::path::PathBuf;

/// The provider, and who of those that it knows may come in. Without an issuer there is none.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct OidcSettings {
    /// Let people sign in with this provider of OpenID Connect: its issuer, as https://HOST/PATH (http:// on loopback). It is
    /// to send them back to /sign-in/oidc/callback below --external-url.
    #[arg(long = "oidc-issuer", env = "KAS_STUB_OIDC_ISSUER", value_name = "URL")]
    pub issuer: Option<String>,

    /// The name under which the provider knows this server.
    #[arg(
        long = "oidc-client-id",
        env = "KAS_STUB_OIDC_CLIENT_ID",
        value_name = "ID"
    )]
    pub client_id: Option<String>,

    /// A file with the secret that goes with it; without one the server is a public client.
    #[arg(
        long = "oidc-client-secret-file",
        env = "KAS_STUB_OIDC_CLIENT_SECRET_FILE",
        value_name = "FILE"
    )]
    pub client_secret_file: Option<PathBuf>,

    /// The CA certificates (PEM) of the provider, where it has none that the system trusts.
    #[arg(
        long = "oidc-ca-file",
        env = "KAS_STUB_OIDC_CA_FILE",
        value_name = "FILE"
    )]
    pub ca_file: Option<PathBuf>,

    /// What the page calls the provider [default: its host].
    #[arg(long = "oidc-name", env = "KAS_STUB_OIDC_NAME", value_name = "TEXT")]
    pub name: Option<String>,

    /// What is asked of the provider beside openid [default: profile email].
    #[arg(
        long = "oidc-scope",
        env = "KAS_STUB_OIDC_SCOPE",
        value_name = "SCOPE",
        value_delimiter = ','
    )]
    pub scopes: Vec<String>,

    /// The claim that becomes a new user's name, in lowercase [default: preferred_username].
    #[arg(
        long = "oidc-name-claim",
        env = "KAS_STUB_OIDC_NAME_CLAIM",
        value_name = "CLAIM"
    )]
    pub name_claim: Option<String>,

    /// The claim with a user's groups [default: groups].
    #[arg(
        long = "oidc-groups-claim",
        env = "KAS_STUB_OIDC_GROUPS_CLAIM",
        value_name = "CLAIM"
    )]
    pub groups_claim: Option<String>,

    /// Let in only members of these groups (repeatable).
    #[arg(
        long = "oidc-allowed-group",
        env = "KAS_STUB_OIDC_ALLOWED_GROUP",
        value_name = "GROUP",
        value_delimiter = ','
    )]
    pub allowed_groups: Vec<String>,

    /// Let in only people whose verified e-mail address is in these domains (repeatable).
    #[arg(
        long = "oidc-allowed-domain",
        env = "KAS_STUB_OIDC_ALLOWED_DOMAIN",
        value_name = "DOMAIN",
        value_delimiter = ','
    )]
    pub allowed_domains: Vec<String>,

    /// Members of these groups are administrators, and others that sign in so are none (repeatable). Without this the
    /// provider says nothing of roles.
    #[arg(
        long = "oidc-administrator-group",
        env = "KAS_STUB_OIDC_ADMINISTRATOR_GROUP",
        value_name = "GROUP",
        value_delimiter = ','
    )]
    pub administrator_groups: Vec<String>,
}
