//! `kas-stub user|project|session|audit`.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Subcommand, ValueEnum};
use http::Method;
use serde_json::{Value, json};

use super::{
    ClientArgs,
    administer::{list, or_dash, segment, show, text, time, tokens},
    client::ask,
    output,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Role {
    User,
    Administrator,
}

impl Role {
    fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Administrator => "administrator",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum MemberRole {
    /// Uses the project's agents.
    Developer,
    /// Also makes agents, and their tokens.
    Maintainer,
    /// Also says who is a member.
    Owner,
}

impl MemberRole {
    fn as_str(self) -> &'static str {
        match self {
            Self::Developer => "developer",
            Self::Maintainer => "maintainer",
            Self::Owner => "owner",
        }
    }
}

#[derive(Debug, Subcommand)]
pub(super) enum UserCommand {
    /// Make a user. Without a password and a subject the server makes a password and prints it, once.
    Create {
        /// Of a-z, 0-9 and . _ - @ +, at most 64.
        name: String,
        #[arg(long)]
        administrator: bool,
        /// A file with the password, 12 characters or more.
        #[arg(long, value_name = "FILE", conflicts_with = "subject")]
        password_file: Option<PathBuf>,
        /// The claim sub that the provider of OpenID Connect knows them by.
        #[arg(long)]
        subject: Option<String>,
        #[command(flatten)]
        client: ClientArgs,
    },
    /// List users.
    List {
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Show the account that this command acts as, and the projects it is a member of.
    Whoami {
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Let a user do nothing more: what they have open ends, their tokens have no effect until they are reactivated.
    Suspend {
        name: String,
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Undo a suspension.
    Reactivate {
        name: String,
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Change a user's role: they sign in anew.
    Role {
        name: String,
        role: Role,
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Give a user a new password: their sessions end. Without a file the server makes one and prints it, once.
    ResetPassword {
        name: String,
        #[arg(long, value_name = "FILE")]
        password_file: Option<PathBuf>,
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Let a user sign in as somebody at the provider of OpenID Connect.
    Link {
        name: String,
        /// The claim sub that the provider knows them by.
        #[arg(long)]
        subject: String,
        #[command(flatten)]
        client: ClientArgs,
    },
    /// List a user's tokens.
    Tokens {
        name: String,
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Revoke a user's token: requests by it end at once.
    RevokeToken {
        name: String,
        /// From `kas-stub user tokens`.
        id: u64,
        #[command(flatten)]
        client: ClientArgs,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum ProjectCommand {
    /// Make a project.
    Create {
        /// Such as team/tools.
        path: String,
        #[command(flatten)]
        client: ClientArgs,
    },
    /// List the projects you may see.
    List {
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Show a project, its members and its agents.
    Show {
        path: String,
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Delete a project without agents.
    Delete {
        path: String,
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Make a user a member, or change what they are.
    AddMember {
        path: String,
        user: String,
        #[arg(long, value_enum)]
        role: MemberRole,
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Take a member out: what they have open ends.
    RemoveMember {
        path: String,
        user: String,
        #[command(flatten)]
        client: ClientArgs,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum SessionCommand {
    /// List where somebody is signed in; by default yourself.
    List {
        #[arg(long)]
        user: Option<String>,
        #[command(flatten)]
        client: ClientArgs,
    },
    /// End a session.
    Revoke {
        /// From `kas-stub session list`.
        id: u64,
        /// Whose it is, if not yours.
        #[arg(long)]
        user: Option<String>,
        #[command(flatten)]
        client: ClientArgs,
    },
}

/// Show who did what, the newest first.
#[derive(Debug, clap::Args)]
pub(super) struct AuditArgs {
    /// Only what this user did.
    #[arg(long)]
    user: Option<String>,
    /// Only this action, such as CreateWorkspace.
    #[arg(long)]
    action: Option<String>,
    /// Only what was refused.
    #[arg(long)]
    refused: bool,
    /// Only what is older than the entry with this id.
    #[arg(long, value_name = "ID")]
    before: Option<u64>,
    /// At most so many, up to 1000.
    #[arg(long, default_value_t = 100)]
    limit: u32,
    #[command(flatten)]
    client: ClientArgs,
}

pub(super) async fn user(command: UserCommand) -> anyhow::Result<()> {
    match command {
        UserCommand::Create {
            name,
            administrator,
            password_file,
            subject,
            client,
        } => {
            let role = if administrator {
                Role::Administrator
            } else {
                Role::User
            };
            let body = json!({
                "name": name, "role": role.as_str(), "password": read(password_file)?, "subject": subject,
            });
            let answer = ask(&client, Method::POST, "/users", Some(body)).await?;
            show(&client, &answer, told);
        }
        UserCommand::List { client } => {
            let answer = ask(&client, Method::GET, "/users", None).await?;
            show(&client, &answer, users);
        }
        UserCommand::Whoami { client } => {
            let answer = ask(&client, Method::GET, "/user", None).await?;
            show(&client, &answer, |answer| {
                let (name, role) = (text(answer, "name"), text(answer, "role"));
                output::line(&format!("{name}, {role}"));
                for project in list(&answer["projects"]) {
                    let (path, role) = (text(project, "path"), text(project, "role"));
                    output::line(&format!("  {role} in {path}"));
                }
            });
        }
        UserCommand::Suspend { name, client } => {
            let path = format!("/users/{}/suspend", segment(&name));
            let answer = ask(&client, Method::POST, &path, None).await?;
            show(&client, &answer, |_| {
                output::line(&format!("{name} is suspended"))
            });
        }
        UserCommand::Reactivate { name, client } => {
            let path = format!("/users/{}/reactivate", segment(&name));
            let answer = ask(&client, Method::POST, &path, None).await?;
            show(&client, &answer, |_| {
                output::line(&format!("{name} is active"))
            });
        }
        UserCommand::Role { name, role, client } => {
            let path = format!("/users/{}/role", segment(&name));
            let body = json!({ "role": role.as_str() });
            let answer = ask(&client, Method::PUT, &path, Some(body)).await?;
            show(&client, &answer, |answer| {
                output::line(&format!("{name} is {}", text(answer, "role")));
            });
        }
        UserCommand::ResetPassword {
            name,
            password_file,
            client,
        } => {
            let path = format!("/users/{}/password", segment(&name));
            let body = json!({ "password": read(password_file)? });
            let answer = ask(&client, Method::PUT, &path, Some(body)).await?;
            show(&client, &answer, told);
        }
        UserCommand::Link {
            name,
            subject,
            client,
        } => {
            let path = format!("/users/{}/identity", segment(&name));
            let body = json!({ "subject": subject });
            let answer = ask(&client, Method::PUT, &path, Some(body)).await?;
            show(&client, &answer, |_| {
                output::line(&format!("{name} may sign in with the provider"))
            });
        }
        UserCommand::Tokens { name, client } => {
            let path = format!("/users/{}/tokens", segment(&name));
            let answer = ask(&client, Method::GET, &path, None).await?;
            show(&client, &answer, tokens);
        }
        UserCommand::RevokeToken { name, id, client } => {
            let path = format!("/users/{}/tokens/{id}", segment(&name));
            let answer = ask(&client, Method::DELETE, &path, None).await?;
            show(&client, &answer, |_| {
                output::line(&format!("token {id} is revoked"))
            });
        }
    }
    Ok(())
}

pub(super) async fn project(command: ProjectCommand) -> anyhow::Result<()> {
    match command {
        ProjectCommand::Create { path, client } => {
            let body = json!({ "path": path });
            let answer = ask(&client, Method::POST, "/projects", Some(body)).await?;
            show(&client, &answer, one_project);
        }
        ProjectCommand::List { client } => {
            let answer = ask(&client, Method::GET, "/projects", None).await?;
            show(&client, &answer, |answer| {
                let rows = list(answer).iter().map(|project| {
                    vec![
                        project["id"].to_string(),
                        text(project, "path").to_owned(),
                        list(&project["members"]).len().to_string(),
                        or_dash(&names(&project["agents"])).to_owned(),
                    ]
                });
                let head = ["ID", "PATH", "MEMBERS", "AGENTS"];
                output::table(&head, &rows.collect::<Vec<_>>());
            });
        }
        ProjectCommand::Show { path, client } => {
            let path = format!("/projects/{}", segment(&path));
            let answer = ask(&client, Method::GET, &path, None).await?;
            show(&client, &answer, one_project);
        }
        ProjectCommand::Delete { path, client } => {
            let address = format!("/projects/{}", segment(&path));
            let answer = ask(&client, Method::DELETE, &address, None).await?;
            show(&client, &answer, |_| {
                output::line(&format!("{path} is deleted"))
            });
        }
        ProjectCommand::AddMember {
            path,
            user,
            role,
            client,
        } => {
            let address = format!("/projects/{}/members/{}", segment(&path), segment(&user));
            let body = json!({ "role": role.as_str() });
            let answer = ask(&client, Method::PUT, &address, Some(body)).await?;
            show(&client, &answer, one_project);
        }
        ProjectCommand::RemoveMember { path, user, client } => {
            let address = format!("/projects/{}/members/{}", segment(&path), segment(&user));
            let answer = ask(&client, Method::DELETE, &address, None).await?;
            show(&client, &answer, one_project);
        }
    }
    Ok(())
}

pub(super) async fn session(command: SessionCommand) -> anyhow::Result<()> {
    let of = |user: Option<String>| match user {
        Some(user) => format!("/users/{}/sessions", segment(&user)),
        None => "/sessions".to_owned(),
    };
    match command {
        SessionCommand::List { user, client } => {
            let answer = ask(&client, Method::GET, &of(user), None).await?;
            show(&client, &answer, |answer| {
                let rows = list(answer).iter().map(|session| {
                    vec![
                        session["id"].to_string(),
                        text(session, "signed_in_by").to_owned(),
                        time(session, "created_at"),
                        time(session, "last_used_at"),
                        time(session, "expires_at"),
                        or_dash(text(session, "browser")).to_owned(),
                    ]
                });
                let head = ["ID", "BY", "SIGNED IN", "LAST USED", "ENDS", "BROWSER"];
                output::table(&head, &rows.collect::<Vec<_>>());
            });
        }
        SessionCommand::Revoke { id, user, client } => {
            let path = format!("{}/{id}", of(user));
            let answer = ask(&client, Method::DELETE, &path, None).await?;
            show(&client, &answer, |_| {
                output::line(&format!("session {id} is over"))
            });
        }
    }
    Ok(())
}

pub(super) async fn audit(args: AuditArgs) -> anyhow::Result<()> {
    let AuditArgs {
        user,
        action,
        refused,
        before,
        limit,
        client,
    } = args;
    let mut query = format!("/audit?limit={limit}");
    for (name, value) in [
        ("user", user),
        ("action", action),
        ("allowed", refused.then(|| "false".to_owned())),
        ("before", before.map(|id| id.to_string())),
    ] {
        if let Some(value) = value {
            query.push_str(&format!("&{name}={}", segment(&value)));
        }
    }
    let answer = ask(&client, Method::GET, &query, None).await?;
    show(&client, &answer, |answer| {
        let rows = list(&answer["entries"]).iter().map(|entry| {
            let allowed = entry["allowed"].as_bool() == Some(true);
            vec![
                entry["id"].to_string(),
                time(entry, "at"),
                or_dash(text(entry, "user")).to_owned(),
                text(entry, "who").to_owned(),
                text(entry, "action").to_owned(),
                if allowed { "allowed" } else { "refused" }.to_owned(),
                entry["times"].to_string(),
                or_dash(text(entry, "target")).to_owned(),
            ]
        });
        let head = ["ID", "AT", "USER", "WHO", "ACTION", "WAS", "TIMES", "ON"];
        output::table(&head, &rows.collect::<Vec<_>>());
        if let Some(next) = answer["next"].as_u64() {
            output::line(&format!("more: --before {next}"));
        }
    });
    Ok(())
}

fn read(path: Option<PathBuf>) -> anyhow::Result<Option<String>> {
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(&path);
        let text = text.with_context(|| format!("read {}", path.display()))?;
        Ok(text.trim_end_matches(['\r', '\n']).to_owned())
    };
    path.map(read).transpose()
}

/// A password that the server made, alone on its line; else who was made or changed.
fn told(user: &Value) {
    match text(user, "password") {
        "" => output::line(&format!("{} is ready", text(user, "name"))),
        password => output::line(password),
    }
}

fn users(answer: &Value) {
    let rows = list(answer).iter().map(|user| {
        let ways = [
            (user["local"] == true, "link"),
            (user["has_password"] == true, "password"),
            (!list(&user["identities"]).is_empty(), "provider"),
        ];
        let ways = ways.iter().filter(|(has, _)| *has).map(|(_, way)| *way);
        vec![
            text(user, "name").to_owned(),
            text(user, "role").to_owned(),
            text(user, "state").to_owned(),
            or_dash(&ways.collect::<Vec<_>>().join(", ")).to_owned(),
            time(user, "created_at"),
        ]
    });
    let head = ["NAME", "ROLE", "STATE", "SIGNS IN BY", "CREATED"];
    output::table(&head, &rows.collect::<Vec<_>>());
}

fn one_project(project: &Value) {
    output::line(&format!("path:     {}", text(project, "path")));
    output::line(&format!("id:       {}", project["id"]));
    output::line(&format!(
        "agents:   {}",
        or_dash(&names(&project["agents"]))
    ));
    for member in list(&project["members"]) {
        let (user, role) = (text(member, "user"), text(member, "role"));
        output::line(&format!("member:   {user}, {role}"));
    }
}

fn names(value: &Value) -> String {
    let names = list(value).iter().filter_map(Value::as_str);
    names.collect::<Vec<_>>().join(", ")
}
