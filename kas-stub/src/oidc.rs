//! Signing in with a provider of OpenID Connect: the authorisation code flow with PKCE.
//!
//! ```text
//!  browser ─▶ begin ─▶ provider's page ─▶ callback: code, state ─▶ finish ─▶ token endpoint, keys ─▶ claims ─▶ admit
//! ```
//!
//! What binds the answer to the browser (state, nonce, PKCE's verifier) is in a cookie of that browser and nowhere here, so
//! that beginning a sign-in costs the server nothing. The ID token counts when its signature, issuer, audience, end and
//! nonce are right. `admit` is pure: what the claims make of somebody.
//!
//! The provider is the operator's setting, so private addresses are fine; what it sends is limited all the same.

mod admit;
mod client;
mod provider;
mod signature;
#[cfg(test)]
mod tests;
mod token;

use std::sync::Arc;

use crate::config::OidcSettings;
pub(crate) use admit::Admitted;
pub(crate) use provider::Provider;

/// Where the provider sends the browser back to.
pub(crate) const CALLBACK: &str = "/sign-in/oidc/callback";

/// Why somebody is not signed in; the texts are for the one who wants to, and for whoever they ask.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{what} of the provider cannot be read: {why}")]
    Unreachable { what: &'static str, why: String },
    #[error("{what} of the provider is not as it should be: {why}")]
    Wrong { what: &'static str, why: String },
    #[error("the provider says {code}: {description}")]
    Refused { code: String, description: String },
    #[error("this sign-in did not begin in this browser, or too long ago; begin again")]
    NotBegun,
    #[error("the ID token of the provider does not count: {0}")]
    Token(String),
    #[error("{0}")]
    NotAdmitted(String),
}

/// The provider of the settings, if there is one.
///
/// # Errors
/// When a setting is of no use.
pub(crate) fn provider(
    settings: OidcSettings,
    external_url: &str,
) -> anyhow::Result<Option<Arc<Provider>>> {
    let redirect_uri = format!("{external_url}{CALLBACK}");
    let provider = Provider::open(settings, redirect_uri)?;
    Ok(provider.map(Arc::new))
}
