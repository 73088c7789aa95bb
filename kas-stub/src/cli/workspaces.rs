//! `kas-stub workspace`.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use http::Method;
use model::FailureCode;
use serde_json::{Value, json};

use super::{
    ClientArgs,
    administer::{list, or_dash, segment, show, text, time},
    client::{ask, stream},
    output,
};

/// Between two looks while waiting. The server is asked, not the cluster.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);
/// How long a failure that does not pass by itself must stand before waiting ends.
const PATIENCE: Duration = Duration::from_secs(15);

#[derive(Debug, Subcommand)]
pub(super) enum WorkspaceCommand {
    /// Make a workspace from the devfile in a Git repository.
    Create {
        /// The repository, as https://HOST/PATH.
        repository: String,
        /// Branch, tag or whole commit id [default: the default branch].
        #[arg(long = "ref", value_name = "REF")]
        reference: Option<String>,
        /// The devfile's path in it [default: .devfile.yaml, devfile.yaml, .devfile.yml or devfile.yml].
        #[arg(long, value_name = "PATH")]
        devfile_path: Option<String>,
        /// The agent in whose cluster it runs; needed when there are several.
        #[arg(long)]
        agent: Option<String>,
        /// How it is run: native or devworkspace [default: what the agent's configuration says, else native].
        #[arg(long)]
        backend: Option<String>,
        /// Its editor, or none; `kas-stub agent show` lists them [default: the first of the list].
        #[arg(long)]
        editor: Option<String>,
        /// Its size, one of the agent's classes; `kas-stub agent show` lists them [default: the first of the list].
        #[arg(long)]
        class: Option<String>,
        /// Its name: a lowercase letter, then letters, digits and '-', at most 40 [default: from the repository].
        #[arg(long)]
        name: Option<String>,
        /// Take over this orphan of the agent (`kas-stub agent show` lists them), with its volumes; --name must be its name.
        #[arg(long, value_name = "ID", requires = "name")]
        adopt: Option<String>,
        #[command(flatten)]
        wait: WaitArgs,
        #[command(flatten)]
        client: ClientArgs,
    },
    /// List your workspaces.
    List {
        /// Those of somebody else, or '*' for everybody's; for administrators.
        #[arg(long, value_name = "USER")]
        owner: Option<String>,
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Show one workspace, and why it is not what was asked.
    Show {
        /// The workspace's name.
        name: String,
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Show what a workspace's container wrote.
    Logs {
        /// The workspace's name.
        name: String,
        /// Its container [default: the first of the devfile].
        #[arg(long)]
        container: Option<String>,
        /// Go on as it writes more.
        #[arg(short, long)]
        follow: bool,
        /// Lines from the end.
        #[arg(long, default_value_t = 200)]
        tail: u32,
        /// Of the container before its last restart.
        #[arg(long)]
        previous: bool,
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Start a workspace that is stopped.
    Start(ChangeArgs),
    /// Stop a workspace; its volumes stay.
    Stop(ChangeArgs),
    /// Stop a workspace and start it again.
    Restart(ChangeArgs),
    /// Delete a workspace with its volumes. There is no way back.
    Delete(ChangeArgs),
    /// Delete an orphan (a workspace of another server) from an agent's cluster, with its volumes. There is no way back.
    DeleteOrphan {
        /// The agent's name.
        agent: String,
        /// The orphan's id, from `kas-stub agent show`.
        id: String,
        #[command(flatten)]
        wait: WaitArgs,
        #[command(flatten)]
        client: ClientArgs,
    },
}

#[derive(Debug, Args)]
pub(super) struct ChangeArgs {
    /// The workspace's name.
    name: String,
    #[command(flatten)]
    wait: WaitArgs,
    #[command(flatten)]
    client: ClientArgs,
}

#[derive(Debug, Args)]
pub(super) struct WaitArgs {
    /// Wait until it is so, telling each step; the exit code says whether it became so.
    #[arg(long)]
    wait: bool,
    /// The longest wait, in seconds.
    #[arg(long, default_value_t = 600, value_name = "SECONDS")]
    wait_timeout: u64,
}

pub(super) async fn run(command: WorkspaceCommand) -> anyhow::Result<()> {
    match command {
        WorkspaceCommand::Create {
            repository,
            reference,
            devfile_path,
            agent,
            backend,
            editor,
            class,
            name,
            adopt,
            wait,
            client,
        } => {
            let body = json!({
                "repository": repository, "ref": reference, "devfile_path": devfile_path,
                "agent": agent, "backend": backend, "editor": editor, "class": class, "name": name, "adopt": adopt,
            });
            let answer = ask(&client, Method::POST, "/workspaces", Some(body)).await?;
            for note in list(&answer["notes"]) {
                let (field, reason) = (text(note, "field"), text(note, "reason"));
                output::warning(&format!("{field}: {reason}"));
            }
            finish(&client, answer, &wait, "Running").await
        }
        WorkspaceCommand::List { owner, client } => {
            let query = owner.map(|it| format!("?owner={}", segment(&it)));
            let path = format!("/workspaces{}", query.unwrap_or_default());
            let answer = ask(&client, Method::GET, &path, None).await?;
            show(&client, &answer, table);
            Ok(())
        }
        WorkspaceCommand::Show { name, client } => {
            let answer = ask(&client, Method::GET, &path(&name), None).await?;
            show(&client, &answer, one);
            Ok(())
        }
        WorkspaceCommand::Logs {
            name,
            container,
            follow,
            tail,
            previous,
            client,
        } => {
            let container = container.map(|it| format!("&container={}", segment(&it)));
            let path = format!(
                "{}/logs?follow={follow}&tail={tail}&previous={previous}{}",
                path(&name),
                container.unwrap_or_default()
            );
            stream(&client, &path, output::bytes).await
        }
        WorkspaceCommand::Start(arguments) => change(arguments, "start", "Running").await,
        WorkspaceCommand::Stop(arguments) => change(arguments, "stop", "Stopped").await,
        WorkspaceCommand::Restart(arguments) => change(arguments, "restart", "Running").await,
        WorkspaceCommand::Delete(arguments) => {
            let ChangeArgs { name, wait, client } = arguments;
            let answer = ask(&client, Method::DELETE, &path(&name), None).await?;
            finish(&client, answer, &wait, "Terminated").await
        }
        WorkspaceCommand::DeleteOrphan {
            agent,
            id,
            wait,
            client,
        } => {
            let path = format!("/agents/{}/orphans/{}", segment(&agent), segment(&id));
            let answer = ask(&client, Method::DELETE, &path, None).await?;
            finish(&client, answer, &wait, "Terminated").await
        }
    }
}

async fn change(arguments: ChangeArgs, verb: &str, wanted: &str) -> anyhow::Result<()> {
    let ChangeArgs { name, wait, client } = arguments;
    let path = format!("{}/{verb}", path(&name));
    let answer = ask(&client, Method::POST, &path, None).await?;
    finish(&client, answer, &wait, wanted).await
}

fn path(name: &str) -> String {
    format!("/workspaces/{}", segment(name))
}

async fn finish(
    client: &ClientArgs,
    answer: Value,
    wait: &WaitArgs,
    wanted: &str,
) -> anyhow::Result<()> {
    let answer = if wait.wait {
        let limit = Duration::from_secs(wait.wait_timeout);
        wait_for(client, answer, wanted, limit).await?
    } else {
        answer
    };
    show(client, &answer, |answer| output::line(&summary(answer)));
    Ok(())
}

/// Waits until a workspace is as wanted, and tells each change on the way.
async fn wait_for(
    client: &ClientArgs,
    mut workspace: Value,
    wanted: &str,
    limit: Duration,
) -> anyhow::Result<Value> {
    let began = Instant::now();
    let path = path(text(&workspace, "name"));
    let mut told = String::new();
    let mut failures_told = BTreeSet::new();
    let mut failing_since = None;
    loop {
        let summary = summary(&workspace);
        if summary != told {
            output::progress(began.elapsed(), &summary);
            told = summary;
        }
        let failures = list(&workspace["failures"]);
        for failure in failures {
            let line = failure_line(failure);
            if failures_told.insert(line.clone()) {
                output::progress(began.elapsed(), &line);
            }
        }
        if is_as_wanted(&workspace, wanted) {
            return Ok(workspace);
        }
        if text(&workspace, "actual_state") == "Failed" && is_of_wish(&workspace, wanted) {
            bail!("it did not start: {}", reasons(failures));
        }
        if failures.iter().any(stands) {
            let since = *failing_since.get_or_insert_with(Instant::now);
            if since.elapsed() >= PATIENCE {
                bail!("it is not {wanted}: {}", reasons(failures));
            }
        } else {
            failing_since = None;
        }
        if began.elapsed() >= limit {
            let seconds = limit.as_secs();
            bail!(
                "it is not {wanted} after {seconds} seconds: {told}; {}",
                reasons(failures)
            );
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
        // A server that restarts is waited for, too.
        match ask(client, Method::GET, &path, None).await {
            Ok(answer) => workspace = answer,
            Err(error) if began.elapsed() >= limit => return Err(error).context("look again"),
            Err(_) => {}
        }
    }
}

fn is_as_wanted(workspace: &Value, wanted: &str) -> bool {
    text(workspace, "actual_state") == wanted
        && text(workspace, "desired_state") == wanted
        && (is_of_wish(workspace, wanted) || wanted == "Terminated")
}

/// Whether what is seen is what became of the wish, and not of the one before.
fn is_of_wish(workspace: &Value, wanted: &str) -> bool {
    workspace["generation"] == workspace["applied_generation"]
        && text(workspace, "desired_state") == wanted
}

/// Whether a failure keeps a workspace from running, and does not pass by itself.
fn stands(failure: &Value) -> bool {
    let code = serde_json::from_value::<FailureCode>(failure["code"].clone());
    code.is_ok_and(|code| !code.is_passing() && code != FailureCode::CloneFailed)
}

fn reasons(failures: &[Value]) -> String {
    if failures.is_empty() {
        return "the agent gives no reason".into();
    }
    let lines: Vec<_> = failures.iter().map(failure_line).collect();
    lines.join("; ")
}

fn failure_line(failure: &Value) -> String {
    let (component, evidence) = (text(failure, "component"), text(failure, "evidence"));
    let component = if component.is_empty() {
        String::new()
    } else {
        format!(" ({component})")
    };
    let evidence = match evidence.lines().next() {
        Some(first) if !first.is_empty() => format!(" [{first}]"),
        Some(_) | None => String::new(),
    };
    format!(
        "{}{component}: {}{evidence}",
        text(failure, "code"),
        text(failure, "message")
    )
}

/// One line.
fn summary(workspace: &Value) -> String {
    let (actual, desired) = (
        text(workspace, "actual_state"),
        text(workspace, "desired_state"),
    );
    let wish = if actual == desired {
        String::new()
    } else {
        format!(", wanted {desired}")
    };
    let agent = if workspace["agent_connected"] == false {
        format!(
            "; unknown since {}: agent {} is away, or cannot reach its cluster",
            time(workspace, "unknown_since"),
            text(workspace, "agent")
        )
    } else {
        String::new()
    };
    format!("{} is {actual}{wish}{agent}", text(workspace, "name"))
}

fn table(answer: &Value) {
    let rows = list(answer).iter().map(|workspace| {
        let failure = list(&workspace["failures"]).first();
        let cell = |name| or_dash(text(workspace, name)).to_owned();
        vec![
            cell("name"),
            cell("agent"),
            cell("backend"),
            cell("desired_state"),
            cell("actual_state"),
            or_dash(failure.map_or("", |it| text(it, "code"))).to_owned(),
            cell("repository"),
        ]
    });
    let head = [
        "NAME",
        "AGENT",
        "BACKEND",
        "WANTED",
        "STATE",
        "FAILURE",
        "REPOSITORY",
    ];
    output::table(&head, &rows.collect::<Vec<_>>());
}

fn one(workspace: &Value) {
    let rows = [
        ("name", "name"),
        ("id", "id"),
        ("agent", "agent"),
        ("namespace", "namespace"),
        ("backend", "backend"),
        ("class", "class"),
        ("repository", "repository"),
        ("ref", "ref"),
        ("commit", "commit"),
        ("devfile", "devfile_path"),
        ("wanted", "desired_state"),
        ("state", "actual_state"),
    ];
    for (label, name) in rows {
        output::line(&format!("{label:<11}{}", or_dash(text(workspace, name))));
    }
    let since = time(workspace, "actual_state_changed_at");
    output::line(&format!("{:<11}{since}", "since"));
    for (label, name) in [("because", "desired_state_reason"), ("main", "main_url")] {
        let value = text(workspace, name);
        if !value.is_empty() {
            output::line(&format!("{label:<11}{value}"));
        }
    }
    let operator = &workspace["operator"];
    if !operator.is_null() {
        let (phase, message) = (text(operator, "phase"), text(operator, "message"));
        output::line(&format!("{:<11}{}: {message}", "operator", or_dash(phase)));
    }
    let next = &workspace["next_change"];
    if next.is_object() {
        let (state, at) = (text(next, "state"), time(next, "at"));
        let reason = text(next, "reason");
        output::line(&format!("{:<11}{state} at {at}: {reason}", "next"));
    }
    if let Some(line) = settings_line(&workspace["configuration"]) {
        output::line(&format!("{:<11}{line}", "settings"));
    }
    for failure in list(&workspace["failures"]) {
        let line = failure_line(failure);
        output::line(&format!(
            "{:<11}{line}, since {}",
            "failure",
            time(failure, "since")
        ));
    }
    for note in list(&workspace["notes"]) {
        let (field, reason) = (text(note, "field"), text(note, "reason"));
        output::line(&format!("{:<11}{field}: {reason}", "note"));
    }
}

/// What a workspace was rendered with, against its agent's file.
fn settings_line(configuration: &Value) -> Option<String> {
    let current = configuration["current"].as_bool()?;
    let commit = or_dash(text(configuration, "commit"));
    if current {
        return Some(format!("of commit {commit}, as the file is now"));
    }
    let differs: Vec<_> = list(&configuration["differs"])
        .iter()
        .filter_map(Value::as_str)
        .collect();
    let differs = if differs.is_empty() {
        "not known".to_owned()
    } else {
        differs.join(", ")
    };
    let applies = text(configuration, "applies").replace('_', " ");
    Some(format!(
        "of commit {commit}; changed since: {differs}; applied: {applies}"
    ))
}
