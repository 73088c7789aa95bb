//! A workspace's ports at hosts of their own, opened with curl as a browser opens them.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use harness::wait::wait_for;
use tests::command;
use tests::server::PEOPLE_ADDRESS;

use crate::Test;
use crate::workspaces::{DEVFILE, delete, repository, workspace};
use crate::world::{CALL, CONNECT, MAIN, World};

pub(crate) const TESTS: &[Test] = &[
    (
        "a_workspaces_port_opens_for_its_owner_and_says_what_is_wrong",
        opens,
    ),
    (
        "2_gb_pass_to_and_from_a_workspace_in_little_memory",
        large_bodies,
    ),
    (
        "a_workspace_opens_again_within_5_s_of_an_agent_pods_death",
        pod_killed,
    ),
];

/// Answers a `GET` with as many zeros as the path says, or a line; counts what a `PUT` brings.
const PROGRAM: &str = r#"
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
PIECE = bytes(1 << 16)
class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def answer(self, length):
        self.send_response(200)
        self.send_header("Content-Length", str(length))
        self.end_headers()
    def do_GET(self):
        name = self.path.strip("/")
        if name.isdigit():
            left = int(name)
            self.answer(left)
            while left:
                left -= self.wfile.write(PIECE[:left])
            return
        text = f"from the workspace: {self.headers.get('Cookie')}".encode()
        self.answer(len(text))
        self.wfile.write(text)
    def do_PUT(self):
        left = count = int(self.headers["Content-Length"])
        while left:
            left -= len(self.rfile.read(min(left, 1 << 16)))
        text = str(count).encode()
        self.answer(len(text))
        self.wfile.write(text)
ThreadingHTTPServer(("", 8080), Handler).serve_forever()
"#;
const GB: u64 = 1_000_000_000;

/// A browser, as far as curl is one.
struct Browser {
    jar: PathBuf,
    ca: PathBuf,
}

/// An answer: status and text.
type Answer = (u16, String);

impl Browser {
    fn new(world: &World, name: &str) -> Result<Self> {
        let jar = world.folder.join(format!("{name}.cookies"));
        std::fs::remove_file(&jar).ok();
        Ok(Self {
            jar,
            ca: world.server.ca_file()?,
        })
    }

    /// curl with this browser's cookies, for these hosts.
    fn curl(&self, url: &str, arguments: &[&str]) -> Command {
        let host = url.split('/').nth(2).unwrap_or_default();
        let mut command = Command::new("curl");
        command
            .args(["-sS", "--resolve", &format!("{host}:127.0.0.1"), "-H"])
            .args([
                "Sec-Fetch-Mode: navigate",
                "-w",
                "\n%{http_code}",
                "--cacert",
            ])
            .arg(&self.ca)
            .arg("-b")
            .arg(&self.jar)
            .arg("-c")
            .arg(&self.jar)
            .args(arguments)
            .arg(url);
        command
    }

    fn ask(&self, url: &str, arguments: &[&str], limit: Duration) -> Result<Answer> {
        let output = command::output(&mut self.curl(url, arguments), limit)?;
        let (text, status) = output.rsplit_once('\n').context("no status")?;
        Ok((status.trim().parse()?, text.to_owned()))
    }

    fn open(&self, url: &str) -> Result<Answer> {
        self.ask(url, &["-L", "--max-redirs", "10"], CALL)
    }

    fn sign_in(&self, world: &World) -> Result<()> {
        let link = world.server.run(&["sign-in-link"])?;
        let code = link.trim().rsplit('/').next().context("no code")?;
        let form = format!("code={code}");
        let origin = format!("Origin: https://{PEOPLE_ADDRESS}");
        let url = format!("https://{PEOPLE_ADDRESS}/sign-in");
        let (status, text) = self.ask(&url, &["-H", &origin, "--data", &form], CALL)?;
        ensure!(status == 303, "{status} {text}");
        Ok(())
    }
}

fn url(port: u16, workspace: &str, path: &str) -> String {
    let people = PEOPLE_ADDRESS.rsplit(':').next().unwrap_or_default();
    format!("https://{port}-{workspace}.workspaces.localhost:{people}{path}")
}

/// Starts the program in a workspace.
fn start_program(world: &World, namespace: &str, deployment: &str) -> Result<()> {
    let script = format!(
        "cat > /tmp/program.py <<'END'\n{PROGRAM}\nEND\nnohup python3 /tmp/program.py >/tmp/program.log 2>&1 </dev/null &"
    );
    let exec = [
        "exec", "-n", namespace, deployment, "-c", "tools", "--", "sh", "-c", &script,
    ];
    world.admin(&exec).map(drop)
}

fn wait_open(browser: &Browser, url: &str, limit: Duration) -> Result<String> {
    wait_for("the program answers", limit, || {
        let (status, text) = browser.open(url)?;
        Ok((status == 200).then_some(text))
    })
}

/// Starts the program in a workspace, and opens it as its owner.
pub(crate) fn open_program(
    world: &World,
    workspace: &str,
    namespace: &str,
    deployment: &str,
) -> Result<()> {
    start_program(world, namespace, deployment)?;
    let owner = Browser::new(world, "owner")?;
    owner.sign_in(world)?;
    let text = wait_open(&owner, &url(8080, workspace, "/"), CALL)?;
    ensure!(text.starts_with("from the workspace"), "{text}");
    Ok(())
}

