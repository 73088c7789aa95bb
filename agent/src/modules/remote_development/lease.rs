//! Which Pod leads: the one that holds a Lease.
//!
//! A leader that dies is replaced within [`DURATION`] and one [`RETRY`], 12 s. One that cannot renew stops leading after
//! [`RENEW_DEADLINE`], before anybody else may start. Everything is retried for ever: there is no end from which only a
//! restart would help. The other Pods' clocks do not matter: each measures for how long a lease did not change.

use std::sync::Mutex;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::api::{Api, CallError};

/// A lease that was not renewed for so long is free.
const DURATION: Duration = Duration::from_secs(10);
/// The leader renews it this often.
const RENEW: Duration = Duration::from_secs(3);
/// A leader that has not renewed it for so long stops.
const RENEW_DEADLINE: Duration = Duration::from_secs(7);
/// The others look this often.
const RETRY: Duration = Duration::from_secs(2);
/// And this often where they have no right to: that may be on purpose.
const RETRY_FORBIDDEN: Duration = Duration::from_secs(30);
/// No longer than what is left between deadline and duration.
const CALL_TIMEOUT: Duration = Duration::from_secs(3);
/// Another agent's lease is believed up to this duration.
const MAX_DURATION: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(super) struct Lease {
    api: Api,
    collection: String,
    path: String,
    name: String,
    namespace: String,
    identity: String,
    /// The lease as we wrote it last, and when that write began.
    held: Mutex<Option<(Value, Instant)>>,
}

/// What to do about a lease that was read.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// Take it, as the holder of this term.
    Take(u64),
    /// Another holds it.
    Wait,
}

/// For how long the lease has been seen unchanged.
#[derive(Debug, Default)]
struct Watch {
    version: String,
    since: Option<Instant>,
}

impl Watch {
    fn step(&mut self, lease: &Value, identity: &str, now: Instant) -> Step {
        let spec = &lease["spec"];
        let term = spec["leaseTransitions"].as_u64().unwrap_or(0);
        match spec["holderIdentity"].as_str().unwrap_or_default() {
            // This Pod, before its process was started anew: nobody else led in between.
            holder if holder == identity => return Step::Take(term.max(1)),
            "" => return Step::Take(term + 1),
            _ => {}
        }
        let version = lease["metadata"]["resourceVersion"]
            .as_str()
            .unwrap_or_default();
        if self.since.is_none() || self.version != version {
            self.version = version.to_owned();
            self.since = Some(now);
        }
        let duration = spec["leaseDurationSeconds"]
            .as_u64()
            .map_or(DURATION, Duration::from_secs);
        match self.since {
            Some(since) if now >= since + duration.min(MAX_DURATION) => Step::Take(term + 1),
            Some(_) | None => Step::Wait,
        }
    }
}

impl Lease {
    pub(super) fn new(api: Api, namespace: &str, name: &str, identity: &str) -> Self {
        let collection = format!("/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases");
        Self {
            api: api.with_timeout(CALL_TIMEOUT),
            path: format!("{collection}/{name}"),
            collection,
            name: name.to_owned(),
            namespace: namespace.to_owned(),
            identity: identity.to_owned(),
            held: Mutex::new(None),
        }
    }

