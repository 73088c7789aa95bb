//! The program itself, as a process: its command line, its log, its end.

use std::process::Stdio;
use std::sync::{Arc, Mutex};

use proto::agentcfg::LogLevel;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::fixture::{Cluster, eventually, within};
use crate::kas::{Kas, configuration};

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_agent"));
    command
        .args(arguments)
        .env_clear()
        .env("POD_NAMESPACE", "ns")
        .env("POD_NAME", "agent-0")
        .env("AGENTK_TOKEN", "good")
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// The lines that the program has logged.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<Value>>>);

impl Lines {
    fn of(child: &mut Child) -> Self {
        let lines = Self::default();
        let mut stderr = BufReader::new(child.stderr.take().unwrap()).lines();
        let sink = lines.clone();
        tokio::spawn(async move {
            while let Some(line) = stderr.next_line().await.unwrap() {
                let line = serde_json::from_str(&line).unwrap_or(Value::String(line));
                sink.0.lock().unwrap().push(line);
            }
        });
        lines
    }

    fn contain(&self, wanted: impl Fn(&Value) -> bool) -> bool {
        self.0.lock().unwrap().iter().any(wanted)
    }
}

#[tokio::test]
async fn the_program_logs_at_the_configured_level_and_ends_when_asked() {
    let cluster = Cluster::start().await;
    let kas = Kas::start().await;
    let address = format!("--kas-address=grpc://{}", kas.address);
    let kubeconfig = cluster.folder.path().join("kubeconfig");
    let kubeconfig = format!("--kubeconfig={}", kubeconfig.display());
    let listen = "--observability-listen-address=127.0.0.1:0";
    let mut child = command(&[&address, &kubeconfig, listen]).spawn().unwrap();
    let lines = Lines::of(&mut child);
    let received = |commit: &'static str| {
        move |line: &Value| line["message"] == "configuration received" && line["commit"] == commit
    };
    eventually("the first configuration", async || {
        lines.contain(received("c1"))
    })
    .await;
    assert!(!lines.contain(|line| line["level"] == "DEBUG"));
    assert_eq!(kas.get("/api").await.status, 201);

    let push = |commit, level| {
        kas.script
            .configuration
            .send_replace(configuration(commit, level));
    };
    push("c2", LogLevel::Debug);
    eventually("a line at DEBUG", async || {
        lines.contain(|line| line["level"] == "DEBUG")
    })
    .await;
    // The libraries keep their level, and the token its secret.
    assert!(!lines.contain(|line| {
        let target = line["target"].as_str().unwrap_or_default();
        target.starts_with("h2") || target.starts_with("hyper")
    }));
    push("c3", LogLevel::Warn);
    eventually("c3", async || lines.contain(received("c3"))).await;
    // At WARN nothing is said about a new configuration. That it came is seen by the level it brings.
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    push("c4", LogLevel::Warn);
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    push("c5", LogLevel::Debug);
    eventually("DEBUG again", async || {
        lines
            .0
            .lock()
            .unwrap()
            .iter()
            .filter(|line| line["message"] == "log level in force")
            .count()
            >= 2
    })
    .await;
    assert!(!lines.contain(received("c4")));

    let id = child.id().unwrap().to_string();
    let killed = Command::new("kill").args(["-TERM", &id]).status().await;
    assert!(killed.unwrap().success());
    let status = within("the program's end", child.wait()).await.unwrap();
    assert!(status.success(), "{status}");
    assert_eq!(kas.script.unregistered.lock().unwrap().len(), 1);
    assert!(!lines.contain(|line| line.to_string().contains("Bearer good")));
}

#[tokio::test]
async fn a_wrong_command_line_says_what_would_be_right() {
    let cases: [(&[&str], &str); 3] = [
        (&[], "--kas-address"),
        (&["--kas-address=grpcs://kas/path/"], "use wss://kas/path/"),
        (&["--kas-address=grpc://kas"], "give --kubeconfig"),
    ];
    for (arguments, expected) in cases {
        let output = within("the program", command(arguments).output())
            .await
            .unwrap();
        assert!(!output.status.success());
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(text.contains(expected), "{arguments:?}: {text}");
    }
}
