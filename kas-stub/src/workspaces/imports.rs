//! Checks and flattens a devfile with its parents and plugins, wherever they are.
//!
//! The crate `devfile` says what it lacks, here it is read, and the crate looks again: it knows no network, and what is read
//! is bounded in number, size and time.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use ::devfile::{
    FlattenOptions,
    flatten::{Cache, FetchError, Reference},
    limits::MAX_IMPORTS,
    model::Devfile,
    text::decode,
};

use super::{
    render::{DevfileProblem, check},
    source::{self, Devfiles},
    workspace::Note,
};
use crate::{configuration::chain, fetch::Fetcher};

/// For everything that one devfile draws in.
const MAX_TIME: Duration = Duration::from_secs(60);
/// Bytes of everything that one devfile draws in.
const MAX_BYTES: usize = 12 * 1024 * 1024;
/// How often it is looked again. Each look finds at least one more, or is the last.
const MAX_ROUNDS: usize = MAX_IMPORTS + 1;

/// Reads what devfiles refer to.
#[derive(Debug)]
pub(crate) struct Imports {
    devfiles: Arc<Devfiles>,
    fetcher: Fetcher,
    options: FlattenOptions,
}

/// What one devfile may still draw in.
struct Budget {
    until: Instant,
    bytes: usize,
}

/// A devfile, and the repository that it is from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Origin<'a> {
    pub(crate) devfile: &'a source::Devfile,
    pub(crate) repository: &'a str,
    pub(crate) reference: Option<&'a str>,
}

impl Imports {
    /// `registries` are asked, in this order, for parents and plugins that name none.
    pub(crate) fn new(devfiles: Arc<Devfiles>, fetcher: Fetcher, registries: Vec<String>) -> Self {
        let options = FlattenOptions {
            registries,
            ..FlattenOptions::default()
        };
        Self {
            devfiles,
            fetcher,
            options,
        }
    }

    /// Checks and flattens a devfile, with what it refers to.
    ///
    /// # Errors
    /// Everything that is wrong with it, also what could not be read.
    pub(crate) async fn flatten(
        &self,
        origin: Origin<'_>,
    ) -> Result<(Devfile, Vec<Note>), Vec<DevfileProblem>> {
        let source::Devfile { path, text, .. } = origin.devfile;
        let mut cache = Cache::default();
        let mut budget = Budget {
            until: Instant::now() + MAX_TIME,
            bytes: MAX_BYTES,
        };
        for _ in 0..MAX_ROUNDS {
            let checked = check(path, text, &self.options, &mut cache);
            let missing = cache.take_missing();
            if missing.is_empty() {
                return checked;
            }
            for reference in missing {
                let read = self.read_within(origin, &reference, &mut budget).await;
                cache.insert(reference, read);
            }
        }
        check(path, text, &self.options, &mut cache)
    }

    async fn read_within(
        &self,
        origin: Origin<'_>,
        reference: &Reference,
        budget: &mut Budget,
    ) -> Result<String, FetchError> {
        let left = budget.until.saturating_duration_since(Instant::now());
        let read = tokio::time::timeout(left, self.read(origin, reference)).await;
        let text = read.map_err(|_| {
            FetchError::new(format!(
                "everything that this devfile draws in took longer than {MAX_TIME:?}"
            ))
        })??;
        budget.bytes = budget.bytes.checked_sub(text.len()).ok_or_else(|| {
            FetchError::new(format!(
                "everything that this devfile draws in is larger than {} MiB",
                MAX_BYTES / 1024 / 1024
            ))
        })?;
        Ok(text)
    }

    async fn read(&self, origin: Origin<'_>, reference: &Reference) -> Result<String, FetchError> {
        if let Some(address) = reference.address() {
            let read = self.fetcher.read(&address).await;
            let bytes = read.map_err(|error| FetchError::new(chain(&error)))?;
            return decode(bytes).map_err(|error| FetchError {
                message: error.to_string(),
                hint: Some(error.hint().into()),
            });
        }
        match reference {
            Reference::Location(path) => {
                let Origin {
                    devfile,
                    repository,
                    reference,
                } = origin;
                let read = self
                    .devfiles
                    .read_beside(devfile, repository, reference, path)
                    .await;
                read.map(|text| text.to_string()).map_err(|error| FetchError {
                    message: error.reason,
                    hint: error.hint,
                })
            }
            Reference::Kubernetes { .. } | Reference::Registry { .. } => Err(FetchError {
                message: "templates in a cluster cannot be read by this server, which reaches clusters through their agents only".into(),
                hint: Some("name it by uri or by registry id, or put its content into the devfile: `devfile flatten` does that".into()),
            }),
        }
    }
}
