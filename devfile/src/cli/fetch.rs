//! Fetching for the command line: files are read, addresses are left to curl, templates in a cluster to kubectl.
//!
//! This runs as the person who typed the command, with their rights, so it may reach what they may reach. A server
//! that flattens what strangers give it brings a fetcher of its own.

use std::process::Command;

use devfile::flatten::{Fetch, FetchError, Reference};
use devfile::limits::MAX_DOCUMENT_BYTES;
use devfile::text::decode;

use super::input::read_file;

pub(super) struct CommandFetch;

impl Fetch for CommandFetch {
    fn fetch(&mut self, reference: &Reference) -> Result<String, FetchError> {
        let bytes = match (reference.address(), reference) {
            (Some(address), _) => curl(&address)?,
            (None, Reference::Kubernetes { name, namespace }) => {
                kubectl(name, namespace.as_deref())?
            }
            (None, Reference::Location(path)) => read_file(path).map_err(FetchError::new)?,
            (None, Reference::Registry { .. }) => {
                return Err(FetchError::new("the registry has no address"));
            }
        };
        decode(bytes).map_err(|error| FetchError {
            message: error.to_string(),
            hint: Some(error.hint().into()),
        })
    }
}

/// Reads an address.
pub(super) fn curl(address: &str) -> Result<Vec<u8>, FetchError> {
    let mut command = Command::new("curl");
    command
        .args(["--silent", "--show-error", "--fail", "--location"])
        .args(["--max-redirs", "5", "--max-time", "30"])
        .args(["--proto", "=http,https", "--proto-redir", "=http,https"])
        .args(["--max-filesize", &MAX_DOCUMENT_BYTES.to_string()])
        .args(["--header", "Accept: application/x-yaml, text/plain, */*"])
        .args(["--", address]);
    run(command, "curl")
}

fn kubectl(name: &str, namespace: Option<&str>) -> Result<Vec<u8>, FetchError> {
    let mut command = Command::new("kubectl");
    command.args(["get", "devworkspacetemplates.workspace.devfile.io"]);
    command.args(["--output", "json"]);
    if let Some(namespace) = namespace {
        command.args(["--namespace", namespace]);
    }
    command.args(["--", name]);
    run(command, "kubectl")
}

fn run(mut command: Command, program: &str) -> Result<Vec<u8>, FetchError> {
    let output = command.output().map_err(|error| FetchError {
        message: format!("{program} cannot be run: {error}"),
        hint: Some(format!(
            "this needs the program {program}; or save the file and name its path"
        )),
    })?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        return Err(FetchError::new(text.trim().to_owned()));
    }
    if output.stdout.len() > MAX_DOCUMENT_BYTES {
        return Err(FetchError::new(format!(
            "the answer has more than {MAX_DOCUMENT_BYTES} bytes"
        )));
    }
    Ok(output.stdout)
}
