//! Which workspace is worked on next: fair, bounded, and each with a delay of its own, so that a bad one never holds up
//! the others.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// So many workspaces are worked on at the same time. Each sends its calls one after the other, so this is also the number
/// of requests under way: far below what an API server lets one client have (200 writes by default), and enough that 100
/// new workspaces of a dozen writes each take seconds.
pub const MAX_CONCURRENT: usize = 16;
/// The first delay after a failure.
const FIRST_DELAY: Duration = Duration::from_secs(1);
/// The longest.
const MAX_DELAY: Duration = Duration::from_secs(5 * 60);
/// Work that is wanted again within this time after it succeeded was undone by somebody: it is done again, but with a
/// growing delay, so that two who disagree do not fill the API server.
const STABLE_AFTER: Duration = Duration::from_secs(60);

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Everything is as it should be.
    Settled,
    /// Something has to happen by itself first.
    Waiting,
    /// It failed.
    Failed,
}

/// The schedule of workspaces, by a key that orders them.
#[derive(Debug, Clone)]
pub struct Schedule<K> {
    entries: BTreeMap<K, Entry>,
    /// Who is due when, without those that are running.
    queue: BTreeSet<(Duration, K)>,
    running: usize,
}

#[derive(Debug, Clone, Default)]
struct Entry {
    /// Failures, or undone successes, in a row.
    failures: u32,
    /// Looks in a row that found that nothing has moved.
    looks: u32,
    /// No attempt before.
    not_before: Duration,
    /// When the next attempt is wanted.
    wanted: Option<Duration>,
    settled_at: Option<Duration>,
    running: bool,
    /// Something new was wanted while it ran.
    changed: bool,
}

impl<K> Default for Schedule<K> {
    fn default() -> Self {
        Self {
            entries: BTreeMap::new(),
            queue: BTreeSet::new(),
            running: 0,
        }
    }
}

impl<K: Ord + Clone + std::hash::Hash> Schedule<K> {
    /// The server wants something new of it: what went wrong before counts no more.
    pub fn changed(&mut self, key: &K) {
        let entry = self.entries.entry(key.clone()).or_default();
        if entry.running {
            entry.changed = true;
            return;
        }
        let (wanted, mut fresh) = (entry.wanted, Entry::default());
        if let Some(due) = wanted {
            self.queue.remove(&(due, key.clone()));
            fresh.wanted = Some(Duration::ZERO);
            self.queue.insert((Duration::ZERO, key.clone()));
        }
        *entry = fresh;
    }

    /// There is something to do.
    pub fn want(&mut self, key: &K, now: Duration) {
        let entry = self.entries.entry(key.clone()).or_default();
        if entry.running {
            return;
        }
        if let Some(settled) = entry.settled_at.take() {
            entry.failures = match now < settled + STABLE_AFTER {
                true => entry.failures.saturating_add(1),
                false => 0,
            };
            if entry.failures > 0 {
                entry.not_before = settled + delay(key, entry.failures);
            }
        }
        let due = entry.not_before.max(match entry.wanted {
            Some(wanted) => wanted.min(now),
            None => now,
        });
        self.set(key, Some(due));
    }

    /// There is nothing to do, but somebody should look again later.
    pub fn look_later(&mut self, key: &K, now: Duration) {
        let entry = self.entries.entry(key.clone()).or_default();
        if entry.running || entry.wanted.is_some_and(|due| due > now) {
            return;
        }
        let due = (now + delay(key, entry.looks + 1)).max(entry.not_before);
        self.set(key, Some(due));
    }

    /// There is nothing to do.
    pub fn rest(&mut self, key: &K) {
        if self.entries.get(key).is_some_and(|entry| !entry.running) {
            self.set(key, None);
        }
    }

    /// It is gone for good.
    pub fn forget(&mut self, key: &K) {
        if self.entries.get(key).is_some_and(|entry| !entry.running) {
            self.set(key, None);
            self.entries.remove(key);
        }
    }

