//! Secrets that the server gives out, and what it keeps of them.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::rand::{SecureRandom as _, SystemRandom};
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq as _;

/// 256 bits: too many to guess, so that a fast hash is enough to store.
const SECRET_BYTES: usize = 32;
/// Ids stay below what a JSON reader with doubles keeps exact.
const ID_BITS: u32 = 53;

/// A secret in the clear, on its way to the one who asked for it.
#[derive(Clone)]
pub(crate) struct Secret(String);

impl Secret {
    /// A new secret: the prefix and 256 random bits.
    pub(crate) fn generate(prefix: &str) -> Self {
        let mut bytes = [0; SECRET_BYTES];
        fill_random(&mut bytes);
        Self(format!("{prefix}{}", URL_SAFE_NO_PAD.encode(bytes)))
    }

    /// A secret that another server gave out, if it has the prefix and the length of ours.
    pub(crate) fn imported(prefix: &str, text: &str) -> Option<Self> {
        let random = text.strip_prefix(prefix)?;
        let is_long = URL_SAFE_NO_PAD
            .decode(random)
            .is_ok_and(|it| it.len() == SECRET_BYTES);
        is_long.then(|| Self(text.to_owned()))
    }

    pub(crate) fn expose(&self) -> &str {
        &self.0
    }

    pub(crate) fn digest(&self) -> Digest {
        Digest::of(&self.0)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// SHA-256 of a secret: all that is stored.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Digest([u8; 32]);

impl Digest {
    pub(crate) fn of(secret: &str) -> Self {
        let digest = ring::digest::digest(&ring::digest::SHA256, secret.as_bytes());
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest.as_ref());
        Self(bytes)
    }

    /// In letters that need no escaping anywhere.
    pub(crate) fn to_text(self) -> String {
        URL_SAFE_NO_PAD.encode(self.0)
    }

    pub(crate) fn from_text(text: &str) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        bytes.try_into().ok().map(Self)
    }

    /// Compares in constant time.
    pub(crate) fn matches(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Digest(…)")
    }
}

impl Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.to_text())
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::from_text(&text).ok_or_else(|| serde::de::Error::custom("not a SHA-256 digest"))
    }
}

/// A random id, so that a new server never names a stranger's things by chance.
pub(crate) fn random_id() -> u64 {
    loop {
        let mut bytes = [0; 8];
        fill_random(&mut bytes);
        let id = u64::from_le_bytes(bytes) >> (64 - ID_BITS);
        if id != 0 {
            return id;
        }
    }
}

pub(crate) fn fill_random(bytes: &mut [u8]) {
    SystemRandom::new()
        .fill(bytes)
        .expect("the operating system gives random bytes");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_shows_neither_itself_nor_its_digest() {
        let secret = Secret::generate("glagent-");
        assert!(secret.expose().starts_with("glagent-") && secret.expose().len() == 8 + 43);
        let shown = format!("{secret:?} {:?}", secret.digest());
        assert_eq!(shown, "Secret(…) Digest(…)");
    }

    #[test]
    fn a_digest_survives_storage_and_matches_only_its_secret() {
        let digest = Digest::of("one");
        let stored = serde_json::to_string(&digest).unwrap();
        let read: Digest = serde_json::from_str(&stored).unwrap();
        assert!(read.matches(&digest) && !read.matches(&Digest::of("two")));
        assert!(serde_json::from_str::<Digest>("\"YQ\"").is_err());
    }

    #[test]
    fn ids_are_exact_in_every_json_reader() {
        for _ in 0..1000 {
            assert!((1..1 << 53).contains(&random_id()));
        }
    }
}
