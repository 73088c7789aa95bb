//! When the agent is of use: it has a configuration, and the server can reach it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// What readiness is made of. Clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Readiness(Arc<Parts>);

#[derive(Debug, Default)]
struct Parts {
    configured: AtomicBool,
    tunnels: AtomicUsize,
    draining: AtomicBool,
}

impl Readiness {
    /// A configuration has arrived. It stays in force while the server is away.
    pub(crate) fn set_configured(&self) {
        self.0.configured.store(true, Ordering::Relaxed);
    }

    /// So many tunnel connections have reached the server.
    pub(crate) fn set_tunnels(&self, count: usize) {
        self.0.tunnels.store(count, Ordering::Relaxed);
    }

    /// The agent is about to stop.
    pub(crate) fn set_draining(&self) {
        self.0.draining.store(true, Ordering::Relaxed);
    }

    /// `Ok`, or what is missing.
    ///
    /// # Errors
    ///
    /// A sentence for whoever looks at the probe.
    pub(crate) fn check(&self) -> Result<(), &'static str> {
        if self.0.draining.load(Ordering::Relaxed) {
            Err("the agent is draining")
        } else if !self.0.configured.load(Ordering::Relaxed) {
            Err("no configuration from the server yet; see the log for why")
        } else if self.0.tunnels.load(Ordering::Relaxed) == 0 {
            Err("no tunnel to the server")
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_needs_a_configuration_and_a_tunnel() {
        let readiness = Readiness::default();
        assert!(readiness.check().unwrap_err().contains("configuration"));
        readiness.set_configured();
        assert!(readiness.check().unwrap_err().contains("tunnel"));
        readiness.set_tunnels(1);
        assert_eq!(readiness.check(), Ok(()));
        readiness.set_draining();
        assert!(readiness.check().is_err());
    }
}
