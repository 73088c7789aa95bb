//! Counts attempts by somebody or something, within a window that begins with the first.

use std::{
    collections::HashMap,
    hash::Hash,
    net::{IpAddr, Ipv6Addr},
    time::{Duration, Instant},
};

use super::TooMany;

/// Attempts by key; bounded in number and time.
#[derive(Debug)]
pub(super) struct Attempts<K> {
    most: u32,
    window: Duration,
    capacity: usize,
    counts: HashMap<K, Count>,
}

#[derive(Clone, Copy, Debug)]
struct Count {
    began: Instant,
    attempts: u32,
}

impl<K: Copy + Eq + Hash> Attempts<K> {
    pub(super) fn new(most: u32, window: Duration, capacity: usize) -> Self {
        Self {
            most,
            window,
            capacity,
            counts: HashMap::new(),
        }
    }

    /// Counts one more.
    pub(super) fn begin(&mut self, key: K, now: Instant) -> Result<(), TooMany> {
        let is_over = |it: &Count| now.saturating_duration_since(it.began) >= self.window;
        if !self.counts.contains_key(&key) && self.counts.len() >= self.capacity {
            self.counts.retain(|_, it| !is_over(it));
            let oldest = self.counts.iter().min_by_key(|(_, it)| it.began);
            if let Some(oldest) = oldest.map(|(key, _)| *key)
                && self.counts.len() >= self.capacity
            {
                self.counts.remove(&oldest);
            }
        }
        let fresh = Count {
            began: now,
            attempts: 0,
        };
        let count = self.counts.entry(key).or_insert(fresh);
        if is_over(count) {
            *count = fresh;
        }
        if count.attempts >= self.most {
            let passed = now.saturating_duration_since(count.began);
            let retry_after = self.window.saturating_sub(passed);
            return Err(TooMany { retry_after });
        }
        count.attempts += 1;
        Ok(())
    }

    pub(super) fn forget(&mut self, key: &K) {
        self.counts.remove(key);
    }
}

/// What one customer of a provider has: an IPv4 address, or a /64 of IPv6.
pub(super) fn block(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let network = u128::from(address) & !u128::from(u64::MAX);
            IpAddr::V6(Ipv6Addr::from(network))
        }
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_bounded_and_the_oldest_is_forgotten_first() {
        let (now, second) = (Instant::now(), Duration::from_secs(1));
        let mut attempts = Attempts::new(1, 10 * second, 2);
        attempts.begin(1, now).unwrap();
        attempts.begin(2, now + second).unwrap();
        attempts.begin(3, now + 2 * second).unwrap();
        assert_eq!(attempts.counts.len(), 2);
        attempts.begin(1, now + 3 * second).unwrap();
        assert!(attempts.begin(3, now + 3 * second).is_err());
    }

    #[test]
    fn an_ipv6_network_is_one_customer() {
        let of = |text: &str| block(text.parse().unwrap()).to_string();
        assert_eq!(of("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(of("192.0.2.1"), "192.0.2.1");
        assert_eq!(of("::ffff:192.0.2.1"), "192.0.2.1");
    }
}
