//! As whom a request runs.

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::convert::http::Impersonation;

/// Users and groups that the server may name begin with this: it speaks for its own users, never for the cluster's.
const PREFIX: &str = "gitlab:";
const HEADER_PREFIX: &str = "impersonate-";

/// Why a request may not run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refused(pub(super) String);

/// Adds the headers that make the API server run a request as someone else than the agent.
///
/// - The server names a user: that one, if it is one of its own.
/// - Otherwise the service account for people, if the agent has one.
/// - Otherwise the agent itself.
pub(super) fn impersonate(
    headers: &mut HeaderMap,
    wanted: Option<&Impersonation>,
    user_access: Option<&str>,
) -> Result<(), Refused> {
    if let Some(name) = headers
        .keys()
        .find(|name| name.as_str().starts_with(HEADER_PREFIX))
    {
        return Err(Refused(format!(
            "nested impersonation is not supported: the request has a header {name}"
        )));
    }
    match (wanted, user_access) {
        (Some(wanted), _) => {
            for (name, value) in checked(wanted)? {
                headers.append(name, value);
            }
        }
        (None, Some(user)) => {
            let user = value(user)?;
            headers.insert(HeaderName::from_static("impersonate-user"), user);
        }
        (None, None) => {}
    }
    Ok(())
}

fn checked(wanted: &Impersonation) -> Result<Vec<(HeaderName, HeaderValue)>, Refused> {
    let Impersonation {
        username,
        groups,
        uid,
        extra,
    } = wanted;
    for name in std::iter::once(username).chain(groups) {
        if !name.starts_with(PREFIX) {
            return Err(Refused(format!(
                "the server may impersonate users and groups that begin with {PREFIX:?}, and {name:?} does not"
            )));
        }
    }
    let mut headers = vec![(
        HeaderName::from_static("impersonate-user"),
        value(username)?,
    )];
    for group in groups {
        headers.push((HeaderName::from_static("impersonate-group"), value(group)?));
    }
    if !uid.is_empty() {
        headers.push((HeaderName::from_static("impersonate-uid"), value(uid)?));
    }
    for (key, values) in extra {
        let name = extra_name(key)?;
        for text in values {
            headers.push((name.clone(), value(text)?));
        }
    }
    Ok(headers)
}

fn value(text: &str) -> Result<HeaderValue, Refused> {
    HeaderValue::from_str(text).map_err(|_| Refused(format!("{text:?} cannot be sent as a header")))
}

/// The key is part of the header's name, percent-encoded where a name may not have its characters.
fn extra_name(key: &str) -> Result<HeaderName, Refused> {
    let mut name = String::from("impersonate-extra-");
    for byte in key.bytes() {
        match byte {
            b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' => name.push(char::from(byte)),
            _ => name.push_str(&format!("%{byte:02x}")),
        }
    }
    HeaderName::from_bytes(name.as_bytes())
        .map_err(|_| Refused(format!("{key:?} cannot be sent in a header's name")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(
        given: &[(&'static str, &'static str)],
        wanted: Option<Impersonation>,
        user_access: Option<&str>,
    ) -> Result<Vec<String>, Refused> {
        let mut headers = HeaderMap::new();
        for (name, value) in given {
            headers.append(*name, HeaderValue::from_static(value));
        }
        impersonate(&mut headers, wanted.as_ref(), user_access)?;
        Ok(headers
            .iter()
            .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
            .collect())
    }

    fn gitlab_user() -> Impersonation {
        Impersonation {
            username: "gitlab:user:ada".to_owned(),
            groups: vec![
                "gitlab:user".to_owned(),
                "gitlab:project_role:1:developer".to_owned(),
            ],
            uid: String::new(),
            extra: vec![("agent.gitlab.com/id".to_owned(), vec!["7".to_owned()])],
        }
    }

    #[test]
    fn people_run_as_the_service_account_for_them() {
        let account = Some("system:serviceaccount:ns:people");
        assert_eq!(
            run(&[], None, account).unwrap(),
            ["impersonate-user: system:serviceaccount:ns:people"]
        );
        assert_eq!(run(&[], None, None).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn the_servers_own_users_are_passed_on() {
        assert_eq!(
            run(
                &[],
                Some(gitlab_user()),
                Some("system:serviceaccount:ns:people")
            )
            .unwrap(),
            [
                "impersonate-user: gitlab:user:ada",
                "impersonate-group: gitlab:user",
                "impersonate-group: gitlab:project_role:1:developer",
                "impersonate-extra-agent.gitlab.com%2fid: 7",
            ]
        );
    }

    #[test]
    fn the_clusters_users_and_groups_are_refused() {
        let mut user = gitlab_user();
        user.username = "system:admin".to_owned();
        let mut group = gitlab_user();
        group.groups.push("system:masters".to_owned());
        let mut nobody = gitlab_user();
        nobody.username = String::new();
        for wanted in [user, group, nobody] {
            assert!(run(&[], Some(wanted), None).is_err());
        }
    }

    #[test]
    fn a_request_that_impersonates_by_itself_is_refused() {
        for name in [
            "impersonate-user",
            "impersonate-group",
            "impersonate-extra-x",
        ] {
            let refused = run(&[(name, "gitlab:x")], None, None).unwrap_err();
            assert!(refused.0.contains(name));
        }
    }
}
