//! The provider: what it says of itself, where browsers are sent, and who comes back.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, anyhow};
use http::StatusCode;
use serde_json::{Map, Value};

use super::{
    Error,
    admit::{Admitted, Rules},
    client::{Address, Ask, Client, form},
    signature,
    token::{self, Expected, Keys, Refused},
};
use crate::{
    config::OidcSettings,
    secret::{Digest, Secret},
};

/// How long what the provider says of itself is taken for true.
const DOCUMENT_AGE: Duration = Duration::from_secs(60 * 60);
/// How long its keys are.
const KEYS_AGE: Duration = Duration::from_secs(60 * 60);
/// How soon its keys are asked for again when one is not among them; else anybody could have it asked all the time.
const KEYS_AGAIN: Duration = Duration::from_secs(30);
/// Longest name of the provider on the page, and the longest error of its that is repeated.
const MAX_TEXT: usize = 200;

pub(crate) struct Provider {
    issuer: String,
    /// Where it says what it is.
    discovery: Address,
    client_id: String,
    client_secret: Option<String>,
    name: String,
    scope: String,
    rules: Rules,
    redirect_uri: String,
    client: Client,
    known: tokio::sync::Mutex<Known>,
}

impl fmt::Debug for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Provider")
            .field("issuer", &self.issuer)
            .finish_non_exhaustive()
    }
}

/// What is known of the provider, and since when.
#[derive(Debug, Default)]
struct Known {
    document: Option<(Instant, Arc<Document>)>,
    keys: Option<(Instant, Arc<Keys>)>,
}

/// What the provider says of itself.
#[derive(Debug)]
struct Document {
    /// As it is written: a query of its own stays.
    authorization: String,
    token: Address,
    keys: Address,
    userinfo: Option<Address>,
    /// The secret goes into the form, since the header is not taken.
    secret_in_form: bool,
    /// It says in its answers who it is.
    names_itself: bool,
}

/// A sign-in that begins.
#[derive(Debug)]
pub(crate) struct Begun {
    /// Where the browser is sent.
    pub(crate) url: String,
    /// What it keeps meanwhile.
    pub(crate) cookie: String,
}

impl Provider {
    /// The provider of the settings, if there is one. It is not asked for anything yet: it may be away when this server
    /// starts.
    pub(super) fn open(
        settings: OidcSettings,
        redirect_uri: String,
    ) -> anyhow::Result<Option<Self>> {
        let OidcSettings {
            issuer,
            client_id,
            client_secret_file,
            ca_file,
            name,
            scopes,
            name_claim,
            groups_claim,
            allowed_groups,
            allowed_domains,
            administrator_groups,
        } = settings;
        let Some(issuer) = issuer else {
            let is_set = [
                client_id.is_some(),
                client_secret_file.is_some(),
                ca_file.is_some(),
                !allowed_groups.is_empty(),
                !allowed_domains.is_empty(),
                !administrator_groups.is_empty(),
            ];
            // Somebody believes that it is in force.
            anyhow::ensure!(
                !is_set.contains(&true),
                "the settings --oidc-… need --oidc-issuer"
            );
            return Ok(None);
        };
        signature::install();
        let address = Address::parse(&issuer).map_err(|why| anyhow!("--oidc-issuer: {why}"))?;
        let discovery = format!(
            "{}/.well-known/openid-configuration",
            issuer.trim_end_matches('/')
        );
        let secret = client_secret_file.map(|path| {
            let text = std::fs::read_to_string(&path);
            let text = text.with_context(|| format!("read {}", path.display()))?;
            let text = text.trim().to_owned();
            anyhow::ensure!(!text.is_empty(), "{} is empty", path.display());
            Ok(text)
        });
        let scopes = match scopes.is_empty() {
            true => "openid profile email".to_owned(),
            false => format!("openid {}", scopes.join(" ")),
        };
        let name = name.unwrap_or_else(|| address.host().to_owned());
        Ok(Some(Self {
            discovery: Address::parse(&discovery).map_err(|why| anyhow!("--oidc-issuer: {why}"))?,
            issuer,
            client_id: client_id.context("--oidc-issuer needs --oidc-client-id")?,
            client_secret: secret.transpose().context("--oidc-client-secret-file")?,
            name: name.chars().take(MAX_TEXT).collect(),
            scope: scopes,
            rules: Rules {
                name_claim: name_claim.unwrap_or_else(|| "preferred_username".into()),
                groups_claim: groups_claim.unwrap_or_else(|| "groups".into()),
                allowed_groups,
                allowed_domains,
                administrator_groups,
            },
            redirect_uri,
            client: Client::open(ca_file.as_deref()).context("--oidc-ca-file")?,
            known: tokio::sync::Mutex::default(),
        }))
    }

