//! The commands that ask a running server.

use anyhow::Context as _;
use http::Method;
use serde_json::{Value, json};

use super::{
    AgentCommand, AgentTokenCommand, ClientArgs, Command, Output, TokenCommand, client::ask,
    kubeconfig::Kubeconfig, output,
};

pub(super) fn run(command: Command) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the runtime")?;
    runtime.block_on(async {
        match command {
            // Run elsewhere.
            Command::Serve { .. }
            | Command::Backup { .. }
            | Command::Restore { .. }
            | Command::Idle
            | Command::CheckConfig { .. } => Ok(()),
            Command::Agent(command) => agent(command).await,
            Command::Workspace(command) => super::workspaces::run(command).await,
            Command::User(command) => super::people::user(command).await,
            Command::Project(command) => super::people::project(command).await,
            Command::Session(command) => super::people::session(command).await,
            Command::Audit(args) => super::people::audit(args).await,
            Command::Token(command) => token(command).await,
            Command::Kubeconfig {
                agent,
                output_file,
                expires_days,
                client,
            } => {
                let yaml = kubeconfig(&client, &agent, expires_days).await?;
                match output_file {
                    Some(path) => output::secret_file(&path, &yaml),
                    None => {
                        output::text(&yaml);
                        Ok(())
                    }
                }
            }
            Command::SignInLink { user, client } => {
                let body = json!({ "user": user });
                let answer = ask(&client, Method::POST, "/sign-in-links", Some(body)).await?;
                show(&client, &answer, |answer| output::line(text(answer, "url")));
                Ok(())
            }
            Command::Ca { client } => {
                let answer = ask(&client, Method::GET, "/server", None).await?;
                output::text(text(&answer, "ca_certificate"));
                Ok(())
            }
        }
    })
}

async fn agent(command: AgentCommand) -> anyhow::Result<()> {
    match command {
        AgentCommand::Create {
            name,
            project,
            in_project,
            import_id,
            import_token_file,
            client,
        } => {
            let token = import_token_file.map(|path| {
                let text = std::fs::read_to_string(&path);
                let text = text.with_context(|| format!("read {}", path.display()))?;
                anyhow::Ok(text.trim().to_owned())
            });
            let body = json!({
                "name": name, "project_url": project, "project": in_project,
                "id": import_id, "token": token.transpose()?,
            });
            let answer = ask(&client, Method::POST, "/agents", Some(body)).await?;
            show(&client, &answer, created_agent);
        }
        AgentCommand::List { client } => {
            let answer = ask(&client, Method::GET, "/agents", None).await?;
            show(&client, &answer, agents);
        }
        AgentCommand::Show { name, client } => {
            let path = format!("/agents/{}", segment(&name));
            let answer = ask(&client, Method::GET, &path, None).await?;
            show(&client, &answer, one_agent);
        }
        AgentCommand::Install {
            name,
            chart,
            client,
        } => {
            let path = format!("/agents/{}", segment(&name));
            let found = ask(&client, Method::GET, &path, None).await?;
            let server = ask(&client, Method::GET, "/server", None).await?;
            let script = super::install::script(&name, &found, &server, &chart, &client)?;
            output::text(&script);
        }
        AgentCommand::AcceptCluster { name, client } => {
            let path = format!("/agents/{}/accept-cluster", segment(&name));
            let answer = ask(&client, Method::POST, &path, None).await?;
            show(&client, &answer, |answer| {
                let cluster = short(text(answer, "id"));
                output::line(&format!("agent {name} has cluster {cluster} now"));
            });
        }
        AgentCommand::Move { name, to, client } => {
            let path = format!("/agents/{}/project", segment(&name));
            let answer = ask(&client, Method::PUT, &path, Some(json!({ "project": to }))).await?;
            show(&client, &answer, |answer| {
                let project = or_dash(text(answer, "project"));
                output::line(&format!("agent {name} is in project {project} now"));
            });
        }
        AgentCommand::Token(command) => agent_token(command).await?,
    }
    Ok(())
}

async fn agent_token(command: AgentTokenCommand) -> anyhow::Result<()> {
    match command {
        AgentTokenCommand::Create { name, client } => {
            let path = format!("/agents/{}/tokens", segment(&name));
            let answer = ask(&client, Method::POST, &path, None).await?;
            show(&client, &answer, |answer| {
                output::line(text(answer, "token"))
            });
        }
        AgentTokenCommand::List { name, client } => {
            let path = format!("/agents/{}/tokens", segment(&name));
            let answer = ask(&client, Method::GET, &path, None).await?;
            show(&client, &answer, tokens);
        }
        AgentTokenCommand::Revoke { name, id, client } => {
            let path = format!("/agents/{}/tokens/{id}", segment(&name));
            let answer = ask(&client, Method::DELETE, &path, None).await?;
            show(&client, &answer, |_| {
                output::line(&format!("token {id} is revoked"))
            });
        }
    }
    Ok(())
}

