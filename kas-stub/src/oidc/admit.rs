//! What the claims about somebody make of them here. Pure.

use serde_json::{Map, Value};

use super::Error;
use crate::{
    authorization::Role,
    directory::{Identity, UserName},
};

/// Longest text of a claim that is looked at.
const MAX_TEXT: usize = 255;
/// Groups that are looked at.
const MAX_GROUPS: usize = 10_000;

/// Who may come in, and as what.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    pub(super) name_claim: String,
    pub(super) groups_claim: String,
    pub(super) allowed_groups: Vec<String>,
    pub(super) allowed_domains: Vec<String>,
    pub(super) administrator_groups: Vec<String>,
}

/// Somebody who may come in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Admitted {
    pub(crate) identity: Identity,
    /// What a new user would be called, or why the claim is no name.
    pub(crate) name: Result<UserName, String>,
    /// None: the provider says nothing of roles.
    pub(crate) role: Option<Role>,
}

impl Rules {
    /// The claims that are needed; what the ID token lacks is asked for.
    pub(super) fn needed(&self) -> Vec<&str> {
        let mut needed = vec![&*self.name_claim];
        if !(self.allowed_groups.is_empty() && self.administrator_groups.is_empty()) {
            needed.push(&self.groups_claim);
        }
        if !self.allowed_domains.is_empty() {
            needed.extend(["email", "email_verified"]);
        }
        needed
    }

    /// Whether they may come in, and as what.
    pub(super) fn admit(
        &self,
        issuer: &str,
        subject: String,
        claims: &Map<String, Value>,
    ) -> Result<Admitted, Error> {
        let groups = groups(claims.get(&self.groups_claim));
        let is_in = |wanted: &[String]| wanted.iter().any(|it| groups.contains(&it.as_str()));
        if !self.allowed_groups.is_empty() && !is_in(&self.allowed_groups) {
            let claim = &self.groups_claim;
            return Err(Error::NotAdmitted(format!(
                "you are in none of the groups that may sign in here; the provider's claim {claim} says which you are in"
            )));
        }
        if !self.allowed_domains.is_empty() {
            self.check_domain(claims)?;
        }
        let role = match self.administrator_groups.is_empty() {
            true => None,
            false if is_in(&self.administrator_groups) => Some(Role::Administrator),
            false => Some(Role::User),
        };
        Ok(Admitted {
            identity: Identity {
                issuer: issuer.to_owned(),
                subject,
            },
            name: self.name(claims),
            role,
        })
    }

    fn check_domain(&self, claims: &Map<String, Value>) -> Result<(), Error> {
        let refused = |why: &str| Err(Error::NotAdmitted(why.to_owned()));
        let email = claims.get("email").and_then(Value::as_str);
        let domain = email.and_then(|it| it.rsplit_once('@'));
        let Some((_, domain)) = domain else {
            return refused("the provider says no e-mail address of you, which is needed here");
        };
        if claims.get("email_verified") != Some(&Value::Bool(true)) {
            return refused("the provider has not verified your e-mail address");
        }
        let is_allowed = |it: &String| it.eq_ignore_ascii_case(domain);
        match self.allowed_domains.iter().any(is_allowed) {
            true => Ok(()),
            false => refused("your e-mail address is in none of the domains that may sign in here"),
        }
    }

    /// The name, with what no name has replaced.
    fn name(&self, claims: &Map<String, Value>) -> Result<UserName, String> {
        let claim = &self.name_claim;
        let Some(text) = claims.get(claim).and_then(Value::as_str) else {
            return Err(format!("the provider's claim {claim} is missing"));
        };
        let plain: String = text
            .trim()
            .chars()
            .take(MAX_TEXT)
            .map(|it| it.to_ascii_lowercase())
            .map(|it| match it {
                'a'..='z' | '0'..='9' | '.' | '_' | '-' | '@' | '+' => it,
                _ => '-',
            })
            .collect();
        let name = plain.trim_start_matches(|it: char| !it.is_ascii_alphanumeric());
        name.parse()
            .map_err(|error| format!("the provider's claim {claim} is no name: {error}"))
    }
}

