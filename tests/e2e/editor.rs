//! The editor: brought into a container of any image, started beside the devfile's own command, and there again after
//! it ended.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use harness::images;
use harness::wait::wait_until;
use serde_json::Value;
use tests::server::NO_EDITOR;

use crate::Test;
use crate::workspaces::{delete, repository, workspace};
use crate::world::World;

pub(crate) const TESTS: &[Test] = &[(
    "the_editor_runs_with_glibc_with_musl_and_without_any_library",
    editor,
)];

/// From a started container to an editor that answers; some seconds on an idle machine.
const ANSWERS: Duration = Duration::from_secs(60);
/// The most that bringing the editor may cost, with its image present.
const INJECTION: Duration = Duration::from_secs(4);
const NAMESPACE_PREFIX: &str = "gl-rd-ns-";

/// A Debian with Git.
const DEBIAN: &str = "schemaVersion: 2.2.0
metadata: { name: sample }
components:
- name: tools
  container:
    image: localhost/tools:1
    memoryLimit: 512Mi
";

/// Static busybox: no loader and no C library, as if it were of a distribution with another one. The first container is
/// not the marked one, which has a command of its own.
const BARE: &str = "schemaVersion: 2.2.0
metadata: { name: sample }
components:
- name: beside
  container: { image: 'localhost/busybox:1', command: [sleep, '1000000'], mountSources: false }
- name: work
  attributes: { gl/inject-editor: true }
  container:
    image: localhost/busybox:1
    command: [sh, -c]
    args: ['echo own >/tmp/own; sleep 1000000 & wait']
";

/// What Alpine is to an editor: musl and busybox. Its own image cannot be had here; a stand-in has its name.
const ALPINE_IMAGE: &str = "docker.io/library/alpine:3";
const ALPINE: &str = "schemaVersion: 2.2.0
metadata: { name: sample }
components:
- name: alpine
  container: { image: 'alpine:3', memoryLimit: 512Mi }
";

/// What editors do with programs: themselves again, a terminal with the container's own shell, a search.
const PROGRAMS: &str = r#"
const root = '/opt/editor/node_modules/code-server/lib/vscode/node_modules/';
const { execFileSync } = require('child_process');
console.log('child ' + execFileSync(process.execPath, ['-p', '6*7']).toString().trim());
const search = root + '@vscode/ripgrep-universal/bin/linux-x64/rg';
console.log('search ' + execFileSync(search, ['--version']).toString().split(' ')[0]);
for (const native of ['@parcel/watcher', '@vscode/spdlog', '@vscode/sqlite3', '@vscode/native-watchdog'])
  require(root + native);
console.log('native modules');
const terminal = require(root + 'node-pty').spawn('sh', ['-c', 'tty >/dev/null && echo in a terminal']);
let said = '';
terminal.onData(text => said += text);
terminal.onExit(() => { console.log('said ' + said.trim()); process.exit(0); });
"#;

fn editor(world: &mut World) -> Result<()> {
    images::editor(world.cluster.tools())?;
    images::stand_in(world.cluster.tools(), ALPINE_IMAGE, images::Filling::Musl)?;
    world.server.restart_with_editor("code-server")?;
    let result = both(world);
    world.server.restart_with_editor(NO_EDITOR)?;
    result
}

fn both(world: &World) -> Result<()> {
    let debian = Inside::create(world, "edit-debian", DEBIAN, "tools")?;
    let bare = Inside::create(world, "edit-bare", BARE, "work")?;
    let alpine = Inside::create(world, "edit-alpine", ALPINE, "alpine")?;

    ensure!(
        bare.sh("cat /tmp/own")? == "own\n",
        "its own command did not run"
    );
    let command = bare.sh("tr '\\0' ' ' </proc/1/cmdline")?;
    ensure!(command.starts_with("sh -c echo own"), "{command}");
    let libraries = bare.sh("ls -d /lib* /usr/lib* 2>/dev/null || :")?;
    ensure!(libraries.is_empty(), "{libraries}");

    debian.git_keeps_credentials_in_memory()?;
    debian.comes_back_when_it_ends()?;
    debian.keeps_settings()?;
    let libraries = alpine.sh("ls /lib /lib64 2>/dev/null || :")?;
    ensure!(
        libraries.contains("ld-musl-") && !libraries.contains("ld-linux"),
        "{libraries}"
    );
    for one in [debian, bare, alpine] {
        delete(world, one.name, &one.namespace())?;
    }
    Ok(())
}

/// One container of a workspace.
struct Inside<'a> {
    world: &'a World,
    name: &'static str,
    container: &'static str,
}

