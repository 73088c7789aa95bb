//! The commands that install an agent in its cluster, for a shell with kubectl and Helm. No secret is among them: the
//! token goes from one program to the next, past screen, history and lists of processes.

use std::fmt::Write as _;

use anyhow::{Context as _, bail};
use clap::Args;
use serde_json::Value;

use super::{
    ClientArgs,
    administer::{list, text},
};

/// Active tokens that an agent may have.
const MAX_TOKENS: usize = 2;

/// Where chart and image are, and where the agent goes.
#[derive(Clone, Debug, Args)]
pub(super) struct ChartArgs {
    /// The agent's chart: a folder, an archive, or oci://…
    #[arg(
        long,
        env = "KAS_STUB_AGENT_CHART",
        value_name = "CHART",
        default_value = "deploy/charts/agent"
    )]
    chart: String,

    /// The agent's image, with its tag [default: the chart's].
    #[arg(long, env = "KAS_STUB_AGENT_IMAGE", value_name = "IMAGE")]
    image: Option<String>,

    /// The namespace that it is installed in [default: agent-NAME].
    #[arg(long, value_name = "NAMESPACE")]
    namespace: Option<String>,

    /// How this program is called where the commands will be run, when it is in a container.
    #[arg(
        long,
        env = "KAS_STUB_COMMAND",
        value_name = "COMMAND",
        default_value = "kas-stub"
    )]
    command: String,
}

/// The script. `agent` and `server` are as the API shows them.
pub(super) fn script(
    name: &str,
    agent: &Value,
    server: &Value,
    chart: &ChartArgs,
    client: &ClientArgs,
) -> anyhow::Result<String> {
    let active = list(&agent["tokens"])
        .iter()
        .filter(|token| token["revoked_at"].is_null())
        .count();
    if active >= MAX_TOKENS {
        bail!(
            "agent {name} has {active} active tokens, and the commands make one more: revoke one with \
             `kas-stub agent token revoke {name} ID` (`kas-stub agent token list {name}`)"
        );
    }
    let ChartArgs {
        chart,
        image,
        namespace,
        command,
    } = chart;
    let namespace = namespace.clone().unwrap_or_else(|| format!("agent-{name}"));
    let values = values(name, server, image.as_deref())?;
    let make_token = format!(
        "{command} agent token create {name}{}",
        client_flags(client)
    );
    let (chart, namespace) = (quoted(chart), quoted(&namespace));
    Ok(format!(
        "# Installs agent {name}: for a shell with kubectl and Helm on its cluster.
set -e
kubectl create namespace {namespace} --dry-run=client --output=yaml | kubectl apply --filename=-
token=$({make_token})
printf %s \"$token\" | kubectl create secret generic {name}-token --namespace={namespace} --from-file=token=/dev/stdin
helm upgrade --install {name} {chart} --namespace={namespace} --values=- <<'END'
{values}END
"
    ))
}

/// The chart's values. Quoted as JSON, which YAML understands.
fn values(name: &str, server: &Value, image: Option<&str>) -> anyhow::Result<String> {
    let address = Value::from(text(server, "agent_url"));
    let mut values = format!("config:\n  kasAddress: {address}\n  secretName: {name}-token\n");
    if server["private_ca"] == true {
        values.push_str("  kasCaCert: |\n");
        for line in text(server, "ca_certificate").lines() {
            writeln!(values, "    {line}")?;
        }
    }
    if let Some(image) = image {
        // The last colon, unless it is that of a registry's port.
        let (repository, tag) = image
            .rsplit_once(':')
            .filter(|(_, tag)| !tag.contains('/'))
            .with_context(|| format!("image {image} has no tag; expected NAME:TAG"))?;
        let (repository, tag) = (Value::from(repository), Value::from(tag));
        writeln!(values, "image:\n  repository: {repository}\n  tag: {tag}")?;
    }
    Ok(values)
}

/// How the server is reached, as this command was told.
fn client_flags(client: &ClientArgs) -> String {
    let path = |path: &Option<std::path::PathBuf>| {
        path.as_ref()
            .map(|path| path.to_string_lossy().into_owned())
    };
    let flags = match &client.server {
        Some(server) => vec![
            ("server", Some(server.clone())),
            ("token-file", path(&client.token_file)),
            ("ca-file", path(&client.ca_file)),
        ],
        None => vec![("data-dir", path(&client.data_dir))],
    };
    flags
        .into_iter()
        .filter_map(|(name, value)| Some(format!(" --{name}={}", quoted(&value?))))
        .collect()
}

/// A text as one word of a shell.
fn quoted(text: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:@=".contains(&byte);
    if !text.is_empty() && text.bytes().all(is_plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use serde_json::json;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        chart: ChartArgs,
        #[command(flatten)]
        client: ClientArgs,
    }

    fn script_of(flags: &[&str], tokens: usize) -> anyhow::Result<String> {
        let line = Line::parse_from(["install"].iter().chain(flags));
        let token = json!({ "revoked_at": null });
        let revoked = json!({ "revoked_at": "2026-11-25T00:00:00Z" });
        let mut all = vec![token; tokens];
        all.push(revoked);
        let server = json!({
            "agent_url": "grpcs://kas.example.com:8150",
            "ca_certificate": "-----BEGIN CERTIFICATE-----\nYQ==\n-----END CERTIFICATE-----\n",
            "private_ca": true,
        });
        script(
            "one",
            &json!({ "tokens": all }),
            &server,
            &line.chart,
            &line.client,
        )
    }

    #[test]
    fn the_commands_are_for_this_server_and_hold_no_secret() {
        let script = script_of(
            &[
                "--data-dir=/it's here",
                "--image=localhost:5000/agent:1.0",
                "--chart=oci://r/agent",
            ],
            1,
        )
        .unwrap();
        for part in [
            r"token=$(kas-stub agent token create one --data-dir='/it'\''s here')",
            "helm upgrade --install one oci://r/agent --namespace=agent-one --values=- <<'END'",
            "\n  kasAddress: \"grpcs://kas.example.com:8150\"\n  secretName: one-token\n  kasCaCert: |\n    -----BEGIN",
            "image:\n  repository: \"localhost:5000/agent\"\n  tag: \"1.0\"\nEND\n",
        ] {
            assert!(script.contains(part), "{part} is not in\n{script}");
        }
        assert!(!script.contains("glagent-"));
    }

    #[test]
    fn what_cannot_work_is_said_before() {
        for (flags, tokens, expected) in [
            (vec![], 2, "revoke one"),
            (vec!["--image=localhost:5000/agent"], 0, "has no tag"),
        ] {
            let error = script_of(&flags, tokens).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