/// A list of texts, or one text.
fn groups(claim: Option<&Value>) -> Vec<&str> {
    match claim {
        Some(Value::Array(groups)) => {
            let texts = groups.iter().filter_map(Value::as_str);
            texts.take(MAX_GROUPS).collect()
        }
        Some(Value::String(group)) => vec![group],
        Some(_) | None => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rules() -> Rules {
        Rules {
            name_claim: "preferred_username".into(),
            groups_claim: "groups".into(),
            allowed_groups: Vec::new(),
            allowed_domains: Vec::new(),
            administrator_groups: Vec::new(),
        }
    }

    fn admit(rules: &Rules, claims: Value) -> Result<Admitted, String> {
        let claims = claims.as_object().unwrap();
        let admitted = rules.admit("https://issuer", "subject".into(), claims);
        admitted.map_err(|error| error.to_string())
    }

    #[test]
    fn a_claim_becomes_a_name() {
        let name = |claim: Value| {
            let admitted = admit(&rules(), json!({"preferred_username": claim}));
            admitted.unwrap().name.map(|it| it.to_string())
        };
        for (claim, expected) in [
            ("ada", "ada"),
            ("Ada.Lovelace", "ada.lovelace"),
            ("ada@example.com", "ada@example.com"),
            ("CORP\\ada", "corp-ada"),
            (" _ada byron ", "ada-byron"),
        ] {
            assert_eq!(name(json!(claim)).unwrap(), expected);
        }
        for (claim, says) in [
            (json!(null), "is missing"),
            (json!(7), "is missing"),
            (json!(""), "is no name"),
            (json!("☂"), "is no name"),
            (json!("a".repeat(65)), "is no name"),
        ] {
            let error = name(claim).unwrap_err();
            assert!(error.contains(says), "{error}");
        }
    }

    #[test]
    fn groups_let_in_and_make_administrators() {
        let rules = Rules {
            allowed_groups: vec!["staff".into()],
            administrator_groups: vec!["ops".into()],
            ..rules()
        };
        let role = |groups: Value| admit(&rules, json!({"groups": groups})).map(|it| it.role);
        assert_eq!(role(json!(["staff"])), Ok(Some(Role::User)));
        assert_eq!(role(json!("staff")), Ok(Some(Role::User)));
        assert_eq!(
            role(json!(["x", "ops", "staff"])),
            Ok(Some(Role::Administrator))
        );
        for outside in [
            json!(["ops"]),
            json!(["Staff"]),
            json!(null),
            json!({"staff": 1}),
        ] {
            let error = role(outside).unwrap_err();
            assert!(error.contains("in none of the groups"), "{error}");
        }
        assert_eq!(admit(&self::rules(), json!({})).unwrap().role, None);
    }

    #[test]
    fn only_verified_addresses_of_a_domain_let_in() {
        let rules = Rules {
            allowed_domains: vec!["example.com".into()],
            ..rules()
        };
        let may = |email: Value, verified: Value| {
            admit(&rules, json!({"email": email, "email_verified": verified})).map(drop)
        };
        assert_eq!(may(json!("ada@Example.com"), json!(true)), Ok(()));
        for (email, verified, says) in [
            (json!("ada@example.com"), json!(false), "not verified"),
            (json!("ada@example.com"), json!("true"), "not verified"),
            (json!("ada@example.com"), json!(null), "not verified"),
            (
                json!("ada@sub.example.com"),
                json!(true),
                "none of the domains",
            ),
            (
                json!("a@example.com@evil.org"),
                json!(true),
                "none of the domains",
            ),
            (json!("example.com"), json!(true), "no e-mail address"),
            (json!(null), json!(true), "no e-mail address"),
        ] {
            let error = may(email, verified).unwrap_err();
            assert!(error.contains(says), "{error}");
        }
    }

    #[test]
    fn only_what_is_used_is_needed() {
        assert_eq!(rules().needed(), ["preferred_username"]);
        let all = Rules {
            administrator_groups: vec!["ops".into()],
            allowed_domains: vec!["example.com".into()],
            ..rules()
        };
        let expected = ["preferred_username", "groups", "email", "email_verified"];
        assert_eq!(all.needed(), expected);
    }
}
