//! Signing in: single-use links, in memory, and the limits of attempts. After a restart one makes a new link.

mod attempts;

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crate::secret::{Digest, Secret};
use attempts::{Attempts, block};

/// How long a link can be used.
pub(crate) const LINK_LENGTH: Duration = Duration::from_secs(15 * 60);
/// Links that are open at a time; the oldest goes when one more is made.
const MAX_LINKS: usize = 16;
/// Attempts from one address (of IPv6: from one /64) within [`WINDOW`]. People behind one proxy share it.
const MAX_FROM_ADDRESS: u32 = 60;
/// Wrong passwords for one name within [`WINDOW`].
const MAX_FOR_NAME: u32 = 10;
const WINDOW: Duration = Duration::from_secs(5 * 60);
/// Addresses and names that are remembered; the oldest is forgotten for one more.
const MAX_REMEMBERED: usize = 10_000;

#[derive(Debug)]
pub(crate) struct SignIn {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    links: HashMap<Digest, Link>,
    from_address: Attempts<Option<IpAddr>>,
    for_name: Attempts<Digest>,
}

#[derive(Clone, Copy, Debug)]
struct Link {
    user_id: u64,
    expires: Instant,
}

/// What a link did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Attempt {
    SignedIn {
        user_id: u64,
    },
    /// Never made, used already, or expired.
    NoSuchLink,
    TooMany(TooMany),
}

/// Too many attempts; how long to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooMany {
    pub(crate) retry_after: Duration,
}

impl SignIn {
    pub(crate) fn new() -> Self {
        Self {
            state: Mutex::new(State {
                links: HashMap::new(),
                from_address: Attempts::new(MAX_FROM_ADDRESS, WINDOW, MAX_REMEMBERED),
                for_name: Attempts::new(MAX_FOR_NAME, WINDOW, MAX_REMEMBERED),
            }),
        }
    }

    pub(crate) fn create(&self, user_id: u64, now: Instant) -> Secret {
        let secret = Secret::generate("");
        let links = &mut self.state().links;
        links.retain(|_, link| link.expires > now);
        if links.len() >= MAX_LINKS {
            let oldest = links.iter().min_by_key(|(_, link)| link.expires);
            if let Some(oldest) = oldest.map(|(digest, _)| *digest) {
                links.remove(&oldest);
            }
        }
        let expires = now + LINK_LENGTH;
        links.insert(secret.digest(), Link { user_id, expires });
        secret
    }

    /// Uses a link up.
    pub(crate) fn attempt(&self, presented: &str, from: Option<IpAddr>, now: Instant) -> Attempt {
        if let Err(too_many) = self.arrive(from, now) {
            return Attempt::TooMany(too_many);
        }
        match self.state().links.remove(&Digest::of(presented)) {
            Some(Link { user_id, expires }) if expires > now => Attempt::SignedIn { user_id },
            Some(_) | None => Attempt::NoSuchLink,
        }
    }

    /// Counts an attempt from an address.
    ///
    /// # Errors
    /// When there were too many from there.
    pub(crate) fn arrive(&self, from: Option<IpAddr>, now: Instant) -> Result<(), TooMany> {
        self.state().from_address.begin(from.map(block), now)
    }

    /// Counts an attempt with a password before it is looked at, so that many at once are no more than that many.
    ///
    /// # Errors
    /// When there were too many from the address or for the name.
    pub(crate) fn try_password(
        &self,
        name: &str,
        from: Option<IpAddr>,
        now: Instant,
    ) -> Result<(), TooMany> {
        self.arrive(from, now)?;
        // By hash: what is typed as a name may be anything, a password too.
        self.state().for_name.begin(Digest::of(name), now)
    }

    /// The password was right: the name's wrong ones are forgotten.
    pub(crate) fn password_was_right(&self, name: &str) {
        self.state().for_name.forget(&Digest::of(name));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOME: Option<IpAddr> = Some(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST));

    #[test]
    fn a_link_works_once_for_its_user_and_not_for_ever() {
        let now = Instant::now();
        let sign_in = SignIn::new();
        let link = sign_in.create(7, now);
        let attempt = |text: &str, now| sign_in.attempt(text, HOME, now);
        assert_eq!(attempt("other", now), Attempt::NoSuchLink);
        assert_eq!(
            attempt(link.expose(), now),
            Attempt::SignedIn { user_id: 7 }
        );
        assert_eq!(attempt(link.expose(), now), Attempt::NoSuchLink);
        let late = sign_in.create(7, now);
        let later = now + LINK_LENGTH;
        assert_eq!(attempt(late.expose(), later), Attempt::NoSuchLink);
    }

    #[test]
    fn attempts_from_one_address_are_limited_for_a_while_and_others_go_on() {
        let now = Instant::now();
        let sign_in = SignIn::new();
        let link = sign_in.create(7, now);
        for _ in 0..MAX_FROM_ADDRESS {
            sign_in.attempt("guess", HOME, now);
        }
        let later = now + Duration::from_secs(60);
        let retry_after = WINDOW - Duration::from_secs(60);
        assert_eq!(
            sign_in.attempt(link.expose(), HOME, later),
            Attempt::TooMany(TooMany { retry_after })
        );
        assert_eq!(
            sign_in.attempt(link.expose(), None, later),
            Attempt::SignedIn { user_id: 7 }
        );
        assert_eq!(sign_in.arrive(HOME, now + WINDOW), Ok(()));
    }

    #[test]
    fn wrong_passwords_for_one_name_are_limited_from_wherever_they_come() {
        let now = Instant::now();
        let sign_in = SignIn::new();
        let address = |number: u32| Some(IpAddr::from(number.to_be_bytes()));
        for number in 0..MAX_FOR_NAME {
            sign_in.try_password("ada", address(number), now).unwrap();
        }
        let refused = sign_in.try_password("ada", address(99), now);
        assert_eq!(
            refused,
            Err(TooMany {
                retry_after: WINDOW
            })
        );
        sign_in.try_password("bob", address(99), now).unwrap();
        sign_in.password_was_right("ada");
        sign_in.try_password("ada", address(99), now).unwrap();
    }

    #[test]
    fn open_links_are_few() {
        let now = Instant::now();
        let sign_in = SignIn::new();
        let first = sign_in.create(7, now);
        for i in 1..=MAX_LINKS {
            sign_in.create(7, now + Duration::from_secs(i as u64));
        }
        assert_eq!(
            sign_in.attempt(first.expose(), HOME, now),
            Attempt::NoSuchLink
        );
    }
}
