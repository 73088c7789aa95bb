//! A sign-in with a provider that runs here, and with one that is not as it should be.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use axum::{Form, Router, extract::State, http::HeaderMap, routing};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use jiff::Timestamp;
use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use serde_json::{Value, json};

use super::*;
use crate::secret::Digest;

const CLIENT: &str = "kas-stub";
const SECRET: &str = "s€cret:1";
const CODE: &str = "the code";

/// A provider, and what of it a test has changed.
struct Fake {
    issuer: String,
    keys: Vec<(String, EcdsaKeyPair)>,
    /// How many of them it lists.
    listed: usize,
    /// Of the sign-in under way.
    nonce: String,
    challenge: String,
    /// Changes the token's head and claims.
    change: fn(&mut Value, &mut Value),
    /// What user information says.
    userinfo: Value,
    /// Asked for keys.
    asked: usize,
    description: fn(&mut Value),
}

type Shared = Arc<Mutex<Fake>>;

impl Fake {
    async fn start() -> Shared {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let issuer = format!("http://{}/realm", listener.local_addr().unwrap());
        let fake = Arc::new(Mutex::new(Self {
            issuer,
            keys: vec![key("first")],
            listed: 1,
            nonce: String::new(),
            challenge: String::new(),
            change: |_, _| {},
            userinfo: json!({"sub": "subject", "preferred_username": "Ada"}),
            asked: 0,
            description: |_| {},
        }));
        let router = Router::new()
            .route(
                "/realm/.well-known/openid-configuration",
                routing::get(description),
            )
            .route("/realm/keys", routing::get(keys))
            .route("/realm/token", routing::post(token))
            .route("/realm/me", routing::get(userinfo))
            .with_state(Arc::clone(&fake));
        tokio::spawn(async move { axum::serve(listener, router).await });
        fake
    }

    /// The token of the sign-in under way.
    fn id_token(&self) -> String {
        let (id, key) = self.keys.last().unwrap();
        let mut head = json!({"alg": "ES256", "typ": "JWT", "kid": id});
        let now = Timestamp::now().as_second();
        let mut claims = json!({
            "iss": self.issuer, "aud": CLIENT, "sub": "subject", "nonce": self.nonce,
            "iat": now, "exp": now + 300,
        });
        (self.change)(&mut head, &mut claims);
        let part = |it: &Value| URL_SAFE_NO_PAD.encode(it.to_string());
        let message = format!("{}.{}", part(&head), part(&claims));
        let signature = key.sign(&SystemRandom::new(), message.as_bytes()).unwrap();
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

fn key(id: &str) -> (String, EcdsaKeyPair) {
    let random = SystemRandom::new();
    let made = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
    let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, made.as_ref(), &random);
    (id.to_owned(), key.unwrap())
}

async fn description(State(fake): State<Shared>) -> String {
    let fake = fake.lock().unwrap();
    let at = |path: &str| format!("{}/{path}", fake.issuer);
    let mut description = json!({
        "issuer": fake.issuer, "authorization_endpoint": at("auth?tenant=1"), "token_endpoint": at("token"),
        "jwks_uri": at("keys"), "userinfo_endpoint": at("me"),
    });
    (fake.description)(&mut description);
    description.to_string()
}

async fn keys(State(fake): State<Shared>) -> String {
    let mut fake = fake.lock().unwrap();
    fake.asked += 1;
    let listed = fake.keys.iter().take(fake.listed).map(|(id, key)| {
        let point = key.public_key().as_ref();
        let part = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        json!({"kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": id, "x": part(&point[1..33]), "y": part(&point[33..])})
    });
    let strange = json!({"kty": "new", "kid": "strange"});
    json!({"keys": listed.chain([strange]).collect::<Vec<_>>()}).to_string()
}

async fn token(
    State(fake): State<Shared>,
    headers: HeaderMap,
    Form(form): Form<HashMap<String, String>>,
) -> String {
    let fake = fake.lock().unwrap();
    let expected = format!("Basic {}", STANDARD.encode("kas%2Dstub:s%E2%82%ACcret%3A1"));
    let knows_client = headers
        .get("authorization")
        .is_some_and(|it| *it == expected);
    let challenge = Digest::of(&form["code_verifier"]).to_text();
    if !knows_client || form["code"] != CODE || challenge != fake.challenge {
        return json!({"error": "invalid_grant", "error_description": "no such code"}).to_string();
    }
    json!({"id_token": fake.id_token(), "access_token": "access", "token_type": "Bearer"})
        .to_string()
}

async fn userinfo(State(fake): State<Shared>, headers: HeaderMap) -> String {
    match headers.get("authorization") {
        Some(it) if *it == "Bearer access" => fake.lock().unwrap().userinfo.to_string(),
        _ => json!({"error": "invalid_token"}).to_string(),
    }
}

/// The server's side of it, with these settings changed.
fn relying(fake: &Shared, change: impl FnOnce(&mut OidcSettings)) -> Arc<Provider> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("secret");
    std::fs::write(&file, format!("{SECRET}\n")).unwrap();
    let mut settings = OidcSettings {
        issuer: Some(fake.lock().unwrap().issuer.clone()),
        client_id: Some(CLIENT.into()),
        client_secret_file: Some(file),
        ..OidcSettings::default()
    };
    change(&mut settings);
    provider(settings, "https://kas").unwrap().unwrap()
}

