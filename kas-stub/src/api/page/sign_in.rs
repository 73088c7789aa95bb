//! Signing in by a single-use link, by name and password, or with the provider; and out.

use std::time::Instant;

use askama::Template;
use axum::{
    Form,
    extract::{Path, Query, State},
    http::{HeaderMap, StatusCode, header},
    response::{AppendHeaders, IntoResponse, Redirect, Response},
};
use serde::Deserialize;

use super::{Failed, Message, show, wanted};
use crate::{
    api::{
        Api, Problem,
        caller::{COOKIE, Caller, cookie, set_cookie},
    },
    authorization::{Action, Principal, Proof, Role},
    directory::{self, NewUser, SESSION_LENGTH, Session, SignedInBy, User, UserState},
    oidc::{self, Admitted},
    sign_in::Attempt,
};

/// What a browser keeps while it is at the provider. Over TLS the browser refuses one that another host set.
const OIDC_COOKIE: &str = "kas_stub_oidc";
const SECURE_OIDC_COOKIE: &str = "__Host-kas_stub_oidc";
/// How long somebody may take at the provider.
const OIDC_SECONDS: u64 = 600;

#[derive(Deserialize)]
pub(in crate::api) struct LinkForm {
    code: String,
}

#[derive(Deserialize)]
pub(in crate::api) struct PasswordForm {
    name: String,
    password: String,
}

#[derive(Default, Template)]
#[template(path = "sign_in.html")]
struct SignInPage<'a> {
    code: Option<&'a str>,
    provider: Option<&'a str>,
    name: &'a str,
    problem: Option<&'a str>,
}

/// How one signs in.
pub(in crate::api) fn how(api: &Api, status: StatusCode) -> Response {
    again(api, status, "", None)
}

fn again(api: &Api, status: StatusCode, name: &str, problem: Option<&str>) -> Response {
    let page = SignInPage {
        code: None,
        provider: api.provider.as_ref().map(|it| it.name()),
        name,
        problem,
    };
    let mut response = show(status, &page);
    if problem.is_none() {
        response.extensions_mut().insert(wanted::SignInFirst);
    }
    response
}

/// Asks before it signs in: a preview of the link, which only reads, does not use it up.
pub(in crate::api) async fn confirm(Path(code): Path<String>) -> Response {
    let page = SignInPage {
        code: Some(&code),
        ..SignInPage::default()
    };
    show(StatusCode::OK, &page)
}

pub(in crate::api) async fn by_link(
    State(api): State<Api>,
    caller: Caller,
    headers: HeaderMap,
    Form(form): Form<LinkForm>,
) -> Result<Response, Failed> {
    let (status, text, command) = match api.sign_in.attempt(&form.code, caller.from, Instant::now())
    {
        Attempt::SignedIn { user_id } => {
            return begin_session(&api, &caller, &headers, user_id, SignedInBy::Link).await;
        }
        Attempt::NoSuchLink => (
            StatusCode::FORBIDDEN,
            "This link was used already, or is too old. This makes a new one:",
            Some("kas-stub sign-in-link"),
        ),
        Attempt::TooMany(too_many) => return Err(Problem::too_many(too_many).into()),
    };
    caller.note(Action::SignIn, "by link", false);
    let message = Message {
        title: "Sign in",
        text,
        command,
    };
    Ok(show(status, &message))
}

pub(in crate::api) async fn by_password(
    State(api): State<Api>,
    caller: Caller,
    headers: HeaderMap,
    Form(form): Form<PasswordForm>,
) -> Result<Response, Failed> {
    // Else another site could sign somebody in as somebody else.
    if caller.is_cross_site() {
        return Err(Problem::cross_site().into());
    }
    let PasswordForm { name, password } = form;
    let name = name.trim().to_lowercase();
    let counted = api.sign_in.try_password(&name, caller.from, Instant::now());
    counted.map_err(Problem::too_many)?;
    let user = api.directory.user_by_name(&name).ok();
    let kept = user.as_ref().and_then(|it| it.password.clone());
    let matches = api.passwords.matches(password, kept).await;
    let matches = matches.map_err(Problem::busy)?;
    let refused = |text| {
        let status = StatusCode::FORBIDDEN;
        Ok(again(&api, status, &name, Some(text)))
    };
    let Some(user) = user.filter(|_| matches) else {
        // The name is not repeated: it may be a password that was typed into the wrong field.
        caller.note(Action::SignIn, "by password", false);
        return refused("That is no name and password of anybody here.");
    };
    api.sign_in.password_was_right(&name);
    if user.state == UserState::Suspended {
        note(&caller, &user, "by password, suspended", false);
        return refused("You are suspended here. An administrator can change that.");
    }
    begin_session(&api, &caller, &headers, user.id, SignedInBy::Password).await
}