    /// Waits until the lease is held, and gives its term: a number that grows each time the holder changes.
    pub(super) async fn acquire(&self) -> u64 {
        let mut watch = Watch::default();
        let mut in_trouble = false;
        loop {
            match self.try_acquire(&mut watch).await {
                Ok(Some(term)) => return term,
                Ok(None) => in_trouble = false,
                Err(error @ CallError::Status { code: 403, .. }) => {
                    if !std::mem::replace(&mut in_trouble, true) {
                        tracing::warn!(
                            lease = self.name,
                            %error,
                            "the agent has no right to its lease: it runs no workspaces (chart value workspaces.enabled)"
                        );
                    }
                    tokio::time::sleep(RETRY_FORBIDDEN).await;
                }
                Err(error) => {
                    if !std::mem::replace(&mut in_trouble, true) {
                        tracing::warn!(lease = self.name, %error, "the lease cannot be read or written, trying again");
                    }
                }
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    async fn try_acquire(&self, watch: &mut Watch) -> Result<Option<u64>, CallError> {
        let began = Instant::now();
        let (lease, term) = match self.api.get(&self.path).await {
            Ok(lease) => match watch.step(&lease, &self.identity, began) {
                Step::Take(term) => (Some(lease), term),
                Step::Wait => return Ok(None),
            },
            Err(error) if error.is_not_found() => (None, first_term()),
            Err(error) => return Err(error),
        };
        let written = match lease {
            Some(mut lease) => {
                let changed = lease["spec"]["holderIdentity"] != self.identity.as_str();
                self.fill(&mut lease, term, changed);
                self.api.replace(&self.path, &lease).await
            }
            None => {
                let mut lease = json!({
                    "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
                    "metadata": {"name": self.name, "namespace": self.namespace}, "spec": {},
                });
                self.fill(&mut lease, term, true);
                self.api.create(&self.collection, &lease).await
            }
        };
        match written {
            Ok(lease) => {
                self.set_held(Some((lease, began)));
                Ok(Some(term))
            }
            // Another was faster.
            Err(error) if error.is_conflict() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Keeps the lease; returns when it is lost, or may be.
    pub(super) async fn hold(&self) {
        loop {
            let Some((mut lease, renewed)) = self.held() else {
                return;
            };
            let next = renewed + RENEW;
            tokio::time::sleep_until(next).await;
            let deadline = renewed + RENEW_DEADLINE;
            let term = lease["spec"]["leaseTransitions"].as_u64().unwrap_or(1);
            loop {
                let began = Instant::now();
                self.fill(&mut lease, term, false);
                let call = self.api.replace(&self.path, &lease);
                match tokio::time::timeout_at(deadline, call).await {
                    Ok(Ok(written)) => {
                        self.set_held(Some((written, began)));
                        break;
                    }
                    Ok(Err(error)) if error.is_conflict() || error.is_not_found() => {
                        // Somebody wrote it; if we still hold it, that was harmless.
                        match self.api.get(&self.path).await {
                            Ok(there)
                                if there["spec"]["holderIdentity"] == self.identity.as_str() =>
                            {
                                lease = there
                            }
                            Ok(_) => return self.set_held(None),
                            Err(error) if error.is_not_found() => return self.set_held(None),
                            Err(error) => tracing::debug!(%error, "lease not read"),
                        }
                    }
                    Ok(Err(error)) => tracing::debug!(%error, "lease not renewed"),
                    Err(_) => {}
                }
                if Instant::now() + RENEW_DEADLINE / 7 >= deadline {
                    return self.set_held(None);
                }
                tokio::time::sleep(RENEW_DEADLINE / 14).await;
            }
        }
    }

    /// Gives the lease up, if it is held.
    pub(super) async fn release(&self) {
        let Some((mut lease, _)) = self.held() else {
            return;
        };
        self.set_held(None);
        lease["spec"]["holderIdentity"] = json!("");
        lease["spec"]["leaseDurationSeconds"] = json!(1);
        if let Err(error) = self.api.replace(&self.path, &lease).await {
            tracing::debug!(%error, "lease not released; it runs out");
        }
    }

    fn fill(&self, lease: &mut Value, term: u64, acquired: bool) {
        let now = now_as_micro_time();
        let spec = &mut lease["spec"];
        spec["holderIdentity"] = json!(self.identity);
        spec["leaseDurationSeconds"] = json!(DURATION.as_secs());
        spec["leaseTransitions"] = json!(term);
        spec["renewTime"] = json!(now);
        if acquired {
            spec["acquireTime"] = json!(now);
        }
    }

    fn held(&self) -> Option<(Value, Instant)> {
        self.held
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .clone()
    }

    fn set_held(&self, held: Option<(Value, Instant)>) {
        *self
            .held
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner) = held;
    }
}

/// The term of a lease that is made anew. It may have been deleted by hand, and the server refuses terms below the newest it
/// has seen: seconds grow faster than terms do.
fn first_term() -> u64 {
    const YEAR_2020: i64 = 1_577_836_800;
    let seconds = jiff::Timestamp::now().as_second() - YEAR_2020;
    // The field has 31 bits, which last until 2088.
    u64::try_from(seconds).unwrap_or(1).clamp(1, 0x7fff_0000)
}

/// The form that the Lease's times have. Only people and tools read them.
fn now_as_micro_time() -> String {
    jiff::Timestamp::now()
        .strftime("%Y-%m-%dT%H:%M:%S.%6fZ")
        .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(holder: &str, version: &str) -> Value {
        json!({
            "metadata": {"resourceVersion": version},
            "spec": {"holderIdentity": holder, "leaseTransitions": 4, "leaseDurationSeconds": 10},
        })
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_that_does_not_change_is_taken_with_the_next_term() {
        let mut watch = Watch::default();
        let start = Instant::now();
        assert_eq!(watch.step(&lease("a", "1"), "b", start), Step::Wait);
        assert_eq!(
            watch.step(&lease("a", "1"), "b", start + DURATION / 2),
            Step::Wait
        );
        assert_eq!(
            watch.step(&lease("a", "2"), "b", start + DURATION),
            Step::Wait
        );
        assert_eq!(
            watch.step(&lease("a", "2"), "b", start + DURATION * 2),
            Step::Take(5)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_free_lease_and_our_own_are_taken_at_once() {
        let mut watch = Watch::default();
        assert_eq!(
            watch.step(&lease("", "1"), "b", Instant::now()),
            Step::Take(5)
        );
        assert_eq!(
            watch.step(&lease("b", "1"), "b", Instant::now()),
            Step::Take(4)
        );
    }

    #[test]
    fn times_are_written_as_kubernetes_wants_them() {
        let now = now_as_micro_time();
        assert!(
            now.len() == 27 && now.ends_with('Z') && &now[10..11] == "T",
            "{now}"
        );
    }
}
