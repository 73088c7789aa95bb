//! Passwords: argon2id with OWASP's parameters (19 MiB, two passes), a few at a time.

use std::{fmt, sync::Arc};

use argon2::{
    Argon2,
    password_hash::{PasswordHasher as _, PasswordVerifier as _, phc},
};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use crate::secret::Secret;

/// Shortest and longest password, in characters and in bytes: a longer one would only cost time.
const MIN_CHARACTERS: usize = 12;
const MAX_BYTES: usize = 256;
/// Hashed at a time: each takes 19 MiB and some ten milliseconds of a core.
const MAX_CONCURRENT: usize = 2;
/// Who waits longer behind others is told to try again.
const MAX_WAITING: usize = 64;

/// A password that somebody chose, on its way to its hash.
#[derive(Clone)]
pub(crate) struct Password(String);

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a password has at least {MIN_CHARACTERS} characters and at most {MAX_BYTES} bytes")]
pub(crate) struct PasswordError;

impl Password {
    /// One that may be set.
    pub(crate) fn chosen(text: String) -> Result<Self, PasswordError> {
        let fits = text.chars().count() >= MIN_CHARACTERS && text.len() <= MAX_BYTES;
        fits.then_some(Self(text)).ok_or(PasswordError)
    }

    /// One that nobody guesses, to be handed over and then changed.
    pub(crate) fn generate() -> Self {
        Self(Secret::generate("").expose().to_owned())
    }

    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

/// What is kept of a password: a string in the PHC format.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct PasswordHash(String);

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash(…)")
    }
}

/// Too many passwords are being looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the server looks at too many passwords at the moment")]
pub(crate) struct Busy;

/// Hashes and compares passwords.
#[derive(Debug)]
pub(crate) struct Passwords {
    permits: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
    /// What is compared with where there is no password, so that an unknown name takes as long as a known one.
    nobody: PasswordHash,
}

impl Passwords {
    pub(crate) fn new() -> Self {
        Self {
            permits: Arc::new(Semaphore::new(MAX_CONCURRENT)),
            waiting: Arc::new(Semaphore::new(MAX_WAITING)),
            nobody: hash(Password::generate().expose()),
        }
    }

    /// # Errors
    /// When too many wait already.
    pub(crate) async fn hash(&self, password: Password) -> Result<PasswordHash, Busy> {
        self.run(move || hash(password.expose())).await
    }

    /// Whether it is the password; takes as long when there is none.
    ///
    /// # Errors
    /// When too many wait already.
    pub(crate) async fn matches(
        &self,
        presented: String,
        kept: Option<PasswordHash>,
    ) -> Result<bool, Busy> {
        let exists = kept.is_some();
        let kept = kept.unwrap_or_else(|| self.nobody.clone());
        // None that could be set is longer.
        let fits = presented.len() <= MAX_BYTES;
        let presented = if fits { presented } else { String::new() };
        let matches = self.run(move || matches(&presented, &kept)).await?;
        Ok(matches && exists && fits)
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Busy> {
        let _waiting = self.waiting.try_acquire().map_err(|_| Busy)?;
        let permit = Arc::clone(&self.permits).acquire_owned().await;
        let permit = permit.map_err(|_| Busy)?;
        // The work goes on when the caller goes away, and so does its permit.
        let run = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            work()
        });
        run.await.map_err(|_| Busy)
    }
}

/// The crate's defaults are argon2id with OWASP's parameters; a test holds it to them.
fn hash(password: &str) -> PasswordHash {
    let hash = Argon2::default().hash_password(password.as_bytes());
    PasswordHash(
        hash.expect("the parameters are right and there is randomness")
            .to_string(),
    )
}

fn matches(password: &str, kept: &PasswordHash) -> bool {
    let Ok(kept) = phc::PasswordHash::new(&kept.0) else {
        return false;
    };
    let argon2 = Argon2::default();
    argon2.verify_password(password.as_bytes(), &kept).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_password_matches_its_hash() {
        let passwords = Passwords::new();
        let password = Password::chosen("correct horse".into()).unwrap();
        let kept = passwords.hash(password.clone()).await.unwrap();
        assert!(
            kept.0.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"),
            "{}",
            kept.0
        );
        let matches = async |presented: &str, kept: Option<&PasswordHash>| {
            let matches = passwords.matches(presented.to_owned(), kept.cloned());
            matches.await.unwrap()
        };
        assert!(matches("correct horse", Some(&kept)).await);
        assert!(!matches("correct hors", Some(&kept)).await);
        assert!(!matches("", Some(&kept)).await);
        assert!(!matches("correct horse", None).await);
        assert!(!matches(&"x".repeat(MAX_BYTES + 1), Some(&kept)).await);
        let again = passwords.hash(password).await.unwrap();
        assert_ne!(kept, again);
        assert_eq!(format!("{kept:?}"), "PasswordHash(…)");
    }

    #[test]
    fn passwords_are_neither_short_nor_endless() {
        for bad in ["short", "äöüäöüäöüäö", &"x".repeat(MAX_BYTES + 1)] {
            assert!(Password::chosen(bad.to_owned()).is_err(), "{bad}");
        }
        let good = Password::chosen("äöüäöüäöüäöü".into()).unwrap();
        assert_eq!(format!("{good:?}"), "Password(…)");
    }
}
