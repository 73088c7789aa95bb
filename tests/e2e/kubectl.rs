//! kubectl through the tunnel: the cluster's own (WebSocket) and Debian's old one (SPDY).

use std::io::{Read as _, Write as _};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::wait::wait_for;
use serde_json::{Value, json};
use tests::command::{Followed, outcome_with_input, output};

use crate::Test;
use crate::world::{CALL, PLAYGROUND, TALKER, World};

pub(crate) const TESTS: &[Test] = &[
    ("get_reads_objects", get),
    ("get_watch_sees_a_change", watch),
    ("logs_follow_streams_lines", logs),
    ("apply_server_side_writes", apply),
    (
        "exec_by_websocket_keeps_stdin_stdout_stderr_and_exit_code",
        |world| exec(world, World::person),
    ),
    (
        "exec_by_spdy_keeps_stdin_stdout_stderr_and_exit_code",
        |world| exec(world, World::person_of_old),
    ),
    ("exec_by_websocket_has_a_terminal", |world| {
        terminal(world, World::person)
    }),
    ("exec_by_spdy_has_a_terminal", |world| {
        terminal(world, World::person_of_old)
    }),
    (
        "new_kubectl_speaks_websocket_and_the_old_one_spdy",
        really_websocket,
    ),
    ("attach_shows_what_a_container_prints", attach),
    ("port_forward_carries_connections", port_forward),
    (
        "a_watch_ends_at_the_api_server_when_its_client_goes",
        client_goes,
    ),
];

/// A line of a stream is there long before this.
const LINE: Duration = Duration::from_secs(10);

type Kubectl = fn(&World, &[&str]) -> Command;

fn get(world: &mut World) -> Result<()> {
    for kubectl in [World::person, World::person_of_old] {
        let pods = output(
            &mut kubectl(world, &["get", "pods", "-n", PLAYGROUND]),
            CALL,
        )?;
        ensure!(pods.contains(TALKER) && pods.contains("Running"), "{pods}");
    }
    let version: Value = serde_json::from_str(&world.ask(&["get", "--raw", "/version"])?)?;
    ensure!(version["gitVersion"].is_string(), "{version}");
    Ok(())
}

fn watch(world: &mut World) -> Result<()> {
    for (name, kubectl) in [
        ("new", World::person as Kubectl),
        ("old", World::person_of_old),
    ] {
        let name = format!("seen-by-{name}");
        world.admin(&[
            "delete",
            "configmap",
            "-n",
            PLAYGROUND,
            &name,
            "--ignore-not-found",
        ])?;
        let mut command = kubectl(
            world,
            &[
                "get",
                "configmaps",
                "-n",
                PLAYGROUND,
                "-w",
                "--output-watch-events",
            ],
        );
        let mut watch = Followed::start(&mut command)?;
        // The list comes first: then the watch is there, or about to be, from the list's version on.
        watch.expect("kube-root-ca.crt", LINE)?;
        world.admin(&["create", "configmap", "-n", PLAYGROUND, &name])?;
        let line = watch.expect(&name, LINE)?;
        ensure!(line.starts_with("ADDED"), "{line}");
        world.admin(&["delete", "configmap", "-n", PLAYGROUND, &name])?;
        let line = watch.expect(&name, LINE)?;
        ensure!(line.starts_with("DELETED"), "{line}");
    }
    Ok(())
}

fn logs(world: &mut World) -> Result<()> {
    let mut logs =
        Followed::start(&mut world.person(&["logs", "-f", "--tail=1", "-n", PLAYGROUND, TALKER]))?;
    let number = |line: &str| -> Result<u64> {
        line.rsplit(' ')
            .next()
            .context("no number")?
            .parse()
            .context("no number")
    };
    let first = number(&logs.expect("line ", LINE)?)?;
    for following in first + 1..first + 6 {
        let line = logs.expect("line ", LINE)?;
        ensure!(
            number(&line)? == following,
            "{line:?} instead of line {following}"
        );
    }
    Ok(())
}

fn apply(world: &mut World) -> Result<()> {
    for (kubectl, value) in [
        (World::person as Kubectl, "one"),
        (World::person_of_old, "two"),
    ] {
        let object = json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": "applied", "namespace": PLAYGROUND}, "data": {"key": value},
        });
        let manifest = world.manifest("applied", &[object])?;
        let manifest = manifest.to_str().context("path is not UTF-8")?;
        // Old and new kubectl check the object against different schemas; here the API server does.
        let arguments = [
            "apply",
            "--server-side",
            "--force-conflicts",
            "--validate=false",
            "-f",
            manifest,
        ];
        let said = output(&mut kubectl(world, &arguments), CALL)?;
        ensure!(said.contains("serverside-applied"), "{said}");
        let now = world.admin(&[
            "get",
            "configmap",
            "-n",
            PLAYGROUND,
            "applied",
            "-o",
            "jsonpath={.data.key}",
        ])?;
        ensure!(now == value, "the API server has {now:?}");
    }
    Ok(())
}

fn exec(world: &mut World, kubectl: Kubectl) -> Result<()> {
    let script = "cat; echo to-stderr >&2; exit 7";
    let mut command = kubectl(
        world,
        &[
            "exec", "-i", "-n", PLAYGROUND, TALKER, "--", "sh", "-c", script,
        ],
    );
    let ended = outcome_with_input(&mut command, "through stdin\n", CALL)?;
    ensure!(ended.stdout == "through stdin\n", "{ended:?}");
    ensure!(ended.stderr.contains("to-stderr"), "{ended:?}");
    ensure!(ended.code == Some(7), "{ended:?}");

    // Far more than any window or buffer on the way, both ways.
    let text = "0123456789abcde\n".repeat(128 * 1024);
    let mut command = kubectl(
        world,
        &["exec", "-i", "-n", PLAYGROUND, TALKER, "--", "cat"],
    );
    let ended = outcome_with_input(&mut command, &text, CALL)?;
    ensure!(ended.code == Some(0), "{:?} {}", ended.code, ended.stderr);
    ensure!(
        ended.stdout == text,
        "{} bytes of {} came back, or others",
        ended.stdout.len(),
        text.len()
    );
    Ok(())
}