impl<'a> Inside<'a> {
    /// Makes the workspace and waits until its editor answers.
    fn create(
        world: &'a World,
        name: &'static str,
        devfile: &str,
        container: &'static str,
    ) -> Result<Self> {
        let url = repository(world, name, devfile)?;
        let created = workspace(world, &["create", &url, "--name", name])?;
        ensure!(created["actual_state"] == "Running", "{created:#}");
        let editor = &created["editor"];
        ensure!(editor["container"] == container, "{created:#}");
        ensure!(
            editor["folder"] == format!("/projects/{name}"),
            "{created:#}"
        );
        let one = Self {
            world,
            name,
            container,
        };
        one.answers()?;
        let took = one.injection()?;
        println!("        {name}: editor brought in {} s", took.as_secs());
        ensure!(took <= INJECTION, "it took {} s", took.as_secs());

        let script = format!("/opt/editor/bin/node -e \"$(cat <<'END'\n{PROGRAMS}\nEND\n)\"");
        let said = one.sh(&script)?;
        ensure!(
            said == "child 42\nsearch ripgrep\nnative modules\nsaid in a terminal\n",
            "{said}"
        );
        let write = one.sh("touch /opt/editor/x 2>&1 || :")?;
        ensure!(write.contains("ead-only"), "{write}");
        Ok(one)
    }

    fn namespace(&self) -> String {
        format!("{NAMESPACE_PREFIX}{}", self.name)
    }

    fn sh(&self, script: &str) -> Result<String> {
        let target = format!("deployment/{}", self.name);
        let namespace = self.namespace();
        let exec = ["exec", "-n", &namespace, &target, "-c", self.container];
        self.world
            .admin(&[&exec[..], &["--", "sh", "-c", script]].concat())
    }

    /// Waits until the editor answers through the tunnel and the Service, at the port of its name.
    fn answers(&self) -> Result<()> {
        let (namespace, name) = (self.namespace(), self.name);
        let path = format!("/api/v1/namespaces/{namespace}/services/{name}:editor/proxy/healthz");
        let result = wait_until(&format!("the editor of {name} answers"), ANSWERS, || {
            Ok(self
                .world
                .ask(&["get", "--raw", &path])
                .is_ok_and(|answer| answer.contains("\"status\"")))
        });
        result.with_context(|| self.log())
    }

    fn log(&self) -> String {
        self.sh("cat /tmp/devfile-editor.log")
            .unwrap_or_else(|error| format!("{error:#}"))
    }

    /// How long the init container ran.
    fn injection(&self) -> Result<Duration> {
        let namespace = self.namespace();
        let pods = self
            .world
            .admin(&["get", "pods", "-n", &namespace, "-o", "json"])?;
        let pods: Value = serde_json::from_str(&pods)?;
        let statuses = pods["items"][0]["status"]["initContainerStatuses"].as_array();
        let ended = statuses
            .into_iter()
            .flatten()
            .find(|status| status["name"] == "inject-editor")
            .map(|status| &status["state"]["terminated"])
            .context("no init container brings the editor")?;
        let at = |field: &str| -> Result<jiff::Timestamp> {
            let text = ended[field].as_str().context("it has not ended")?;
            Ok(text.parse()?)
        };
        let took = at("finishedAt")?.duration_since(at("startedAt")?);
        Ok(took.try_into()?)
    }

    fn git_keeps_credentials_in_memory(&self) -> Result<()> {
        let typed = "printf 'protocol=https\\nhost=git.example.com\\nusername=me\\npassword=mellon\\n' | git credential approve";
        self.sh(typed)?;
        let ask = "printf 'protocol=https\\nhost=git.example.com\\n' | GIT_TERMINAL_PROMPT=0 git credential fill";
        let filled = self.sh(ask)?;
        ensure!(filled.contains("password=mellon"), "{filled}");
        let kept = self.sh("grep -rl mellon \"$HOME\" /projects /tmp 2>/dev/null || :")?;
        ensure!(kept.is_empty(), "the password is in {kept}");
        let status = self.sh("git -C \"$PROJECT_SOURCE\" status --short")?;
        ensure!(status.is_empty(), "{status}");
        Ok(())
    }

    fn comes_back_when_it_ends(&self) -> Result<()> {
        self.sh("kill -9 $(pidof node)")?;
        wait_until("the editor's end is noted", ANSWERS, || {
            Ok(self.log().contains("ended with exit code"))
        })?;
        self.answers()
    }

    /// What is set in the editor is there after a stop and a start.
    fn keeps_settings(&self) -> Result<()> {
        let settings = "\"$HOME/.local/share/code-server/User/settings.json\"";
        self.sh(&format!(
            "echo '{{\"window.title\": \"mine\"}}' >{settings}"
        ))?;
        workspace(self.world, &["stop", self.name])?;
        workspace(self.world, &["start", self.name])?;
        self.answers()?;
        let kept = self.sh(&format!("cat {settings}"))?;
        ensure!(kept.contains("mine"), "{kept}");
        Ok(())
    }
}
