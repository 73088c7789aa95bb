//! One user.

use std::{fmt, str::FromStr};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::password::PasswordHash;
use crate::authorization::Role;

/// Longest name.
const MAX_NAME: usize = 64;

/// What a user is called. It stands in addresses and in the names that clusters know people by (`gitlab:user:…`), so it is
/// in lowercase and has few kinds of letters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct UserName(String);

/// The text is none that a user can be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a user's name has 1 to {MAX_NAME} of a-z, 0-9 and . _ - @ +, and begins with a letter or digit"
)]
pub(crate) struct UserNameError;

impl UserName {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for UserName {
    type Err = UserNameError;

    fn from_str(text: &str) -> Result<Self, UserNameError> {
        let is_plain = |it: u8| it.is_ascii_lowercase() || it.is_ascii_digit();
        let fits = (1..=MAX_NAME).contains(&text.len())
            && text
                .bytes()
                .all(|it| is_plain(it) || b"._-@+".contains(&it))
            && text.bytes().next().is_some_and(is_plain);
        match fits {
            true => Ok(Self(text.to_owned())),
            false => Err(UserNameError),
        }
    }
}

impl TryFrom<String> for UserName {
    type Error = UserNameError;

    fn try_from(text: String) -> Result<Self, UserNameError> {
        text.parse()
    }
}

impl From<UserName> for String {
    fn from(name: UserName) -> Self {
        name.0
    }
}

impl fmt::Display for UserName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum UserState {
    #[default]
    Active,
    /// May do nothing, and nothing of theirs goes on.
    Suspended,
}

/// Who somebody is at a provider of OpenID Connect. Names there may change and be given anew; this may not.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Identity {
    pub(crate) issuer: String,
    pub(crate) subject: String,
}

/// A user.
#[derive(Clone, Debug)]
pub(crate) struct User {
    pub(crate) id: u64,
    pub(crate) name: UserName,
    pub(crate) role: Role,
    pub(crate) state: UserState,
    /// Whom the server's own machine acts as.
    pub(crate) local: bool,
    pub(crate) password: Option<PasswordHash>,
    pub(crate) identities: Vec<Identity>,
    /// None: before this was kept.
    pub(crate) created_at: Option<Timestamp>,
    /// In the store.
    pub(super) version: u64,
}

impl User {
    pub(super) fn local_administrator(id: u64) -> Self {
        Self {
            id,
            name: UserName("administrator".into()),
            role: Role::Administrator,
            state: UserState::Active,
            local: true,
            password: None,
            identities: Vec::new(),
            created_at: Some(Timestamp::now()),
            version: 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_plain() {
        for good in ["a", "ada.l", "0", "ada@example.com", "a+b_c-d"] {
            assert_eq!(good.parse::<UserName>().unwrap().as_str(), good);
        }
        let long = "a".repeat(MAX_NAME + 1);
        for bad in ["", "Ada", ".a", "a b", "a/b", "a:b", "ä", "a\n", &long] {
            assert_eq!(bad.parse::<UserName>(), Err(UserNameError), "{bad:?}");
        }
    }
}
