//! What every call to the server carries: the agent's token, the headers of `--kas-header`, and which cluster it is.

use std::path::PathBuf;
use std::sync::RwLock;

use tonic::metadata::{Ascii, MetadataKey, MetadataMap, MetadataValue};

use crate::config::{KasHeader, TokenSource};

/// Longer than any token; a wrong file is not read whole.
const MAX_TOKEN_BYTES: u64 = 8 * 1024;

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("token file {path} cannot be read")]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("token file {0} holds no token")]
    Empty(PathBuf),
    #[error("the token has a character that no header may have")]
    Unsendable,
    #[error("header {0} cannot be sent")]
    Header(String),
}

/// The present token and the fixed headers.
pub(crate) struct Credentials {
    source: TokenSource,
    headers: Vec<(MetadataKey<Ascii>, MetadataValue<Ascii>)>,
    authorization: RwLock<MetadataValue<Ascii>>,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Credentials({:?})", self.source)
    }
}

impl Credentials {
    /// `cluster`: a hash of its CA certificates, if there are any; the server notices by it when two use one token.
    pub(crate) fn try_new(
        source: TokenSource,
        headers: &[KasHeader],
        cluster: Option<String>,
    ) -> Result<Self, Error> {
        let authorization = RwLock::new(read(&source)?);
        let headers = headers
            .iter()
            .map(|KasHeader { name, value }| {
                let key = name.parse().map_err(|_| Error::Header(name.clone()))?;
                let mut value: MetadataValue<Ascii> =
                    value.parse().map_err(|_| Error::Header(name.clone()))?;
                value.set_sensitive(true);
                Ok((key, value))
            })
            .collect::<Result<Vec<_>, Error>>()?;
        let cluster = cluster.and_then(|it| it.parse().ok());
        let cluster = cluster.map(|it| (MetadataKey::from_static(proto::CLUSTER_METADATA), it));
        let headers = headers.into_iter().chain(cluster).collect();
        Ok(Self {
            source,
            headers,
            authorization,
        })
    }

    /// Reads the token file again; says whether the token is another one now.
    pub(crate) fn reload(&self) -> Result<bool, Error> {
        if let TokenSource::Given(_) = self.source {
            return Ok(false);
        }
        let fresh = read(&self.source)?;
        let mut present = self
            .authorization
            .write()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let changed = *present != fresh;
        *present = fresh;
        Ok(changed)
    }

    pub(crate) fn apply(&self, metadata: &mut MetadataMap) {
        let authorization = self
            .authorization
            .read()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .clone();
        metadata.insert("authorization", authorization);
        for (key, value) in &self.headers {
            metadata.append(key.clone(), value.clone());
        }
    }
}

fn read(source: &TokenSource) -> Result<MetadataValue<Ascii>, Error> {
    let text;
    let token = match source {
        TokenSource::Given(token) => token.expose(),
        TokenSource::File(path) => {
            text = read_file(path).map_err(|source| Error::Read {
                path: path.clone(),
                source,
            })?;
            if text.trim().is_empty() {
                return Err(Error::Empty(path.clone()));
            }
            text.trim()
        }
    };
    let mut value: MetadataValue<Ascii> = format!("Bearer {token}")
        .parse()
        .map_err(|_| Error::Unsendable)?;
    value.set_sensitive(true);
    Ok(value)
}

fn read_file(path: &std::path::Path) -> std::io::Result<String> {
    use std::io::Read as _;
    let mut text = String::new();
    std::fs::File::open(path)?
        .take(MAX_TOKEN_BYTES)
        .read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;

    #[test]
    fn a_rotated_token_is_taken_up_and_never_printed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        std::fs::write(&path, "first\n").unwrap();
        let credentials = Credentials::try_new(TokenSource::File(path.clone()), &[], None).unwrap();
        assert!(!credentials.reload().unwrap());
        std::fs::write(&path, "second\n").unwrap();
        assert!(credentials.reload().unwrap());
        let mut metadata = MetadataMap::new();
        credentials.apply(&mut metadata);
        assert_eq!(metadata.get("authorization").unwrap(), "Bearer second");
        assert!(!format!("{credentials:?} {metadata:?}").contains("second"));
    }

    #[test]
    fn a_missing_or_empty_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let missing = Credentials::try_new(TokenSource::File(path.clone()), &[], None).unwrap_err();
        assert!(missing.to_string().contains("cannot be read"));
        std::fs::write(&path, "\n").unwrap();
        let empty = Credentials::try_new(TokenSource::File(path), &[], None).unwrap_err();
        assert!(empty.to_string().contains("holds no token"));
    }

    #[test]
    fn a_token_with_a_line_break_is_refused() {
        let source = TokenSource::Given(Secret::new("a\nb"));
        assert!(matches!(
            Credentials::try_new(source, &[], None),
            Err(Error::Unsendable)
        ));
    }
}