/// What the provider gets of a sign-in that begins, and the browser's cookie.
async fn begin(provider: &Provider, fake: &Shared) -> (HashMap<String, String>, String) {
    let begun = provider.begin().await.unwrap();
    let (at, query) = begun.url.split_once('?').unwrap();
    assert_eq!(at, format!("{}/auth", fake.lock().unwrap().issuer));
    let uri = format!("http://x/?{query}").parse().unwrap();
    let axum::extract::Query(query) = axum::extract::Query::try_from_uri(&uri).unwrap();
    let query: HashMap<String, String> = query;
    let mut state = fake.lock().unwrap();
    state.nonce.clone_from(&query["nonce"]);
    state.challenge.clone_from(&query["code_challenge"]);
    (query, begun.cookie)
}

fn answer(state: &str) -> Vec<(String, String)> {
    vec![("code".into(), CODE.into()), ("state".into(), state.into())]
}

/// A whole sign-in.
async fn sign_in(provider: &Provider, fake: &Shared) -> Result<Admitted, Error> {
    let (query, cookie) = begin(provider, fake).await;
    provider
        .finish(&answer(&query["state"]), Some(&cookie))
        .await
}

#[tokio::test]
async fn somebody_signs_in() {
    let fake = Fake::start().await;
    let provider = relying(&fake, |_| {});
    let (query, cookie) = begin(&provider, &fake).await;
    for (name, value) in [
        ("tenant", "1"),
        ("response_type", "code"),
        ("client_id", CLIENT),
        ("redirect_uri", "https://kas/sign-in/oidc/callback"),
        ("scope", "openid profile email"),
        ("code_challenge_method", "S256"),
    ] {
        assert_eq!(query[name], value, "{name}");
    }
    let answer = answer(&query["state"]);
    let admitted = provider.finish(&answer, Some(&cookie)).await.unwrap();
    assert_eq!(admitted.identity.subject, "subject");
    assert_eq!(admitted.identity.issuer, provider.issuer());
    // The ID token has no name: it came from the user information.
    assert_eq!(admitted.name.unwrap().as_str(), "ada");
}

#[tokio::test]
async fn an_answer_counts_only_in_the_browser_that_asked() {
    let fake = Fake::start().await;
    let provider = relying(&fake, |_| {});
    let (query, cookie) = begin(&provider, &fake).await;
    let state = &query["state"];
    let other = provider.begin().await.unwrap().cookie;
    let half = format!("{state}.");
    for (presented, kept) in [
        (state.as_str(), None),
        (state, Some(&other)),
        ("guess", Some(&cookie)),
        ("", Some(&String::from(".."))),
        (state, Some(&half)),
    ] {
        let answer = answer(presented);
        let refused = provider.finish(&answer, kept.map(String::as_str)).await;
        assert!(matches!(refused, Err(Error::NotBegun)), "{refused:?}");
    }
    // A verifier of another sign-in does not redeem the code.
    let parts: Vec<_> = cookie.split('.').collect();
    let mixed = format!(
        "{}.{}.{}",
        parts[0],
        parts[1],
        other.rsplit('.').next().unwrap()
    );
    let refused = provider.finish(&answer(state), Some(&mixed)).await;
    let refused = refused.unwrap_err().to_string();
    assert_eq!(refused, "the provider says invalid_grant: no such code");
}

