//! The command line: the server itself, and its administration from a terminal.

mod administer;
mod check_config;
mod client;
mod install;
mod keep;
mod kubeconfig;
mod output;
mod people;
mod serve;
mod workspaces;

use std::{ffi::OsString, path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand, ValueEnum};

use crate::config::{ServeConfig, file::with_defaults_of};

#[derive(Debug, Parser)]
#[command(
    name = "kas-stub",
    version,
    about = "The server that agents in Kubernetes clusters connect to",
    after_help = "First steps:\n  \
        kas-stub serve --data-dir /var/lib/kas-stub\n  \
        kas-stub agent create my-cluster --data-dir /var/lib/kas-stub\n  \
        (install the agent's Helm chart with the token that this prints)\n  \
        kas-stub kubeconfig my-cluster --data-dir /var/lib/kas-stub --output-file kubeconfig\n  \
        kubectl --kubeconfig kubeconfig get pods",
    max_term_width = 100
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server. Stop it with SIGTERM or Ctrl-C.
    Serve {
        /// A file with settings (YAML): each flag is a key, without its dashes. Flags and environment variables win over it.
        #[arg(long, env = "KAS_STUB_CONFIG", value_name = "FILE")]
        config: Option<PathBuf>,
        #[command(flatten)]
        settings: Box<ServeConfig>,
    },
    /// Write all that a server keeps (database, keys, certificates; not what can be fetched again) to one file, also while
    /// it runs. The file is as secret as the data folder.
    Backup {
        /// The file, which must not exist yet; `-` for standard output.
        file: PathBuf,
        /// The server's data folder.
        #[arg(long, env = "KAS_STUB_DATA_DIR", value_name = "DIR")]
        data_dir: PathBuf,
    },
    /// Put a backup in the place of what a stopped server keeps; that is kept aside.
    Restore {
        /// The backup; `-` for standard input.
        file: PathBuf,
        /// The server's data folder.
        #[arg(long, env = "KAS_STUB_DATA_DIR", value_name = "DIR")]
        data_dir: PathBuf,
    },
    /// Do nothing until SIGTERM: holds a container in which to restore, while no server runs.
    Idle,
    /// Check an agent's configuration file as the server does, offline: ends with 1 when something is wrong.
    CheckConfig {
        /// The file, .gitlab/agents/NAME/config.yaml; `-` for standard input.
        #[arg(required_unless_present = "schema")]
        file: Option<PathBuf>,
        /// Print the JSON Schema of such files instead (the server has it at /schemas/agent-config.json).
        #[arg(long, conflicts_with = "file")]
        schema: bool,
        /// Form of what is printed.
        #[arg(short, long, value_enum, default_value = "text")]
        output: Output,
    },
    /// Make and look at agents.
    #[command(subcommand)]
    Agent(AgentCommand),
    /// Make, start, stop and delete workspaces.
    #[command(subcommand)]
    Workspace(workspaces::WorkspaceCommand),
    /// Make users, suspend them, and change what they are.
    #[command(subcommand)]
    User(people::UserCommand),
    /// Make projects, and say who is a member: members use the project's agents.
    #[command(subcommand)]
    Project(people::ProjectCommand),
    /// See and end sessions of browsers.
    #[command(subcommand)]
    Session(people::SessionCommand),
    Audit(people::AuditArgs),
    /// Make and revoke tokens of your own, for the API and kubectl.
    #[command(subcommand)]
    Token(TokenCommand),
    /// Write a kubeconfig that reaches an agent's cluster through the tunnel (makes a new token).
    Kubeconfig {
        /// The agent's name.
        agent: String,
        /// Where to; only you will be able to read it [default: standard output].
        #[arg(long, value_name = "FILE")]
        output_file: Option<PathBuf>,
        /// Days until the token in it expires.
        #[arg(long, default_value_t = 30)]
        expires_days: u32,
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Print a link that signs a browser in, once, within 15 minutes (on the server's own machine).
    SignInLink {
        /// Whom it signs in [default: the local administrator].
        #[arg(long)]
        user: Option<String>,
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Print the CA certificate that agents and people are to trust, PEM.
    Ca {
        #[command(flatten)]
        client: ClientArgs,
    },
}

#[derive(Debug, Subcommand)]
enum AgentCommand {
    /// Make an agent: prints its token and its project's push hook, once.
    Create {
        /// Lowercase letters, digits and '-', at most 63.
        name: String,
        /// The Git project with .gitlab/agents/NAME/config.yaml, as https://HOST/PATH.
        #[arg(long, value_name = "URL")]
        project: Option<String>,
        /// The project of this server, made by `kas-stub project create`, whose members may use it.
        #[arg(long, value_name = "PATH")]
        in_project: Option<String>,
        /// Take over the agent with this id that another server made; its workspaces are then listed as orphans.
        #[arg(long, value_name = "ID", requires = "import_token_file")]
        import_id: Option<u64>,
        /// A file with the token of the agent that is taken over.
        #[arg(long, value_name = "FILE", requires = "import_id")]
        import_token_file: Option<PathBuf>,
        #[command(flatten)]
        client: ClientArgs,
    },
    /// List agents.
    List {
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Show one agent, its Pods, its configuration and what is wrong with it.
    Show {
        /// The agent's name.
        name: String,
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Print the commands that install the agent in its cluster: they make a token, put it into a Secret, and run Helm.
    Install {
        /// The agent's name.
        name: String,
        #[command(flatten)]
        chart: install::ChartArgs,
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Take the agent from another cluster, which was refused while it had a first one; that one must be gone.
    AcceptCluster {
        /// The agent's name.
        name: String,
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Put the agent into another project.
    Move {
        /// The agent's name.
        name: String,
        /// The project's path; without it only administrators may use the agent.
        #[arg(long, value_name = "PATH")]
        to: Option<String>,
        #[command(flatten)]
        client: ClientArgs,
    },
    /// An agent's tokens: make a second one, move the agent to it, revoke the first.
    #[command(subcommand)]
    Token(AgentTokenCommand),
}

#[derive(Debug, Subcommand)]
enum AgentTokenCommand {
    /// Make a token (at most two are active).
    Create {
        /// The agent's name.
        name: String,
        #[command(flatten)]
        client: ClientArgs,
    },
    /// List tokens.
    List {
        /// The agent's name.
        name: String,
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Revoke a token: connections by it end at once.
    Revoke {
        /// The agent's name.
        name: String,
        /// From `kas-stub agent token list`.
        id: u64,
        #[command(flatten)]
        client: ClientArgs,
    },
}

#[derive(Debug, Subcommand)]
enum TokenCommand {
    /// Make a token; it is printed once.
    Create {
        /// What it is for.
        #[arg(long)]
        name: String,
        /// Days until it expires, 1 to 365.
        #[arg(long, default_value_t = 30)]
        expires_days: u32,
        /// What it is for (repeatable): api, read_api, k8s_proxy, workspaces [default: all].
        #[arg(long, value_delimiter = ',', value_parser = ["api", "read_api", "k8s_proxy", "workspaces"])]
        scope: Vec<String>,
        #[command(flatten)]
        client: ClientArgs,
    },
    /// List your tokens.
    List {
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Revoke a token: requests by it end at once.
    Revoke {
        /// From `kas-stub token list`.
        id: u64,
        #[command(flatten)]
        client: ClientArgs,
    },
}

/// How the server is reached: by the socket in its data folder, or by its address with a token.
#[derive(Clone, Debug, Args)]
struct ClientArgs {
    /// The server's data folder, on its own machine.
    #[arg(
        long,
        env = "KAS_STUB_DATA_DIR",
        value_name = "DIR",
        conflicts_with = "server",
        global = false
    )]
    data_dir: Option<PathBuf>,

    /// The server's address, from elsewhere.
    #[arg(long, env = "KAS_STUB_SERVER", value_name = "URL")]
    server: Option<String>,

    /// A file with a token for --server (or the token itself in KAS_STUB_TOKEN).
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,

    /// The CA certificate of --server, from `kas-stub ca`.
    #[arg(long, env = "KAS_STUB_CA_FILE", value_name = "FILE")]
    ca_file: Option<PathBuf>,

    /// Form of the output.
    #[arg(short, long, value_enum, default_value = "text")]
    output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For reading.
    Text,
    /// For programs.
    Json,
}

/// Runs the command line; the process ends with this code.
pub fn main() -> ExitCode {
    let result = parse(std::env::args_os().collect()).and_then(|cli| match cli.command {
        Command::Serve {
            config: _,
            settings,
        } => serve::run(*settings),
        Command::Backup { file, data_dir } => keep::backup(&data_dir, &file),
        Command::Restore { file, data_dir } => keep::restore(&data_dir, &file),
        Command::Idle => keep::idle(),
        Command::CheckConfig {
            file: Some(file),
            schema: _,
            output,
        } => check_config::check(&file, output),
        Command::CheckConfig { file: None, .. } => {
            check_config::schema();
            Ok(())
        }
        command => administer::run(command),
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::error(&error);
            ExitCode::FAILURE
        }
    }
}

/// Reads the command line; with `--config`, what that file says is the flags' default. Ends the process where clap does.
fn parse(arguments: Vec<OsString>) -> anyhow::Result<Cli> {
    let command = Cli::command();
    // What is missing may be in the file.
    let lenient = command.clone().ignore_errors(true);
    let file = lenient
        .try_get_matches_from(&arguments)
        .ok()
        .and_then(|matches| matches.subcommand_matches("serve").cloned())
        .and_then(|serve| serve.get_one::<PathBuf>("config").cloned());
    let command = match file {
        None => command,
        Some(path) => {
            let mut read = Ok(());
            let command = command.mut_subcommand("serve", |serve| {
                let without = serve.clone();
                with_defaults_of(&path, serve).unwrap_or_else(|error| {
                    read = Err(error);
                    without
                })
            });
            read.with_context(|| format!("configuration file {}", path.display()))?;
            command
        }
    };
    let matches = command.get_matches_from(arguments);
    Cli::from_arg_matches(&matches).map_err(|error| error.exit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn flags_have_their_documented_defaults() {
        let cli = Cli::parse_from(["kas-stub", "serve", "--data-dir", "/d"]);
        let Command::Serve {
            settings: config, ..
        } = cli.command
        else {
            panic!("not serve");
        };
        assert_eq!(config.agent_listen_address.to_string(), "127.0.0.1:8150");
        assert_eq!(config.people_listen_address.to_string(), "127.0.0.1:8154");
        assert_eq!(
            config.observability_listen_address.to_string(),
            "127.0.0.1:8151"
        );
        assert!(!config.allow_plaintext && !config.git_allow_http && !config.git_allow_private);
    }

    #[test]
    fn a_configuration_file_may_have_what_has_to_be_given() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, "data-dir: /from/the/file\n").unwrap();
        let path = file.path().to_str().unwrap();
        let parsed = |arguments: &[&str]| {
            let arguments = arguments.iter().map(Into::into).collect();
            parse(arguments)
        };
        let Command::Serve { settings, .. } = parsed(&["kas-stub", "serve", "--config", path])
            .unwrap()
            .command
        else {
            panic!("not serve");
        };
        assert_eq!(settings.data_dir.to_str(), Some("/from/the/file"));
        let missing = parsed(&["kas-stub", "serve", "--config=/does/not/exist"]).unwrap_err();
        let text = format!("{missing:#}");
        assert!(text.contains("/does/not/exist"), "{text}");
    }
}
