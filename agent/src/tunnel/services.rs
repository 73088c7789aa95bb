//! Which handler answers which method.

use std::collections::BTreeMap;
use std::sync::Arc;

use proto::reverse_tunnel::rpc::ConnectRequest;

use crate::convert::tunnel::descriptor;
use crate::module::{Module, Served};
use crate::tunnel::call::Handler;

/// All methods that the agent serves through the tunnel.
pub(crate) struct Services {
    /// By full path, `/package.Service/Method`.
    handlers: BTreeMap<String, (&'static str, Arc<dyn Handler>)>,
    descriptor: ConnectRequest,
}

impl std::fmt::Debug for Services {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.handlers.keys()).finish()
    }
}

/// Two modules serve the same method.
#[derive(Debug, thiserror::Error)]
#[error("module {module} serves {path}, which another module serves already")]
pub(crate) struct Duplicate {
    module: &'static str,
    path: String,
}

impl Services {
    pub(crate) fn try_new(modules: &[Box<dyn Module>]) -> Result<Self, Duplicate> {
        let mut handlers = BTreeMap::new();
        let mut by_service: BTreeMap<&'static str, Vec<&'static str>> = BTreeMap::new();
        for module in modules {
            for served in module.serves() {
                let Served {
                    service,
                    method,
                    handler,
                } = served;
                let path = format!("/{service}/{method}");
                if handlers.insert(path.clone(), (service, handler)).is_some() {
                    let module = module.name();
                    return Err(Duplicate { module, path });
                }
                by_service.entry(service).or_default().push(method);
            }
        }
        let descriptor = descriptor(
            by_service
                .iter()
                .map(|(service, methods)| (*service, methods.as_slice())),
        );
        Ok(Self {
            handlers,
            descriptor,
        })
    }

    /// The first frame of every tunnel connection.
    pub(crate) fn descriptor(&self) -> ConnectRequest {
        self.descriptor.clone()
    }

    /// The handler of a method, and the name of its service.
    pub(crate) fn find(&self, path: &str) -> Option<(&'static str, Arc<dyn Handler>)> {
        self.handlers
            .get(path)
            .map(|(service, handler)| (*service, Arc::clone(handler)))
    }
}