fn terminal(world: &mut World, kubectl: Kubectl) -> Result<()> {
    let command = kubectl(
        world,
        &["exec", "-it", "-n", PLAYGROUND, TALKER, "--", "sh"],
    );
    let mut session = Followed::start(&mut in_terminal(&command)?)?;
    session.type_in("test -t 0 && echo terminal-$((40+2))\n")?;
    session.expect("terminal-42", LINE)?;
    session.type_in("exit 7\n")?;
    let code = session.end(LINE)?;
    ensure!(code == Some(7), "exit code {code:?}");
    Ok(())
}

/// The same command on a terminal of its own.
fn in_terminal(command: &Command) -> Result<Command> {
    let mut words = vec![command.get_program()];
    words.extend(command.get_args());
    let words: Option<Vec<&str>> = words.into_iter().map(std::ffi::OsStr::to_str).collect();
    let mut wrapped = Command::new("script");
    // None of the words holds a quote.
    let line = format!("'{}'", words.context("not UTF-8")?.join("' '"));
    wrapped.args([
        "--quiet",
        "--return",
        "--flush",
        "--command",
        &line,
        "/dev/null",
    ]);
    for (name, value) in command.get_envs() {
        wrapped.env(name, value.unwrap_or_default());
    }
    Ok(wrapped)
}

fn really_websocket(world: &mut World) -> Result<()> {
    // A WebSocket begins with GET, which the API server calls `get`; SPDY with POST, which it calls `create`.
    for (kubectl, verb) in [
        (World::person as Kubectl, "get"),
        (World::person_of_old, "create"),
    ] {
        let mark = format!("by-{verb}-{}", std::process::id());
        output(
            &mut kubectl(
                world,
                &["exec", "-n", PLAYGROUND, TALKER, "--", "echo", &mark],
            ),
            CALL,
        )?;
        let audit = world.cluster.log_path("audit");
        let events = wait_for("the call is in the API server's audit log", LINE, || {
            let log = std::fs::read_to_string(&audit)?;
            let lines = log
                .lines()
                .filter(|line| line.contains(&mark) && line.contains("ResponseComplete"));
            let events = lines
                .map(serde_json::from_str)
                .collect::<Result<Vec<Value>, _>>()?;
            Ok((!events.is_empty()).then_some(events))
        })?;
        for event in events {
            ensure!(event["verb"] == verb, "{event:#}");
            let account = event["impersonatedUser"]["username"]
                .as_str()
                .unwrap_or_default();
            ensure!(account.ends_with("-user-access"), "{event:#}");
        }
    }
    Ok(())
}

fn attach(world: &mut World) -> Result<()> {
    for kubectl in [World::person as Kubectl, World::person_of_old] {
        let arguments = ["attach", "-n", PLAYGROUND, TALKER, "-c", TALKER];
        let mut attached = Followed::start(&mut kubectl(world, &arguments))?;
        attached.expect("line ", LINE)?;
        attached.expect("line ", LINE)?;
    }
    Ok(())
}

fn port_forward(world: &mut World) -> Result<()> {
    for kubectl in [World::person as Kubectl, World::person_of_old] {
        let arguments = ["port-forward", "-n", PLAYGROUND, TALKER, ":8000"];
        let mut forward = Followed::start(&mut kubectl(world, &arguments))?;
        // Forwarding from 127.0.0.1:PORT -> 8000
        let line = forward.expect("Forwarding from 127.0.0.1:", LINE)?;
        let address = line.split(' ').nth(2).context("no address")?;
        for _ in 0..3 {
            let mut stream = std::net::TcpStream::connect(address)?;
            stream.set_read_timeout(Some(LINE))?;
            stream.write_all(b"GET /hello HTTP/1.0\r\n\r\n")?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            ensure!(answer.ends_with("from the Pod\n"), "{answer:?}");
        }
    }
    Ok(())
}

fn client_goes(world: &mut World) -> Result<()> {
    let before = open_watches(world)?;
    let mut watch = Followed::start(&mut world.person(&["get", "pods", "-n", PLAYGROUND, "-w"]))?;
    watch.expect(TALKER, LINE)?;
    harness::wait::wait_until("the API server counts the watch", LINE, || {
        Ok(open_watches(world)? == before + 1)
    })?;
    drop(watch); // kill -9
    harness::wait::wait_until(
        "the watch has ended at the API server",
        Duration::from_secs(5),
        || Ok(open_watches(world)? == before),
    )
}

/// Open watches of the Pods of one namespace; nothing else in the cluster has one.
fn open_watches(world: &World) -> Result<u64> {
    sum_of(world, |line| {
        line.starts_with("apiserver_longrunning_requests{")
            && [
                r#"resource="pods""#,
                r#"scope="namespace""#,
                r#"verb="WATCH""#,
            ]
            .iter()
            .all(|label| line.contains(label))
    })
}

fn sum_of(world: &World, is: impl Fn(&str) -> bool) -> Result<u64> {
    let metrics = world.admin(&["get", "--raw", "/metrics"])?;
    metrics
        .lines()
        .filter(|line| is(line))
        .map(|line| {
            line.rsplit(' ')
                .next()
                .unwrap_or_default()
                .parse::<f64>()
                .map(|value| value as u64)
                .context("no number")
        })
        .sum()
}