    /// What the page calls it.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Begins a sign-in.
    ///
    /// # Errors
    /// When the provider does not say where people sign in.
    pub(crate) async fn begin(&self) -> Result<Begun, Error> {
        let document = self.document().await?;
        let [state, nonce, verifier] = [(); 3].map(|()| Secret::generate(""));
        let challenge = verifier.digest().to_text();
        let query = form(&[
            ("response_type", "code"),
            ("client_id", &self.client_id),
            ("redirect_uri", &self.redirect_uri),
            ("scope", &self.scope),
            ("state", state.expose()),
            ("nonce", nonce.expose()),
            ("code_challenge", &challenge),
            ("code_challenge_method", "S256"),
        ]);
        let to = &document.authorization;
        let separator = if to.contains('?') { '&' } else { '?' };
        Ok(Begun {
            url: format!("{to}{separator}{query}"),
            cookie: [state, nonce, verifier]
                .map(|it| it.expose().to_owned())
                .join("."),
        })
    }

    /// Ends a sign-in: who came back, when they may come in. `parameters` are those of the callback, `cookie` what the
    /// browser kept.
    ///
    /// # Errors
    /// When the provider refused, the answer is for another browser, something of it is wrong, or they may not come in.
    pub(crate) async fn finish(
        &self,
        parameters: &[(String, String)],
        cookie: Option<&str>,
    ) -> Result<Admitted, Error> {
        let parameter = |name: &str| {
            let mut all = parameters.iter();
            all.find_map(|(found, value)| (found == name).then_some(value.as_str()))
        };
        let kept: Vec<_> = cookie.unwrap_or_default().split('.').collect();
        let [state, nonce, verifier] = kept[..] else {
            return Err(Error::NotBegun);
        };
        let is_same = |presented: &str| Digest::of(presented).matches(&Digest::of(state));
        if state.is_empty() || !parameter("state").is_some_and(is_same) {
            return Err(Error::NotBegun);
        }
        let document = self.document().await?;
        match parameter("iss") {
            Some(issuer) if issuer != self.issuer => {
                return Err(wrong("answer", "it is from another issuer"));
            }
            None if document.names_itself => {
                return Err(wrong("answer", "it does not say from which issuer it is"));
            }
            Some(_) | None => {}
        }
        if let Some(code) = parameter("error") {
            return Err(refused(code, parameter("error_description")));
        }
        let code = parameter("code").ok_or_else(|| wrong("answer", "it has no code"))?;
        let answer = self.redeem(&document, code, verifier).await?;
        let id_token = answer["id_token"].as_str();
        let id_token = id_token.ok_or_else(|| wrong("token answer", "it has no ID token"))?;
        let mut claims = self.claims(&document, id_token, nonce).await?;
        let subject = claims.get("sub").and_then(Value::as_str);
        let subject = subject.unwrap_or_default().to_owned();
        let lacks = |it: &&str| !claims.contains_key(*it);
        if self.rules.needed().iter().any(lacks)
            && let (Some(userinfo), Some(token)) =
                (&document.userinfo, answer["access_token"].as_str())
        {
            let more = self.userinfo(userinfo, token, &subject).await?;
            for (name, value) in more {
                claims.entry(name).or_insert(value);
            }
        }
        self.rules.admit(&self.issuer, subject, &claims)
    }

    /// Gives the code for tokens.
    async fn redeem(
        &self,
        document: &Document,
        code: &str,
        verifier: &str,
    ) -> Result<Value, Error> {
        let secret = self.client_secret.as_deref();
        let mut pairs = vec![
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", &self.redirect_uri),
            ("code_verifier", verifier),
        ];
        let client = match secret {
            Some(secret) if !document.secret_in_form => Some((&*self.client_id, secret)),
            Some(_) | None => {
                pairs.push(("client_id", &self.client_id));
                pairs.extend(secret.map(|it| ("client_secret", it)));
                None
            }
        };
        let form = form(&pairs);
        let ask = Ask::Post { form, client };
        let sent = self.client.send(&document.token, ask).await;
        let (status, answer) = sent.map_err(|why| unreachable("token endpoint", why))?;
        if let Some(code) = answer["error"].as_str() {
            return Err(refused(code, answer["error_description"].as_str()));
        }
        match status {
            StatusCode::OK => Ok(answer),
            _ => Err(wrong("token endpoint", format!("it answered {status}"))),
        }
    }

    async fn claims(
        &self,
        document: &Document,
        id_token: &str,
        nonce: &str,
    ) -> Result<Map<String, Value>, Error> {
        let expected = Expected {
            issuer: &self.issuer,
            client_id: &self.client_id,
            nonce,
        };
        let keys = self.keys(document, KEYS_AGE).await?;
        match token::claims(id_token, &keys, expected) {
            // Perhaps the provider has new ones.
            Err(Refused::UnknownKey) => {
                let keys = self.keys(document, KEYS_AGAIN).await?;
                Ok(token::claims(id_token, &keys, expected)?)
            }
            judged => Ok(judged?),
        }
    }