#[tokio::test]
async fn a_token_that_is_not_right_does_not_count() {
    let fake = Fake::start().await;
    let provider = relying(&fake, |_| {});
    type Change = fn(&mut Value, &mut Value);
    let cases: [(Change, &str); 16] = [
        (|_, it| it["nonce"] = json!("other"), "nonce is not that"),
        (|_, it| it["nonce"] = Value::Null, "nonce is not that"),
        (|_, it| it["aud"] = json!("other"), "for another client"),
        (
            |_, it| it["aud"] = json!([CLIENT, "other"]),
            "for another client",
        ),
        (|_, it| it["azp"] = json!("other"), "for another client"),
        (
            |_, it| it["iss"] = json!("http://127.0.0.1"),
            "issuer is another",
        ),
        (
            |_, it| it["exp"] = json!(Timestamp::now().as_second() - 90),
            "has expired",
        ),
        (|_, it| it["exp"] = json!("never"), "exp"),
        (
            |_, it| drop(it.as_object_mut().unwrap().remove("exp")),
            "exp is missing",
        ),
        (
            |_, it| drop(it.as_object_mut().unwrap().remove("aud")),
            "aud is missing",
        ),
        (
            |_, it| drop(it.as_object_mut().unwrap().remove("iss")),
            "iss is missing",
        ),
        (
            |_, it| it["nbf"] = json!(Timestamp::now().as_second() + 90),
            "not valid yet",
        ),
        (|_, it| it["sub"] = json!(""), "no subject"),
        (|head, _| head["alg"] = json!("HS256"), "none of a key pair"),
        (|head, _| head["alg"] = json!("none"), "no signed token"),
        (|head, _| head["alg"] = json!("RS256"), "does not list"),
    ];
    for (number, (change, says)) in cases.into_iter().enumerate() {
        fake.lock().unwrap().change = change;
        let refused = sign_in(&provider, &fake).await.unwrap_err().to_string();
        assert!(refused.contains(says), "{number}: {refused}");
    }
    // Clocks differ a little.
    fake.lock().unwrap().change = |_, it| it["exp"] = json!(Timestamp::now().as_second() - 30);
    sign_in(&provider, &fake).await.unwrap();
    fake.lock().unwrap().change = |_, it| {
        it["aud"] = json!([CLIENT, "other"]);
        it["azp"] = json!(CLIENT);
    };
    sign_in(&provider, &fake).await.unwrap();
}

#[tokio::test]
async fn keys_are_asked_for_again_when_there_is_a_new_one_but_not_each_time() {
    let fake = Fake::start().await;
    let provider = relying(&fake, |_| {});
    sign_in(&provider, &fake).await.unwrap();
    sign_in(&provider, &fake).await.unwrap();
    assert_eq!(fake.lock().unwrap().asked, 1);
    {
        // Not listed: as if somebody else had signed.
        let mut fake = fake.lock().unwrap();
        fake.keys.push(key("second"));
    }
    for _ in 0..3 {
        let refused = sign_in(&provider, &fake).await.unwrap_err().to_string();
        assert!(refused.contains("does not list"), "{refused}");
    }
    assert_eq!(fake.lock().unwrap().asked, 1, "asked again within seconds");
    provider.forget_age_of_keys().await;
    fake.lock().unwrap().listed = 2;
    sign_in(&provider, &fake).await.unwrap();
    assert_eq!(fake.lock().unwrap().asked, 2);
    // The name of a listed key, and the signature of another.
    fake.lock().unwrap().change = |head, _| head["kid"] = json!("first");
    let refused = sign_in(&provider, &fake).await.unwrap_err().to_string();
    assert!(refused.contains("signature is wrong"), "{refused}");
    // Without a name each is tried.
    fake.lock().unwrap().change = |head, _| drop(head.as_object_mut().unwrap().remove("kid"));
    sign_in(&provider, &fake).await.unwrap();
}