    /// Who starts now, if anybody may.
    pub fn next(&mut self, now: Duration) -> Option<K> {
        if self.running >= MAX_CONCURRENT {
            return None;
        }
        let (due, key) = self.queue.first()?.clone();
        if due > now {
            return None;
        }
        self.set(&key, None);
        self.entries.get_mut(&key)?.running = true;
        self.running += 1;
        Some(key)
    }

    /// An attempt is over. Whether more is to be done is for the caller to say, by [`Schedule::want`] and the like.
    pub fn ended(&mut self, key: &K, end: End, now: Duration) {
        let Some(entry) = self.entries.get_mut(key).filter(|entry| entry.running) else {
            return;
        };
        self.running -= 1;
        if entry.changed {
            *entry = Entry::default();
            return;
        }
        entry.running = false;
        entry.not_before = now;
        match end {
            End::Settled => {
                entry.settled_at = Some(now);
                entry.looks = 0;
            }
            End::Waiting => entry.looks = entry.looks.saturating_add(1),
            End::Failed => {
                entry.failures = entry.failures.saturating_add(1);
                entry.not_before = now + delay(key, entry.failures);
            }
        }
    }

    /// Whether it is being worked on.
    #[must_use]
    pub fn is_running(&self, key: &K) -> bool {
        self.entries.get(key).is_some_and(|entry| entry.running)
    }

    /// When it is tried next.
    #[must_use]
    pub fn due(&self, key: &K) -> Option<Duration> {
        self.entries.get(key)?.wanted
    }

    /// When [`Schedule::next`] may have somebody; `None` while nobody waits, or all places are taken.
    #[must_use]
    pub fn next_wake(&self) -> Option<Duration> {
        if self.running >= MAX_CONCURRENT {
            return None;
        }
        self.queue.first().map(|(due, _)| *due)
    }

    fn set(&mut self, key: &K, wanted: Option<Duration>) {
        let Some(entry) = self.entries.get_mut(key) else {
            return;
        };
        if let Some(due) = std::mem::replace(&mut entry.wanted, wanted) {
            self.queue.remove(&(due, key.clone()));
        }
        if let Some(due) = wanted {
            self.queue.insert((due, key.clone()));
        }
    }
}