async fn token(command: TokenCommand) -> anyhow::Result<()> {
    match command {
        TokenCommand::Create {
            name,
            expires_days,
            scope,
            client,
        } => {
            let answer = create_token(&client, &name, expires_days, &scope).await?;
            show(&client, &answer, |answer| {
                output::line(text(answer, "token"))
            });
        }
        TokenCommand::List { client } => {
            let answer = ask(&client, Method::GET, "/tokens", None).await?;
            show(&client, &answer, tokens);
        }
        TokenCommand::Revoke { id, client } => {
            let answer = ask(&client, Method::DELETE, &format!("/tokens/{id}"), None).await?;
            show(&client, &answer, |_| {
                output::line(&format!("token {id} is revoked"))
            });
        }
    }
    Ok(())
}

/// No scopes: all.
async fn create_token(
    client: &ClientArgs,
    name: &str,
    days: u32,
    scopes: &[String],
) -> anyhow::Result<Value> {
    let scopes = Some(scopes).filter(|it| !it.is_empty());
    let body = json!({ "name": name, "expires_days": days, "scopes": scopes });
    ask(client, Method::POST, "/tokens", Some(body)).await
}

async fn kubeconfig(client: &ClientArgs, agent: &str, days: u32) -> anyhow::Result<String> {
    let found = ask(
        client,
        Method::GET,
        &format!("/agents/{}", segment(agent)),
        None,
    )
    .await?;
    let server = ask(client, Method::GET, "/server", None).await?;
    let external_url = text(&server, "external_url");
    if !external_url.starts_with("https://") {
        output::warning(
            "kubectl sends no token over http://: give the server an https:// --external-url",
        );
    }
    // It lies in a file, and is for kubectl alone.
    let scopes = ["k8s_proxy".to_owned()];
    let token = create_token(client, &format!("kubeconfig of {agent}"), days, &scopes).await?;
    let kubeconfig = Kubeconfig {
        agent,
        agent_id: found["id"]
            .as_u64()
            .context("the server gave no agent id")?,
        external_url,
        ca_pem: text(&server, "ca_certificate"),
        token: text(&token, "token"),
    };
    Ok(kubeconfig.yaml())
}

pub(super) fn show(client: &ClientArgs, answer: &Value, as_text: impl FnOnce(&Value)) {
    match client.output {
        Output::Json => output::json(answer),
        Output::Text => as_text(answer),
    }
}

fn created_agent(answer: &Value) {
    let webhook = &answer["webhook"];
    output::line(&format!(
        "agent {} has id {}\n\ntoken, shown only now:\n  {}\n\npush hook of its project, for changes within seconds:\n  \
         URL {}\n  secret (header X-Gitlab-Token), shown only now:\n  {}\n\n\
         `kas-stub agent install {}` prints the commands that install it.",
        text(answer, "name"),
        answer["id"],
        text(answer, "token"),
        text(webhook, "url"),
        text(webhook, "secret"),
        text(answer, "name"),
    ));
}

fn agents(answer: &Value) {
    let rows = list(answer).iter().map(|agent| {
        let configuration = &agent["configuration"];
        vec![
            text(agent, "name").to_owned(),
            agent["id"].to_string(),
            yes_no(&agent["connected"]),
            list(&agent["pods"]).len().to_string(),
            short(text(configuration, "commit")).to_owned(),
            match configuration["error"].is_null() {
                true => "ok".to_owned(),
                false => text(&configuration["error"], "message").to_owned(),
            },
        ]
    });
    let head = ["NAME", "ID", "CONNECTED", "PODS", "COMMIT", "CONFIGURATION"];
    output::table(&head, &rows.collect::<Vec<_>>());
}

/// What workspaces can be made with.
fn one_agents_choices(choices: &Value) {
    if choices.is_null() {
        return;
    }
    let names = |of: &Value| -> Vec<String> {
        let name = |it: &Value| it.as_str().unwrap_or_else(|| text(it, "name")).to_owned();
        list(of).iter().map(name).collect()
    };
    output::line(&format!(
        "workspaces {}, by {}\neditors    {}\nclasses    {}",
        match choices["enabled"] == true {
            true => "can be made",
            false => "are turned off",
        },
        text(choices, "backend"),
        or_dash(&names(&choices["editors"]).join(", ")),
        or_dash(&names(&choices["classes"]).join(", ")),
    ));
    if let Some(namespace) = choices["shared_namespace"].as_str() {
        output::line(&format!("namespace  {namespace}, shared by all"));
    }
}