fn opens(world: &mut World) -> Result<()> {
    let repository = repository(world, "open", DEVFILE)?;
    let made = workspace(world, &["create", &repository, "--name", "open"])?;
    let namespace = made["namespace"].as_str().context("no namespace")?;
    let shown = url(8080, "open", "/");
    ensure!(made["endpoints"].to_string().contains(&shown), "{made:#}");

    let stranger = Browser::new(world, "stranger")?;
    let (status, to) = stranger.ask(&shown, &["-w", "%{redirect_url}\n%{http_code}"], CALL)?;
    let platform = format!("https://{PEOPLE_ADDRESS}/open-workspace?host=8080-open.");
    ensure!(status == 302 && to.starts_with(&platform), "{status} {to}");
    let (status, text) = stranger.open(&shown)?;
    ensure!(status == 401 && text.contains("sign in"), "{status} {text}");
    let (status, text) = stranger.ask(&shown, &["--data", "x"], CALL)?;
    ensure!(status == 401, "{status} {text}");

    let owner = Browser::new(world, "owner")?;
    owner.sign_in(world)?;
    let (status, text) = owner.open(&shown)?;
    ensure!(
        status == 502 && text.contains("Nobody listens on port 8080"),
        "{status} {text}"
    );
    start_program(world, namespace, "deployment/open")?;
    let text = wait_open(&owner, &shown, CALL)?;
    ensure!(text == "from the workspace: None", "{text}");
    let (status, text) = owner.open(&url(9999, "open", "/"))?;
    ensure!(
        status == 404 && text.contains("has no port 9999") && text.contains(&shown),
        "{status} {text}"
    );
    let (status, _) = owner.open(&url(8080, "nobody-s", "/"))?;
    ensure!(status == 404, "{status}");

    let stopped = workspace(world, &["stop", "open"])?;
    ensure!(stopped["actual_state"] == "Stopped", "{stopped:#}");
    let (status, text) = owner.open(&shown)?;
    ensure!(
        status == 503 && text.contains("open is stopped") && text.contains("/workspaces/open"),
        "{status} {text}"
    );
    delete(world, "open", namespace)
}

fn large_bodies(world: &mut World) -> Result<()> {
    /// What the server may grow by, with what it had not touched before: the flow-control windows and queues of a few
    /// streams.
    const MOST: u64 = 64 * 1024 * 1024;
    const LIMIT: Duration = Duration::from_secs(240);
    let repository = repository(world, "large", DEVFILE)?;
    let made = workspace(world, &["create", &repository, "--name", "large"])?;
    let namespace = made["namespace"].as_str().context("no namespace")?;
    start_program(world, namespace, "deployment/large")?;
    let owner = Browser::new(world, "owner")?;
    owner.sign_in(world)?;
    wait_open(&owner, &url(8080, "large", "/"), CALL)?;

    let before = world.server.peak_memory()?;
    let began = Instant::now();
    let size = 2 * GB;
    let from = url(8080, "large", &format!("/{size}"));
    let count = ["-o", "/dev/null", "-w", "%{size_download}\n%{http_code}"];
    let (status, text) = owner.ask(&from, &count, LIMIT)?;
    ensure!(status == 200 && text == size.to_string(), "{status} {text}");
    let down = began.elapsed();

    let file = world.folder.join("large-body");
    std::fs::File::create(&file)?.set_len(size)?;
    let began = Instant::now();
    let path = file.to_str().context("path is not UTF-8")?;
    let to = url(8080, "large", "/");
    let sent = owner.ask(&to, &["-T", path, "-H", "Expect:"], LIMIT);
    std::fs::remove_file(&file)?;
    let (status, text) = sent?;
    ensure!(status == 200 && text == size.to_string(), "{status} {text}");
    let up = began.elapsed();

    let grown = world.server.peak_memory()?.saturating_sub(before);
    println!(
        "        2 GB down in {:.1} s, up in {:.1} s, {} MiB more at the server's peak",
        down.as_secs_f64(),
        up.as_secs_f64(),
        grown / 1024 / 1024
    );
    ensure!(
        grown < MOST,
        "the server grew by {} MiB",
        grown / 1024 / 1024
    );
    delete(world, "large", namespace)
}

fn pod_killed(world: &mut World) -> Result<()> {
    let repository = repository(world, "goes-on", DEVFILE)?;
    let made = workspace(world, &["create", &repository, "--name", "goes-on"])?;
    let namespace = made["namespace"].as_str().context("no namespace")?;
    start_program(world, namespace, "deployment/goes-on")?;
    let owner = Browser::new(world, "owner")?;
    owner.sign_in(world)?;
    let address = url(8080, "goes-on", "/");
    wait_open(&owner, &address, CALL)?;
    world.server.wait_pods(MAIN, 2, CONNECT)?;
    for pod in world.release.pods(&world.cluster)? {
        world.admin(&[
            "delete",
            "pod",
            "-n",
            MAIN,
            &pod,
            "--grace-period=0",
            "--force",
        ])?;
        wait_open(&owner, &address, Duration::from_secs(5))?;
        world.server.wait_pods(MAIN, 2, CONNECT)?;
    }
    delete(world, "goes-on", namespace)
}
