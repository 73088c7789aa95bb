//! The page that somebody asked for before they had signed in: it comes after the sign-in.
//!
//! A cookie keeps it, since the link that signs in is opened anew, in the same browser.

use axum::{
    extract::Request,
    http::{HeaderMap, HeaderValue, Method, header, uri::PathAndQuery},
    middleware::Next,
    response::Response,
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use crate::{api::caller, listener::ConnectionInfo, sign_in::LINK_LENGTH};

const COOKIE: &str = "kas_stub_wanted";
/// Of the address; a longer one is forgotten.
const MAX_LENGTH: usize = 2 * 1024;

/// Marks an answer that says how to sign in, in place of what was asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct SignInFirst;

/// Keeps the address of a page that was not shown.
pub(in crate::api) async fn remember(request: Request, next: Next) -> Response {
    let page = (request.method() == Method::GET)
        .then(|| request.uri().path_and_query().cloned())
        .flatten()
        .filter(|it| is_page(it.as_str()) && it.as_str().len() <= MAX_LENGTH);
    let tls = request
        .extensions()
        .get::<ConnectionInfo>()
        .is_some_and(|it| it.tls);
    let mut response = next.run(request).await;
    let first = response.extensions().get::<SignInFirst>().is_some();
    if let (true, Some(page)) = (first, page) {
        let value = URL_SAFE_NO_PAD.encode(page.as_str());
        let cookie = caller::set_cookie(COOKIE, &value, LINK_LENGTH.as_secs(), tls);
        if let Ok(cookie) = HeaderValue::from_str(&cookie) {
            response.headers_mut().append(header::SET_COOKIE, cookie);
        }
    }
    response
}

/// The address that was kept, when it is one of this server's.
pub(super) fn page(headers: &HeaderMap) -> Option<String> {
    let value = caller::cookie(headers, COOKIE)?;
    let text = String::from_utf8(URL_SAFE_NO_PAD.decode(value).ok()?).ok()?;
    (is_page(&text) && text.parse::<PathAndQuery>().is_ok()).then_some(text)
}

/// One of this server's that is worth to come back to; the first page is where one arrives anyway.
fn is_page(address: &str) -> bool {
    ["/open-workspace?", "/workspaces/"]
        .iter()
        .any(|page| address.starts_with(page))
}

/// Forgets it.
pub(super) fn forget(tls: bool) -> String {
    caller::set_cookie(COOKIE, "", 0, tls)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_address_of_this_server_is_gone_to() {
        let kept = |text: &str| {
            let value = format!("{COOKIE}={}", URL_SAFE_NO_PAD.encode(text));
            let mut headers = HeaderMap::new();
            headers.insert(header::COOKIE, value.parse().unwrap());
            page(&headers)
        };
        let own = "/open-workspace?host=60001-one.w.localhost&path=/?folder=/projects";
        assert_eq!(kept(own).as_deref(), Some(own));
        for other in [
            "",
            "https://evil",
            "//evil/",
            "/\\evil",
            "evil",
            "/live",
            "/workspaces/a\r\nset-cookie: x",
        ] {
            assert_eq!(kept(other), None, "{other:?}");
        }
        assert_eq!(page(&HeaderMap::new()), None);
    }
}