fn one_agent(agent: &Value) {
    let configuration = &agent["configuration"];
    output::line(&format!(
        "name       {}\nid         {}\nproject    {}\nconnected  {}\ntunnels    {} idle, {} active\ncommit     {}",
        text(agent, "name"),
        agent["id"],
        or_dash(text(agent, "project_url")),
        yes_no(&agent["connected"]),
        agent["tunnels"]["idle"],
        agent["tunnels"]["active"],
        or_dash(text(configuration, "commit")),
    ));
    let older = configuration["older"].as_object();
    for (section, commit) in older.into_iter().flatten() {
        let commit = commit.as_str().map_or("the default", short);
        output::line(&format!("older      {section} is of {commit}"));
    }
    one_agents_choices(&agent["workspaces"]);
    for pod in list(&agent["pods"]) {
        output::line(&format!(
            "pod        {}/{}, agent {}, Kubernetes {}, since {}",
            text(pod, "pod_namespace"),
            text(pod, "pod_name"),
            or_dash(text(pod, "version")),
            or_dash(text(pod, "kubernetes_version")),
            time(pod, "connected_at"),
        ));
        for warning in list(&pod["warnings"]) {
            let warning = warning.as_str().unwrap_or_default();
            output::line(&format!("warning    {warning}"));
        }
    }
    let cluster = &agent["cluster"];
    if !cluster.is_null() {
        output::line(&format!("cluster    {}", short(text(cluster, "id"))));
    }
    let refused = &cluster["refused"];
    if !refused.is_null() {
        output::line(&format!(
            "refused    cluster {} uses a token of this agent too, last seen {}; give it an agent of its own, or, when the \
             first one is gone: kas-stub agent accept-cluster {}",
            short(text(refused, "id")),
            time(refused, "last_seen"),
            text(agent, "name"),
        ));
    }
    let operator = &agent["devworkspaces"];
    if !operator.is_null() {
        let reason = text(operator, "reason");
        let reason = match reason {
            "" => String::new(),
            reason => format!(": {reason}"),
        };
        output::line(&format!(
            "operator   DevWorkspaces can be run: {}{reason}",
            yes_no(&operator["available"])
        ));
    }
    for orphan in list(&agent["orphans"]["listed"]) {
        output::line(&format!(
            "orphan     {} ({}), {}, id {}",
            text(orphan, "name"),
            text(orphan, "namespace"),
            text(orphan, "actual_state"),
            text(orphan, "workspace_id"),
        ));
    }
    for note in list(&configuration["notes"]) {
        let (field, reason) = (text(note, "field"), text(note, "reason"));
        let field = if field.is_empty() {
            String::new()
        } else {
            format!("{field}: ")
        };
        output::line(&format!("note       {field}{reason}"));
    }
    let error = &configuration["error"];
    if error.is_null() {
        return;
    }
    output::line(&format!(
        "error      {}, since {}",
        text(error, "message"),
        text(error, "since")
    ));
    for problem in list(&error["problems"]) {
        output::line(&format!(
            "           line {}, {}: {}; expected {}",
            problem["line"],
            text(problem, "field"),
            text(problem, "reason"),
            text(problem, "expected"),
        ));
    }
}

pub(super) fn tokens(answer: &Value) {
    let rows = list(answer).iter().map(|token| {
        vec![
            token["id"].to_string(),
            or_dash(text(token, "name")).to_owned(),
            scopes(&token["scopes"]),
            time(token, "created_at"),
            time(token, "last_used_at"),
            time(token, "expires_at"),
            time(token, "revoked_at"),
        ]
    });
    let head = [
        "ID",
        "NAME",
        "FOR",
        "CREATED",
        "LAST USED",
        "EXPIRES",
        "REVOKED",
    ];
    output::table(&head, &rows.collect::<Vec<_>>());
}

fn scopes(value: &Value) -> String {
    let names: Vec<_> = list(value).iter().filter_map(Value::as_str).collect();
    or_dash(&names.join(",")).to_owned()
}

/// A name as a segment of a path, or a value of a query.
pub(super) fn segment(name: &str) -> String {
    // A path of dots would be another place.
    percent_encoding::utf8_percent_encode(name, percent_encoding::NON_ALPHANUMERIC).to_string()
}

pub(super) fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_default()
}

/// A time for people: to the second; `-` when there is none.
pub(super) fn time(value: &Value, name: &str) -> String {
    let text = or_dash(text(value, name));
    match text.split_once('.') {
        Some((seconds, _)) => format!("{seconds}Z"),
        None => text.to_owned(),
    }
}

pub(super) fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn yes_no(value: &Value) -> String {
    if value.as_bool() == Some(true) {
        "yes"
    } else {
        "no"
    }
    .to_owned()
}

fn short(commit: &str) -> &str {
    or_dash(commit.get(..12).unwrap_or(commit))
}

pub(super) fn or_dash(text: &str) -> &str {
    if text.is_empty() { "-" } else { text }
}