    async fn userinfo(
        &self,
        at: &Address,
        token: &str,
        subject: &str,
    ) -> Result<Map<String, Value>, Error> {
        const WHAT: &str = "user information";
        let sent = self.client.send(at, Ask::GetWith(token)).await;
        let (status, answer) = sent.map_err(|why| unreachable(WHAT, why))?;
        let Value::Object(claims) = answer else {
            return Err(wrong(WHAT, format!("it answered {status} without JSON")));
        };
        if status != StatusCode::OK || claims.get("sub").and_then(Value::as_str) != Some(subject) {
            return Err(wrong(WHAT, "it is about somebody else"));
        }
        Ok(claims)
    }

    async fn keys(&self, document: &Document, age: Duration) -> Result<Arc<Keys>, Error> {
        const WHAT: &str = "list of keys";
        let mut known = self.known.lock().await;
        if let Some((since, keys)) = &known.keys
            && since.elapsed() < age
        {
            return Ok(Arc::clone(keys));
        }
        let sent = self.client.send(&document.keys, Ask::Get).await;
        let (status, set) = sent.map_err(|why| unreachable(WHAT, why))?;
        if status != StatusCode::OK {
            return Err(wrong(WHAT, format!("it answered {status}")));
        }
        let keys = Arc::new(Keys::parse(&set).map_err(|why| wrong(WHAT, why))?);
        known.keys = Some((Instant::now(), Arc::clone(&keys)));
        Ok(keys)
    }

    /// As if the keys had been asked for long ago.
    #[cfg(test)]
    pub(super) async fn forget_age_of_keys(&self) {
        if let Some((since, _)) = &mut self.known.lock().await.keys {
            *since = since.checked_sub(KEYS_AGAIN).unwrap_or(*since);
        }
    }

    async fn document(&self) -> Result<Arc<Document>, Error> {
        let mut known = self.known.lock().await;
        if let Some((since, document)) = &known.document
            && since.elapsed() < DOCUMENT_AGE
        {
            return Ok(Arc::clone(document));
        }
        let sent = self.client.send(&self.discovery, Ask::Get).await;
        let (status, answer) = sent.map_err(|why| unreachable(DOCUMENT, why))?;
        if status != StatusCode::OK {
            return Err(wrong(DOCUMENT, format!("it answered {status}")));
        }
        let document = Arc::new(self.read(&answer)?);
        known.document = Some((Instant::now(), Arc::clone(&document)));
        Ok(document)
    }

    fn read(&self, document: &Value) -> Result<Document, Error> {
        let text = |name: &str| document[name].as_str();
        let address = |name: &str| {
            let text = text(name).ok_or_else(|| wrong(DOCUMENT, format!("{name} is missing")))?;
            Address::parse(text).map_err(|why| wrong(DOCUMENT, format!("{name}: {why}")))
        };
        if text("issuer") != Some(&self.issuer) {
            let found = text("issuer").unwrap_or("nobody");
            let found: String = found.chars().take(MAX_TEXT).collect();
            let why = format!("it is of {found}, and --oidc-issuer is {}", self.issuer);
            return Err(wrong(DOCUMENT, why));
        }
        let methods = document["token_endpoint_auth_methods_supported"].as_array();
        let takes = |method: &str| methods.is_some_and(|it| it.iter().any(|it| it == method));
        let says = &document["authorization_response_iss_parameter_supported"];
        address("authorization_endpoint")?;
        Ok(Document {
            authorization: text("authorization_endpoint")
                .unwrap_or_default()
                .to_owned(),
            token: address("token_endpoint")?,
            keys: address("jwks_uri")?,
            userinfo: match text("userinfo_endpoint") {
                Some(_) => Some(address("userinfo_endpoint")?),
                None => None,
            },
            secret_in_form: takes("client_secret_post") && !takes("client_secret_basic"),
            names_itself: says == &Value::Bool(true),
        })
    }
}

const DOCUMENT: &str = "description";

fn unreachable(what: &'static str, why: String) -> Error {
    Error::Unreachable { what, why }
}

fn wrong(what: &'static str, why: impl Into<String>) -> Error {
    let why = why.into();
    Error::Wrong { what, why }
}

fn refused(code: &str, description: Option<&str>) -> Error {
    let short = |text: &str| text.chars().take(MAX_TEXT).collect();
    Error::Refused {
        code: short(code),
        description: short(description.unwrap_or("it gives no reason")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_challenge_is_that_of_the_verifier() {
        // RFC 7636's own example.
        let verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
        let challenge = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
        assert_eq!(Digest::of(verifier).to_text(), challenge);
    }
}