/// Sends the browser to the provider.
pub(in crate::api) async fn begin_oidc(
    State(api): State<Api>,
    caller: Caller,
) -> Result<Response, Failed> {
    let provider = provider(&api)?;
    let counted = api.sign_in.arrive(caller.from, Instant::now());
    counted.map_err(Problem::too_many)?;
    match provider.begin().await {
        Ok(begun) => {
            let cookie = set_cookie(
                oidc_cookie(&caller),
                &begun.cookie,
                OIDC_SECONDS,
                caller.tls,
            );
            Ok(([(header::SET_COOKIE, cookie)], Redirect::to(&begun.url)).into_response())
        }
        Err(error) => Ok(not_signed_in(&api, &caller, &error)),
    }
}

/// The browser comes back from the provider.
pub(in crate::api) async fn end_oidc(
    State(api): State<Api>,
    caller: Caller,
    headers: HeaderMap,
    Query(parameters): Query<Vec<(String, String)>>,
) -> Result<Response, Failed> {
    let provider = provider(&api)?;
    let counted = api.sign_in.arrive(caller.from, Instant::now());
    counted.map_err(Problem::too_many)?;
    let kept = cookie(&headers, oidc_cookie(&caller));
    let arrived = match provider.finish(&parameters, kept).await {
        Ok(admitted) => user_of(&api, admitted).await,
        Err(error) => Err(error),
    };
    let forget = set_cookie(oidc_cookie(&caller), "", 0, caller.tls);
    let forget = AppendHeaders([(header::SET_COOKIE, forget)]);
    let response = match arrived {
        Ok(user) if user.state == UserState::Suspended => {
            note(&caller, &user, "with the provider, suspended", false);
            let text = "You are suspended here. An administrator can change that.";
            again(&api, StatusCode::FORBIDDEN, "", Some(text))
        }
        Ok(user) => begin_session(&api, &caller, &headers, user.id, SignedInBy::Provider).await?,
        Err(error) => not_signed_in(&api, &caller, &error),
    };
    Ok((forget, response).into_response())
}

/// The user whom the provider sent, made when it is a new one; with the role that the provider's groups give.
async fn user_of(api: &Api, admitted: Admitted) -> Result<std::sync::Arc<User>, oidc::Error> {
    let Admitted {
        identity,
        name,
        role,
    } = admitted;
    let not_kept = |error: directory::Error| oidc::Error::NotAdmitted(error.to_string());
    if let Some(user) = api.directory.user_by_identity(&identity) {
        return match role {
            Some(role) if role != user.role && !user.local => {
                tracing::info!(user = %user.name, ?role, "the provider gives another role");
                let changed = api.directory.set_role(user.name.as_str(), role).await;
                changed.map_err(not_kept)
            }
            Some(_) | None => Ok(user),
        };
    }
    let name = name.map_err(oidc::Error::NotAdmitted)?;
    let new = NewUser {
        name: name.clone(),
        role: role.unwrap_or(Role::User),
        password: None,
        identity: Some(identity.clone()),
    };
    match api.directory.create_user(new).await {
        Ok(user) => {
            tracing::info!(user = %user.name, id = user.id, "user created at the first sign-in");
            Ok(user)
        }
        // Whoever has the name here did not say that this is them.
        Err(directory::Error::UserExists(_)) => Err(oidc::Error::NotAdmitted(format!(
            "a user named {name} exists here who does not sign in with this provider; if that is you, an administrator \
             runs: kas-stub user link {name} --subject '{}'",
            identity.subject
        ))),
        Err(error) => Err(not_kept(error)),
    }
}

