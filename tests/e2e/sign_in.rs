//! People sign in with a real provider of OpenID Connect, as a browser does it: curl with its cookies and forms.
//!
//! The server is one of its own, that knows the provider; the cluster is not needed.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use harness::oidc::{OidcProvider, free_port};
use harness::paths;
use harness::process::Process;
use serde_json::Value;
use tests::command;

use crate::Test;
use crate::world::{CALL, World};

pub(crate) const TESTS: &[Test] = &[(
    "people_sign_in_with_a_provider_and_its_groups_give_rights",
    provider,
)];

const START: Duration = Duration::from_secs(30);
const CLIENT: &str = "kas-stub";
const SECRET: &str = "of the test";

/// A server with a provider.
struct Stage {
    url: String,
    folder: PathBuf,
    _server: Process,
    _provider: OidcProvider,
}

impl Stage {
    fn start(world: &World) -> Result<Self> {
        let folder = world.folder.join("sign-in");
        std::fs::create_dir_all(&folder)?;
        let url = format!("https://127.0.0.1:{}", free_port()?);
        let callback = format!("{url}/sign-in/oidc/callback");
        let log = folder.join("provider.log");
        let provider = OidcProvider::start(CLIENT, SECRET, &callback, &log)?;
        let secret = folder.join("secret");
        std::fs::write(&secret, SECRET)?;
        let address = url.trim_start_matches("https://");
        let mut serve = kas_stub(&folder, &["serve"]);
        serve
            .args(["--agent-listen-address", "127.0.0.1:0"])
            .args(["--people-listen-address", address])
            .args(["--observability-listen-address", "127.0.0.1:0"])
            .args(["--external-url", &url])
            .args(["--oidc-issuer", &provider.issuer])
            .args(["--oidc-client-id", CLIENT, "--oidc-client-secret-file"])
            .arg(&secret)
            .args(["--oidc-administrator-group", "ops"])
            .args(["--oidc-allowed-domain", "example.com"])
            .args(["--oidc-name", "the provider"]);
        let mut server = Process::spawn(&mut serve, &folder.join("server.log"))?;
        server.wait_for_log("listening agents=", START)?;
        let stage = Self {
            url,
            folder,
            _server: server,
            _provider: provider,
        };
        std::fs::write(stage.folder.join("ca.crt"), stage.run(&["ca"])?)?;
        Ok(stage)
    }

    fn run(&self, arguments: &[&str]) -> Result<String> {
        command::output(&mut kas_stub(&self.folder, arguments), CALL)
    }

    fn browser(&self, name: &str) -> Browser<'_> {
        Browser {
            stage: self,
            jar: self.folder.join(format!("{name}.cookies")),
        }
    }
}

fn kas_stub(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(paths::binaries_dir().join("kas-stub"));
    command
        .args(arguments)
        .env("KAS_STUB_DATA_DIR", folder.join("data"));
    command
}

struct Browser<'a> {
    stage: &'a Stage,
    jar: PathBuf,
}

impl Browser<'_> {
    /// Opens an address and goes where it sends: the status, the text, where that was.
    fn open(&self, url: &str, form: &[&str]) -> Result<(String, String, String)> {
        let mut curl = Command::new("curl");
        curl.args(["-sS", "-L", "--max-redirs", "10", "--cacert"])
            .arg(self.stage.folder.join("ca.crt"))
            .args(["-w", "\n%{http_code} %{url_effective}", "-b"])
            .arg(&self.jar)
            .arg("-c")
            .arg(&self.jar);
        for field in form {
            curl.args(["--data-urlencode", field]);
        }
        let output = command::output(curl.arg(url), CALL)?;
        let (text, end) = output.rsplit_once('\n').context("no status")?;
        let (status, at) = end.split_once(' ').context("no address")?;
        Ok((status.to_owned(), text.to_owned(), at.trim().to_owned()))
    }

    /// Signs in with the provider, where one is `name`; what this server then shows.
    fn sign_in(&self, name: &str) -> Result<(String, String)> {
        let begin = format!("{}/sign-in/oidc", self.stage.url);
        let (mut status, mut text, mut at) = self.open(&begin, &[])?;
        let login = format!("login={name}");
        for form in [
            &["prompt=login", &login, "password=any"][..],
            &["prompt=consent"],
        ] {
            if at.starts_with(&self.stage.url) {
                break;
            }
            let (_, rest) = text
                .split_once("action=\"")
                .with_context(|| format!("no form at {at}: {status} {text}"))?;
            let action = rest.split('"').next().unwrap_or_default().to_owned();
            (status, text, at) = self.open(&action, form)?;
        }
        ensure!(at.starts_with(&self.stage.url), "{at}: {status} {text}");
        Ok((status, text))
    }

    /// Who this server takes the browser for.
    fn account(&self) -> Result<Value> {
        let url = format!("{}/api/v1/user", self.stage.url);
        let (status, text, _) = self.open(&url, &[])?;
        ensure!(status == "200", "{status} {text}");
        Ok(serde_json::from_str(&text)?)
    }
}

fn provider(world: &mut World) -> Result<()> {
    let stage = Stage::start(world)?;
    let ada = stage.browser("ada");
    let (_, page, _) = ada.open(&format!("{}/", stage.url), &[])?;
    ensure!(page.contains("Sign in with the provider"), "{page}");

    // The first time makes a user; the second is the same one, and the provider asks nothing again.
    let (status, page) = ada.sign_in("ada")?;
    ensure!(
        status == "200" && page.contains("Sign out"),
        "{status} {page}"
    );
    let account = ada.account()?;
    ensure!(
        account["name"] == "ada" && account["role"] == "user" && account["has_password"] == false,
        "{account:#}"
    );
    let (status, page) = ada.sign_in("nobody: not asked")?;
    ensure!(status == "200", "{status} {page}");
    ensure!(ada.account()?["id"] == account["id"], "another user");
    let sessions = stage.run(&["session", "list", "--user", "ada", "-o", "json"])?;
    let sessions: Value = serde_json::from_str(&sessions)?;
    ensure!(
        sessions.as_array().is_some_and(|it| it.len() == 1),
        "the session before goes on: {sessions:#}"
    );

    // A group of the provider's makes administrators.
    let bob = stage.browser("bob");
    bob.sign_in("ops-bob")?;
    ensure!(
        bob.account()?["role"] == "administrator",
        "{:#}",
        bob.account()?
    );

    // A name that somebody has here is not given to who comes from elsewhere, unless an administrator says so.
    stage.run(&["user", "create", "carl"])?;
    let carl = stage.browser("carl");
    let (status, page) = carl.sign_in("carl")?;
    let says = "kas-stub user link carl --subject";
    ensure!(status == "403" && page.contains(says), "{status} {page}");
    stage.run(&["user", "link", "carl", "--subject", "carl"])?;
    carl.sign_in("carl")?;
    ensure!(carl.account()?["name"] == "carl", "{:#}", carl.account()?);

    // Who is suspended here gets in no more, whatever the provider says.
    stage.run(&["user", "suspend", "ada"])?;
    let url = format!("{}/api/v1/user", stage.url);
    let (status, text, _) = ada.open(&url, &[])?;
    ensure!(status == "401", "{status} {text}");
    let (status, page) = ada.sign_in("ada")?;
    ensure!(
        status == "403" && page.contains("suspended"),
        "{status} {page}"
    );
    let log = stage.run(&["audit", "--refused"])?;
    ensure!(log.contains("with the provider, suspended"), "{log}");
    Ok(())
}
