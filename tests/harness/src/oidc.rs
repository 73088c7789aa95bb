//! A real provider of OpenID Connect for tests: the npm package `oidc-provider`, run by node.
//!
//! `tests/cluster/oidc/provider.mjs` says who signs in with it.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::hash::Inputs;
use crate::process::Process;
use crate::tools::remove_old_versions;
use crate::{paths, setup, step};

const PACKAGE: &str = "oidc-provider@9.13.3";
const SCRIPT: &str = "provider.mjs";
const START_LIMIT: Duration = Duration::from_secs(30);

/// A provider that runs, until this is dropped.
#[derive(Debug)]
pub struct OidcProvider {
    /// Its issuer, on loopback.
    pub issuer: String,
    _process: Process,
}

impl OidcProvider {
    /// Starts it for one client; people are sent back to `redirect_uri`.
    ///
    /// # Errors
    /// When npm cannot fetch it, or it does not start.
    pub fn start(
        client_id: &str,
        client_secret: &str,
        redirect_uri: &str,
        log: &Path,
    ) -> Result<Self> {
        let folder = files()?;
        let port = free_port()?;
        let mut command = Command::new("node");
        command.current_dir(&folder).arg(SCRIPT).args([
            &port.to_string(),
            client_id,
            client_secret,
            redirect_uri,
        ]);
        let mut process = Process::spawn(&mut command, log)?;
        process.wait_for_log("listening issuer=", START_LIMIT)?;
        Ok(Self {
            issuer: format!("http://127.0.0.1:{port}"),
            _process: process,
        })
    }
}

/// A port of loopback that nobody uses now.
///
/// # Errors
/// When there is none.
pub fn free_port() -> Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

/// The folder with the script and what it needs, in the cache; fetched when it is not there.
fn files() -> Result<PathBuf> {
    let script = paths::cluster_sources().join("oidc").join(SCRIPT);
    let hash = Inputs::default().file(&script)?.text(PACKAGE).name();
    let cache = paths::cache_dir();
    let folder = cache.join(format!("oidc-{hash}"));
    if folder.exists() {
        return Ok(folder);
    }
    for program in ["npm", "node"] {
        ensure!(
            setup::has_program(program),
            "the provider of OpenID Connect needs {program}: apt-get install --no-install-recommends npm"
        );
    }
    let part = cache.join(format!("oidc-{}.part", std::process::id()));
    fs::create_dir_all(&part).with_context(|| format!("cannot make {}", part.display()))?;
    fs::write(part.join("package.json"), "{\"private\": true}\n")?;
    fs::copy(&script, part.join(SCRIPT))?;
    step::run(
        Command::new("npm")
            .current_dir(&part)
            .args(["install", "--no-audit", "--no-fund", "--no-progress"])
            .args(["--loglevel=error", "--ignore-scripts", PACKAGE]),
    )?;
    fs::rename(&part, &folder)?;
    remove_old_versions(&cache, "oidc")?;
    Ok(folder)
}