fn not_signed_in(api: &Api, caller: &Caller, error: &oidc::Error) -> Response {
    tracing::warn!(%error, "sign-in with the provider failed");
    let status = match error {
        oidc::Error::Unreachable { .. } | oidc::Error::Wrong { .. } => StatusCode::BAD_GATEWAY,
        oidc::Error::NotBegun => StatusCode::BAD_REQUEST,
        oidc::Error::Refused { .. } | oidc::Error::Token(_) | oidc::Error::NotAdmitted(_) => {
            caller.note(Action::SignIn, "with the provider", false);
            StatusCode::FORBIDDEN
        }
    };
    again(api, status, "", Some(&error.to_string()))
}

/// Signs the browser in, and sends it to the page that it came for.
async fn begin_session(
    api: &Api,
    caller: &Caller,
    headers: &HeaderMap,
    user_id: u64,
    by: SignedInBy,
) -> Result<Response, Failed> {
    let cookie = new_session(api, caller, headers, user_id, by).await?;
    let cookies = [cookie, wanted::forget(caller.tls)].map(|it| (header::SET_COOKIE, it));
    let to = wanted::page(headers).unwrap_or_else(|| "/".to_owned());
    Ok((AppendHeaders(cookies), Redirect::to(&to)).into_response())
}

/// A session in place of the one that the browser had, if it had one: its cookie.
pub(super) async fn new_session(
    api: &Api,
    caller: &Caller,
    headers: &HeaderMap,
    user_id: u64,
    by: SignedInBy,
) -> Result<String, Problem> {
    let browser = headers.get(header::USER_AGENT);
    let browser = browser.and_then(|it| it.to_str().ok()).unwrap_or_default();
    let before: Option<&Session> = caller.session();
    let begun = api.directory.create_session(user_id, by, browser, before);
    let secret = begun.await?;
    if let Some(user) = api.directory.user(user_id) {
        let how = match by {
            SignedInBy::Link => "by link",
            SignedInBy::Password => "by password",
            SignedInBy::Provider => "with the provider",
        };
        note(caller, &user, how, true);
    }
    let length = SESSION_LENGTH.as_secs();
    Ok(set_cookie(COOKIE, secret.expose(), length, caller.tls))
}

/// Into the audit log, of somebody who showed who they are.
fn note(caller: &Caller, user: &User, how: &str, allowed: bool) {
    let principal = Principal::Person {
        user_id: user.id,
        role: user.role,
        by: Proof::Session,
    };
    caller.note_as(&principal, Action::SignIn, how, allowed);
}

fn provider(api: &Api) -> Result<&oidc::Provider, Problem> {
    let none = || Problem::not_found("this server has no provider to sign in with");
    api.provider.as_deref().ok_or_else(none)
}

fn oidc_cookie(caller: &Caller) -> &'static str {
    if caller.tls {
        SECURE_OIDC_COOKIE
    } else {
        OIDC_COOKIE
    }
}

pub(in crate::api) async fn sign_out(
    State(api): State<Api>,
    caller: Caller,
) -> Result<Response, Failed> {
    if caller.is_cross_site() {
        return Err(Problem::cross_site().into());
    }
    if let Some(session) = caller.session() {
        let ended = api.directory.end_session(&session.digest()).await;
        ended.map_err(Problem::from)?;
    }
    let cookie = set_cookie(COOKIE, "", 0, caller.tls);
    Ok(([(header::SET_COOKIE, cookie)], Redirect::to("/")).into_response())
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    #[tokio::test]
    async fn nothing_of_a_request_becomes_markup() {
        let shown = confirm(Path("\"><script>'&".into())).await;
        let body = shown.into_body().collect().await.unwrap().to_bytes();
        let shown = std::str::from_utf8(&body).unwrap();
        assert!(
            shown.contains("value=\"&#34;&#62;&#60;script&#62;&#39;&#38;\""),
            "{shown}"
        );
    }
}