#[tokio::test]
async fn user_information_is_about_the_same_one_and_adds_nothing_to_what_is_signed() {
    let fake = Fake::start().await;
    let provider = relying(&fake, |_| {});
    fake.lock().unwrap().userinfo = json!({"sub": "other", "preferred_username": "eve"});
    let refused = sign_in(&provider, &fake).await.unwrap_err().to_string();
    assert!(refused.contains("about somebody else"), "{refused}");
    let staff = relying(&fake, |it| it.allowed_groups = vec!["staff".into()]);
    fake.lock().unwrap().userinfo =
        json!({"sub": "subject", "groups": ["staff"], "preferred_username": "ada"});
    sign_in(&staff, &fake).await.unwrap();
    fake.lock().unwrap().change = |_, it| it["groups"] = json!(["guests"]);
    let refused = sign_in(&staff, &fake).await.unwrap_err().to_string();
    assert!(refused.contains("none of the groups"), "{refused}");
}

#[tokio::test]
async fn a_provider_that_is_not_as_it_should_be_is_told_of() {
    let fake = Fake::start().await;
    let issuer = fake.lock().unwrap().issuer.clone();
    type Change = fn(&mut Value);
    let cases: [(Change, &str); 4] = [
        (
            |it| it["issuer"] = json!("https://other"),
            "it is of https://other, and --oidc-issuer is",
        ),
        (|it| it["jwks_uri"] = Value::Null, "jwks_uri is missing"),
        (
            |it| it["token_endpoint"] = json!("http://10.0.0.1/"),
            "token_endpoint: expected https",
        ),
        (
            |it| it["authorization_endpoint"] = json!("javascript:x"),
            "authorization_endpoint: expected https",
        ),
    ];
    for (change, says) in cases {
        fake.lock().unwrap().description = change;
        let refused = relying(&fake, |_| {})
            .begin()
            .await
            .unwrap_err()
            .to_string();
        assert!(refused.contains(says), "{refused}");
    }
    let elsewhere = relying(&fake, |it| {
        it.issuer = Some(issuer.replace("/realm", "/none"))
    });
    let refused = elsewhere.begin().await.unwrap_err().to_string();
    assert!(refused.contains("404"), "{refused}");
    let nobody = relying(&fake, |it| it.issuer = Some("http://127.0.0.1:1/".into()));
    let refused = nobody.begin().await.unwrap_err().to_string();
    assert!(refused.contains("cannot be reached"), "{refused}");
    let without = OidcSettings {
        allowed_groups: vec!["staff".into()],
        ..OidcSettings::default()
    };
    let error = provider(without, "https://kas").unwrap_err();
    assert!(error.to_string().contains("need --oidc-issuer"), "{error}");
    for wrong in ["http://10.0.0.1/", "ftp://a/", "https://u@a/", "a"] {
        let settings = OidcSettings {
            issuer: Some(wrong.into()),
            client_id: Some(CLIENT.into()),
            ..OidcSettings::default()
        };
        let error = provider(settings, "https://kas").unwrap_err();
        assert!(format!("{error:#}").contains("--oidc-issuer"), "{error:#}");
    }
}

#[tokio::test]
async fn an_answer_of_another_issuer_is_refused() {
    let fake = Fake::start().await;
    fake.lock().unwrap().description =
        |it| it["authorization_response_iss_parameter_supported"] = json!(true);
    let provider = relying(&fake, |_| {});
    let (query, cookie) = begin(&provider, &fake).await;
    let mut parameters = answer(&query["state"]);
    for (issuer, says) in [
        (None, "from which issuer"),
        (Some("https://other"), "another issuer"),
    ] {
        let mut parameters = parameters.clone();
        parameters.extend(issuer.map(|it| ("iss".to_owned(), it.to_owned())));
        let refused = provider.finish(&parameters, Some(&cookie)).await;
        let refused = refused.unwrap_err().to_string();
        assert!(refused.contains(says), "{refused}");
    }
    parameters.push(("iss".into(), provider.issuer().into()));
    provider.finish(&parameters, Some(&cookie)).await.unwrap();
}
