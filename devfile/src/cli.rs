//! The command line. Exit codes: 0 nothing is wrong (warnings may be there), 1 a devfile has errors, 2 something could
//! not be read or the command line is wrong.

mod convert;
mod fetch;
mod input;
mod output;

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, CommandFactory as _, Parser, Subcommand, ValueEnum};
use devfile::code::Code;
use devfile::flatten::{FlattenOptions, Flattened, Style};
use devfile::render::{self, RenderOptions};
use devfile::schema::Version;
use devfile::text::flatten_bytes;
use devfile::validate::Rules;
use serde_json::json;

use fetch::CommandFetch;
use output::{Format, Outcome};

/// Works with devfiles 2.0.0 to 2.3.0 and DevWorkspace templates.
///
/// Exit codes: 0 nothing is wrong, 1 a devfile has errors, 2 something could not be read.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Tells all that is wrong with devfiles.
    Validate {
        /// Files, folders, http(s) addresses, or - for standard input; without one the current folder.
        inputs: Vec<String>,
        /// Looks at the file alone, without its parents and plugins.
        #[arg(long)]
        no_flatten: bool,
        #[command(flatten)]
        common: Common,
    },
    /// Draws parents and plugins in, puts variables in and prints the result.
    Flatten {
        /// File, folder, http(s) address, or - for standard input.
        #[arg(default_value = ".")]
        input: String,
        /// Writes booleans that were left out with their default.
        #[arg(long)]
        boolean_defaults: bool,
        #[command(flatten)]
        common: Common,
    },
    /// Prints the Kubernetes objects or the DevWorkspace that a devfile becomes.
    Render {
        /// File, folder, http(s) address, or - for standard input.
        #[arg(default_value = ".")]
        input: String,
        /// What to render to.
        #[arg(long, value_enum, default_value = "kubernetes")]
        to: Target,
        /// Name of the workspace; by default the devfile's.
        #[arg(long)]
        name: Option<String>,
        /// Namespace of the objects.
        #[arg(long, default_value = "default")]
        namespace: String,
        #[command(flatten)]
        common: Common,
    },
    /// Rewrites a devfile for another schemaVersion, or a devcontainer.json as a devfile.
    Convert(convert::Arguments),
    /// Prints the JSON schema of a schemaVersion.
    Schema {
        /// The schemaVersion.
        #[arg(default_value = Version::NEWEST.name(), value_parser = version())]
        version: Version,
    },
    /// Prints a script that completes the command line in a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Explains a diagnostic by its code; without one lists all.
    Explain {
        /// The code, as in `error[duplicate-key]`.
        code: Option<String>,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Target {
    Kubernetes,
    Devworkspace,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum RuleName {
    Library,
    Operator,
    Cluster,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum StyleName {
    /// Nothing may be defined twice
    Library,
    /// Volumes of one name become one, container contributions are merged
    Operator,
}

#[derive(Debug, Args)]
struct Common {
    /// Form of the output.
    #[arg(long, short, value_enum, default_value = "text")]
    output: Format,
    /// Rules beside the schema.
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "library,cluster"
    )]
    rules: Vec<RuleName>,
    /// Refuses several commands of a kind without a default, as the Go library does.
    #[arg(long)]
    strict_defaults: bool,
    /// Whose way parents and plugins are drawn in.
    #[arg(long, value_enum, default_value = "library")]
    style: StyleName,
    /// A variable's value, which wins over the devfile's own.
    #[arg(long = "variable", value_name = "NAME=VALUE")]
    variables: Vec<String>,
    /// Registry to ask for parents that name none; several are asked in order.
    #[arg(long = "registry", value_name = "URL")]
    registries: Vec<String>,
    /// When to use colour.
    #[arg(long, value_enum, default_value = "auto")]
    color: Color,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Color {
    Auto,
    Always,
    Never,
}

impl Common {
    fn options(&self) -> Result<FlattenOptions, String> {
        let mut variables = BTreeMap::new();
        for variable in &self.variables {
            let (name, value) = variable
                .split_once('=')
                .ok_or_else(|| format!("--variable {variable}: expected NAME=VALUE"))?;
            variables.insert(name.to_owned(), value.to_owned());
        }
        Ok(FlattenOptions {
            style: match self.style {
                StyleName::Library => Style::Library,
                StyleName::Operator => Style::Operator,
            },
            variables,
            registries: self.registries.clone(),
            rules: Rules {
                library: self.rules.contains(&RuleName::Library),
                operator: self.rules.contains(&RuleName::Operator),
                cluster: self.rules.contains(&RuleName::Cluster),
                strict_defaults: self.strict_defaults,
            },
            ..FlattenOptions::default()
        })
    }

    fn color(&self) -> bool {
        match self.color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => {
                std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none()
            }
        }
    }
}

/// Something is wrong with the command line or an input: exit code 2.
type Failure = String;

pub(crate) fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(arguments.command) {
        Ok((text, code)) => {
            // A reader that went away (`| head`) is no failure.
            let _ = std::io::stdout().write_all(text.as_bytes());
            code
        }
        Err(failure) => {
            let _ = writeln!(std::io::stderr(), "devfile: {failure}");
            ExitCode::from(2)
        }
    }
}

