//! Single-use sign-in links, in memory: after a restart one makes a new one.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use crate::secret::{Digest, Secret};

/// How long a link can be used.
pub(crate) const LINK_LENGTH: Duration = Duration::from_secs(15 * 60);
/// Links that are open at a time; the oldest goes when one more is made.
const MAX_LINKS: usize = 16;
/// Attempts in one minute, of everybody together: a link has 256 bits, so this is about load, not about guessing.
const MAX_ATTEMPTS: u32 = 30;
const ATTEMPTS_WINDOW: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(crate) struct SignIn {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    links: HashMap<Digest, Instant>,
    window_began: Instant,
    attempts: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Attempt {
    SignedIn,
    /// Never made, used already, or expired.
    NoSuchLink,
    TooMany,
}

impl SignIn {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            state: Mutex::new(State {
                links: HashMap::new(),
                window_began: now,
                attempts: 0,
            }),
        }
    }

    pub(crate) fn create(&self, now: Instant) -> Secret {
        let secret = Secret::generate("");
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.links.retain(|_, expires| *expires > now);
        if state.links.len() >= MAX_LINKS {
            let oldest = state.links.iter().min_by_key(|(_, expires)| **expires);
            if let Some(oldest) = oldest.map(|(digest, _)| *digest) {
                state.links.remove(&oldest);
            }
        }
        state.links.insert(secret.digest(), now + LINK_LENGTH);
        secret
    }

    /// Uses a link up.
    pub(crate) fn attempt(&self, presented: &str, now: Instant) -> Attempt {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if now.duration_since(state.window_began) >= ATTEMPTS_WINDOW {
            state.window_began = now;
            state.attempts = 0;
        }
        if state.attempts >= MAX_ATTEMPTS {
            return Attempt::TooMany;
        }
        state.attempts += 1;
        match state.links.remove(&Digest::of(presented)) {
            Some(expires) if expires > now => Attempt::SignedIn,
            Some(_) | None => Attempt::NoSuchLink,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_works_once_and_not_for_ever() {
        let now = Instant::now();
        let sign_in = SignIn::new(now);
        let link = sign_in.create(now);
        assert_eq!(sign_in.attempt("other", now), Attempt::NoSuchLink);
        assert_eq!(sign_in.attempt(link.expose(), now), Attempt::SignedIn);
        assert_eq!(sign_in.attempt(link.expose(), now), Attempt::NoSuchLink);
        let late = sign_in.create(now);
        assert_eq!(
            sign_in.attempt(late.expose(), now + LINK_LENGTH),
            Attempt::NoSuchLink
        );
    }

    #[test]
    fn attempts_are_limited_for_a_minute() {
        let now = Instant::now();
        let sign_in = SignIn::new(now);
        let link = sign_in.create(now);
        for _ in 0..MAX_ATTEMPTS {
            sign_in.attempt("guess", now);
        }
        assert_eq!(sign_in.attempt(link.expose(), now), Attempt::TooMany);
        let later = now + ATTEMPTS_WINDOW;
        assert_eq!(sign_in.attempt(link.expose(), later), Attempt::SignedIn);
    }

    #[test]
    fn open_links_are_few() {
        let now = Instant::now();
        let sign_in = SignIn::new(now);
        let first = sign_in.create(now);
        for i in 1..=MAX_LINKS {
            sign_in.create(now + Duration::from_secs(i as u64));
        }
        assert_eq!(sign_in.attempt(first.expose(), now), Attempt::NoSuchLink);
    }
}
