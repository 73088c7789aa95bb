//! The ID token: whether it counts.

use jsonwebtoken::{
    DecodingKey, Validation, decode, decode_header,
    errors::ErrorKind,
    jwk::{Jwk, KeyAlgorithm, PublicKeyUse},
};
use serde_json::{Map, Value};

use super::{Error, signature};

/// Keys of a provider that are looked at.
const MAX_KEYS: usize = 100;
/// By how much the provider's clock may differ.
const LEEWAY_S: u64 = 60;

/// The keys of a provider.
#[derive(Clone, Debug, Default)]
pub(super) struct Keys(Vec<Jwk>);

impl Keys {
    /// Reads a set of keys; those of kinds that are not known here are left out.
    pub(super) fn parse(set: &Value) -> Result<Self, String> {
        let keys = set["keys"].as_array().ok_or("it has no list of keys")?;
        let parsed = keys.iter().take(MAX_KEYS);
        let parsed = parsed.filter_map(|key| serde_json::from_value::<Jwk>(key.clone()).ok());
        let usable = |key: &Jwk| {
            let is_for_signatures = !matches!(
                &key.common.public_key_use,
                Some(it) if *it != PublicKeyUse::Signature
            );
            is_for_signatures && DecodingKey::from_jwk(key).is_ok()
        };
        Ok(Self(parsed.filter(usable).collect()))
    }

    /// Those that may have signed a token that names this one.
    fn candidates(&self, id: Option<&str>) -> Vec<&Jwk> {
        let named = |key: &&Jwk| id.is_none() || key.common.key_id.as_deref() == id;
        self.0.iter().filter(named).collect()
    }
}

/// What a token must say.
#[derive(Clone, Copy, Debug)]
pub(super) struct Expected<'a> {
    pub(super) issuer: &'a str,
    pub(super) client_id: &'a str,
    pub(super) nonce: &'a str,
}

/// Why a token does not count.
#[derive(Debug)]
pub(super) enum Refused {
    /// None of the keys is the one that it names: there may be newer ones.
    UnknownKey,
    Wrong(String),
}

impl From<Refused> for Error {
    fn from(refused: Refused) -> Self {
        Self::Token(match refused {
            Refused::UnknownKey => "it is signed by a key that the provider does not list".into(),
            Refused::Wrong(why) => why,
        })
    }
}

/// The claims of a token that counts.
pub(super) fn claims(
    token: &str,
    keys: &Keys,
    expected: Expected<'_>,
) -> Result<Map<String, Value>, Refused> {
    let wrong = |why: &str| Refused::Wrong(why.to_owned());
    let header = decode_header(token).map_err(|_| wrong("it is no signed token"))?;
    if !signature::ALGORITHMS.contains(&header.alg) {
        return Err(Refused::Wrong(format!(
            "its algorithm {:?} is none of a key pair",
            header.alg
        )));
    }
    let mut validation = Validation::new(header.alg);
    validation.leeway = LEEWAY_S;
    validation.validate_nbf = true;
    validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
    validation.set_issuer(&[expected.issuer]);
    validation.set_audience(&[expected.client_id]);
    let mut last = Refused::UnknownKey;
    for key in keys.candidates(header.kid.as_deref()) {
        let of_token = KeyAlgorithm::from(header.alg);
        if key.common.key_algorithm.is_some_and(|it| it != of_token) {
            continue;
        }
        let Ok(key) = DecodingKey::from_jwk(key) else {
            continue;
        };
        match decode::<Map<String, Value>>(token, &key, &validation) {
            Ok(decoded) => return check(decoded.claims, expected),
            Err(error) => last = why(error.kind(), header.kid.is_some()),
        }
    }
    Err(last)
}

/// What the crate does not look at.
fn check(
    claims: Map<String, Value>,
    expected: Expected<'_>,
) -> Result<Map<String, Value>, Refused> {
    let wrong = |why: &str| Err(Refused::Wrong(why.to_owned()));
    let text = |name: &str| claims.get(name).and_then(Value::as_str);
    if text("nonce") != Some(expected.nonce) {
        return wrong("its nonce is not that of this sign-in");
    }
    let several = claims.get("aud").and_then(Value::as_array);
    let party = claims.get("azp");
    let is_ours = party.is_none_or(|it| it.as_str() == Some(expected.client_id));
    if !is_ours || (party.is_none() && several.is_some_and(|it| it.len() > 1)) {
        return wrong("it was made for another client");
    }
    if text("sub").is_none_or(str::is_empty) {
        return wrong("it has no subject");
    }
    Ok(claims)
}

fn why(error: &ErrorKind, key_is_named: bool) -> Refused {
    Refused::Wrong(match error {
        ErrorKind::InvalidSignature if !key_is_named => return Refused::UnknownKey,
        ErrorKind::InvalidSignature => "its signature is wrong".into(),
        ErrorKind::ExpiredSignature => "it has expired; are the clocks right?".into(),
        ErrorKind::ImmatureSignature => "it is not valid yet; are the clocks right?".into(),
        ErrorKind::InvalidIssuer => "its issuer is another one".into(),
        ErrorKind::InvalidAudience => "it was made for another client".into(),
        ErrorKind::MissingRequiredClaim(claim) => format!("its claim {claim} is missing"),
        ErrorKind::InvalidClaimFormat(claim) => {
            format!("its claim {claim} is not of the right kind")
        }
        ErrorKind::InvalidAlgorithm | ErrorKind::UnsupportedAlgorithm => {
            "its algorithm is not that of the key".into()
        }
        _ => "it cannot be read".into(),
    })
}