fn run(command: Command) -> Result<(String, ExitCode), Failure> {
    match command {
        Command::Validate {
            inputs,
            no_flatten,
            common,
        } => validate(inputs, no_flatten, &common),
        Command::Flatten {
            input,
            boolean_defaults,
            common,
        } => {
            let mut options = common.options()?;
            options.boolean_defaults = boolean_defaults;
            let (name, flattened) = one(&input, &options)?;
            let value = flattened
                .tree
                .as_ref()
                .filter(|_| !flattened.has_errors())
                .map(devfile::node::Node::to_json);
            Ok(result(&name, &flattened, value, &[], &common))
        }
        Command::Render {
            input,
            to,
            name,
            namespace,
            common,
        } => {
            let options = common.options()?;
            let (source, flattened) = one(&input, &options)?;
            let Some(devfile) = &flattened.devfile else {
                return Ok(result(&source, &flattened, None, &[], &common));
            };
            let name = name.unwrap_or_else(|| render::workspace_name(devfile));
            let options = RenderOptions::new(name, namespace);
            let rendered = match to {
                Target::Kubernetes => render::render(devfile, &options),
                Target::Devworkspace => render::dev_workspace(devfile, &options),
            }
            .map_err(|error| format!("{source}: {error}"))?;
            let value = json!({"apiVersion": "v1", "kind": "List", "items": rendered.objects});
            Ok(result(
                &source,
                &flattened,
                Some(value),
                &rendered.notes,
                &common,
            ))
        }
        Command::Convert(arguments) => convert::run(&arguments),
        Command::Schema { version } => {
            let schema: serde_json::Value =
                serde_json::from_str(version.json_schema()).map_err(|error| error.to_string())?;
            Ok((output::value(&schema, Format::Json), ExitCode::SUCCESS))
        }
        Command::Completions { shell } => {
            let mut script = Vec::new();
            let mut command = Arguments::command();
            clap_complete::generate(shell, &mut command, "devfile", &mut script);
            let script = String::from_utf8_lossy(&script).into_owned();
            Ok((script, ExitCode::SUCCESS))
        }
        Command::Explain { code } => explain(code.as_deref()),
    }
}

/// Reads the name of a schemaVersion, and offers all of them.
fn version() -> impl TypedValueParser<Value = Version> {
    PossibleValuesParser::new(Version::ALL.map(Version::name))
        .map(|name| Version::parse(&name).unwrap_or(Version::NEWEST))
}

fn one(input: &str, options: &FlattenOptions) -> Result<(String, Flattened), Failure> {
    let mut fetch = CommandFetch;
    let input = input::read(input)?;
    let flattened = flatten_bytes(&input.name, input.bytes, options, &mut fetch);
    Ok((input.name, flattened))
}

fn validate(
    mut inputs: Vec<String>,
    no_flatten: bool,
    common: &Common,
) -> Result<(String, ExitCode), Failure> {
    if inputs.is_empty() {
        inputs.push(".".into());
    }
    let mut options = common.options()?;
    if no_flatten {
        options.imports = false;
        options.inline_uris = false;
    }
    let mut outcomes = Vec::new();
    for input in inputs {
        let outcome = match one(&input, &options) {
            Ok((name, flattened)) => Outcome::Checked {
                name,
                diagnostics: flattened.diagnostics,
            },
            Err(reason) => Outcome::Unreadable {
                name: input,
                reason,
            },
        };
        outcomes.push(outcome);
    }
    let code = outcomes.iter().map(Outcome::exit_code).max().unwrap_or(0);
    let text = output::outcomes(&outcomes, common.output, common.color());
    Ok((text, ExitCode::from(code)))
}

/// Prints what is told to standard error, and gives the value for standard output.
fn result(
    name: &str,
    flattened: &Flattened,
    value: Option<serde_json::Value>,
    notes: &[render::Note],
    common: &Common,
) -> (String, ExitCode) {
    let outcome = Outcome::Checked {
        name: name.to_owned(),
        diagnostics: flattened.diagnostics.clone(),
    };
    let code = outcome.exit_code();
    let color = common.color() && std::io::stderr().is_terminal();
    let told = output::beside(&flattened.diagnostics, notes, common.output, color);
    let _ = std::io::stderr().write_all(told.as_bytes());
    let text = value.map_or_else(String::new, |value| output::value(&value, common.output));
    (text, ExitCode::from(code))
}

fn explain(code: Option<&str>) -> Result<(String, ExitCode), Failure> {
    let Some(name) = code else {
        let width = Code::ALL.iter().map(|code| code.name().len()).max();
        let width = width.unwrap_or_default();
        let text = Code::ALL
            .iter()
            .map(|code| format!("{:width$}  {}\n", code.name(), code.title()))
            .collect();
        return Ok((text, ExitCode::SUCCESS));
    };
    let code = Code::by_name(name)
        .ok_or_else(|| format!("there is no code {name}; `devfile explain` lists all"))?;
    let text = format!(
        "{}\n\n{}\n\n{}\n\nSeverity: {:?}, rules: {:?}\n",
        code.name(),
        code.title(),
        code.explanation(),
        code.severity(),
        code.rules()
    );
    Ok((text, ExitCode::SUCCESS))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_sound() {
        super::Arguments::command().debug_assert();
    }
}