/// Doubles with each failure. The part that differs between workspaces is drawn from their keys: this crate has no
/// randomness, and all that counts is that they do not come back in step.
fn delay<K: std::hash::Hash>(key: &K, failures: u32) -> Duration {
    use std::hash::{Hash as _, Hasher as _};
    let doubled = FIRST_DELAY.saturating_mul(1 << failures.saturating_sub(1).min(16));
    let mut hasher = std::hash::DefaultHasher::new();
    key.hash(&mut hasher);
    failures.hash(&mut hasher);
    // 80 to 100 %.
    let percent = 80 + u32::try_from(hasher.finish() % 21).unwrap_or(0);
    doubled.min(MAX_DELAY) * percent / 100
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn run(schedule: &mut Schedule<u8>, key: u8, now: Duration, end: End) {
        assert_eq!(schedule.next(now), Some(key));
        schedule.ended(&key, end, now);
    }

    #[test]
    fn delays_grow_to_five_minutes_and_a_new_generation_starts_afresh() {
        let mut schedule = Schedule::default();
        let mut now = Duration::ZERO;
        let mut last = Duration::ZERO;
        for _ in 0..20 {
            schedule.want(&1, now);
            run(&mut schedule, 1, now, End::Failed);
            schedule.want(&1, now);
            assert_eq!(schedule.next(now), None);
            last = schedule.due(&1).unwrap() - now;
            now += last;
        }
        assert!(last > MAX_DELAY * 7 / 10 && last <= MAX_DELAY, "{last:?}");
        run(&mut schedule, 1, now, End::Failed);
        schedule.want(&1, now);
        schedule.changed(&1);
        assert_eq!(schedule.next(now), Some(1));
    }

    #[test]
    fn one_that_fails_does_not_delay_the_others() {
        let mut schedule = Schedule::default();
        schedule.want(&1, SECOND);
        run(&mut schedule, 1, SECOND, End::Failed);
        schedule.want(&1, SECOND);
        schedule.want(&2, SECOND);
        assert_eq!(schedule.next(SECOND), Some(2));
    }

    #[test]
    fn what_is_undone_at_once_is_done_again_with_a_delay() {
        let mut schedule = Schedule::default();
        schedule.want(&1, SECOND);
        run(&mut schedule, 1, SECOND, End::Settled);
        schedule.want(&1, 2 * SECOND);
        let first = schedule.due(&1).unwrap();
        assert!(first >= 2 * SECOND);
        run(&mut schedule, 1, first, End::Settled);
        schedule.want(&1, first);
        assert!(schedule.due(&1).unwrap() > first + SECOND);
        let later = first + 2 * STABLE_AFTER;
        schedule.rest(&1);
        let mut calm: Schedule<u8> = Schedule::default();
        calm.want(&1, SECOND);
        run(&mut calm, 1, SECOND, End::Settled);
        calm.want(&1, later);
        assert_eq!(calm.next(later), Some(1));
    }

    #[test]
    fn a_change_during_an_attempt_is_not_lost() {
        let mut schedule = Schedule::default();
        schedule.want(&1, SECOND);
        assert_eq!(schedule.next(SECOND), Some(1));
        schedule.changed(&1);
        schedule.ended(&1, End::Failed, SECOND);
        schedule.want(&1, SECOND);
        assert_eq!(schedule.next(SECOND), Some(1));
    }

    #[derive(Debug, Clone)]
    enum Step {
        Want(u8),
        Look(u8),
        Changed(u8),
        Rest(u8),
        Next,
        End(u8, End),
        Pass(u16),
    }

    fn any_step() -> impl Strategy<Value = Step> {
        let end = prop_oneof![Just(End::Settled), Just(End::Waiting), Just(End::Failed)];
        prop_oneof![
            (0..40_u8).prop_map(Step::Want),
            (0..40_u8).prop_map(Step::Look),
            (0..40_u8).prop_map(Step::Changed),
            (0..40_u8).prop_map(Step::Rest),
            Just(Step::Next),
            (0..40_u8, end).prop_map(|(key, end)| Step::End(key, end)),
            (0..2000_u16).prop_map(Step::Pass),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]

        /// Never two attempts of one, never more than allowed; and whoever is wanted runs within the longest delay.
        #[test]
        fn bounded_exclusive_and_never_starving(steps in prop::collection::vec(any_step(), 0..200)) {
            let mut schedule = Schedule::default();
            let mut running = BTreeSet::new();
            let mut now = Duration::ZERO;
            for step in steps {
                match step {
                    Step::Want(key) => schedule.want(&key, now),
                    Step::Look(key) => schedule.look_later(&key, now),
                    Step::Changed(key) => schedule.changed(&key),
                    Step::Rest(key) => schedule.rest(&key),
                    Step::Next => if let Some(key) = schedule.next(now) {
                        prop_assert!(running.insert(key), "{key} twice");
                    },
                    Step::End(key, end) => if running.remove(&key) {
                        schedule.ended(&key, end, now);
                    },
                    Step::Pass(millis) => now += Duration::from_millis(millis.into()),
                }
                prop_assert!(running.len() <= MAX_CONCURRENT);
                for key in 0..40 {
                    prop_assert_eq!(schedule.is_running(&key), running.contains(&key));
                    prop_assert!(schedule.due(&key).is_none_or(|due| due <= now + MAX_DELAY));
                }
            }
            for key in std::mem::take(&mut running) {
                schedule.ended(&key, End::Settled, now);
            }
            for key in 0..40 { schedule.want(&key, now); }
            now += MAX_DELAY;
            let mut done = BTreeSet::new();
            while let Some(key) = schedule.next(now) {
                done.insert(key);
                schedule.ended(&key, End::Settled, now);
            }
            prop_assert_eq!(done.len(), 40);
        }
    }
}
