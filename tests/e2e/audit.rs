//! The API server's record of what the agent asked, held against what the agent is granted: nothing refused, nothing granted
//! that was not used. That the chart grants what the agent's table says is a test of the chart.
//!
//! It comes before the tests that uninstall the agent or take the API server away, whose refusals are their own.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufRead as _, BufReader, Seek as _, SeekFrom};
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::Test;
use crate::world::{MAIN, World};

pub(crate) const TESTS: &[Test] = &[(
    "the_agent_was_refused_nothing_and_is_granted_nothing_that_it_does_not_use",
    compare,
)];

/// Group, resource, verb.
type Right = (String, String, String);

/// Where the log was when the run began.
pub(crate) struct Mark(u64);

impl Mark {
    pub(crate) fn now(world_log: &Path) -> Result<Self> {
        let metadata = std::fs::metadata(world_log)
            .with_context(|| format!("no audit log {}", world_log.display()))?;
        Ok(Self(metadata.len()))
    }
}

fn compare(world: &mut World) -> Result<()> {
    let account = world.agent_account()?;
    let log = world.cluster.log_path("audit");
    let asked = Asked::read(&log, &world.audit_mark, &account)?;
    ensure!(
        asked.refused.is_empty(),
        "refused to {account}:\n{}",
        asked.refused.join("\n")
    );
    let granted = granted(world)?;
    let unused: Vec<_> = granted
        .iter()
        .filter(|right| !asked.used.contains(*right))
        .collect();
    println!(
        "        {} requests, none refused; {} of {} rights used",
        asked.requests,
        granted.len() - unused.len(),
        granted.len()
    );
    if !world.is_whole_run {
        println!("        only a part of the tests ran: what was not used is not judged");
        return Ok(());
    }
    ensure!(unused.is_empty(), "granted and never used: {unused:#?}");
    Ok(())
}

#[derive(Default)]
struct Asked {
    requests: usize,
    used: BTreeSet<Right>,
    refused: Vec<String>,
}

impl Asked {
    fn read(log: &Path, mark: &Mark, account: &str) -> Result<Self> {
        let mut file = File::open(log)?;
        ensure!(
            file.metadata()?.len() >= mark.0,
            "the audit log was rotated: it has to hold a whole run"
        );
        file.seek(SeekFrom::Start(mark.0))?;
        let mut asked = Self::default();
        for line in BufReader::new(file).lines() {
            // The last line may be half written.
            let Ok(event) = serde_json::from_str::<Value>(&line?) else {
                continue;
            };
            if event["user"]["username"] == account {
                asked.take(&event);
            }
        }
        Ok(asked)
    }

    fn take(&mut self, event: &Value) {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        // Calls of people run with their rights; the agent's is to run them so.
        let person = &event["impersonatedUser"];
        if person.is_object() {
            self.impersonates(person);
            return;
        }
        self.requests += 1;
        let object = &event["objectRef"];
        let resource = match object["subresource"].as_str() {
            Some(subresource) => format!("{}/{subresource}", text(&object["resource"])),
            None => text(&object["resource"]),
        };
        let group = text(&object["apiGroup"]);
        let verb = text(&event["verb"]);
        let code = event["responseStatus"]["code"].as_u64();
        let message = text(&event["responseStatus"]["message"]);
        // A person's call again, as somebody whom the agent may not be.
        if code == Some(403) && message.contains("cannot impersonate") {
            return;
        }
        // Quotas and webhooks answer 403 too; those are no lack of rights.
        let is_refused = event["annotations"]["authorization.k8s.io/decision"] == "forbid"
            || message.contains("ValidatingAdmissionPolicy")
            || (code == Some(403) && message.contains("User \"system:serviceaccount:"));
        if is_refused {
            let uri = text(&event["requestURI"]);
            let time = text(&event["requestReceivedTimestamp"]);
            self.refused.push(format!("{time} {verb} {uri}: {message}"));
            return;
        }
        // Apply that makes an object needs the right to create it.
        if verb == "patch" && code == Some(201) {
            let create = (group.clone(), resource.clone(), "create".to_owned());
            self.used.insert(create);
        }
        if (&*resource, &*verb, code) == ("rolebindings", "create", Some(201)) {
            let bind = (group.clone(), "clusterroles".to_owned(), "bind".to_owned());
            self.used.insert(bind);
        }
        self.used.insert((group, resource, verb));
    }

    fn impersonates(&mut self, person: &Value) {
        let mut may = |group: &str, resource: &str| {
            let right = (
                group.to_owned(),
                resource.to_owned(),
                "impersonate".to_owned(),
            );
            self.used.insert(right);
        };
        let name = person["username"].as_str().unwrap_or_default();
        match name.starts_with("system:serviceaccount:") {
            true => may("", "serviceaccounts"),
            false => may("", "users"),
        }
        let groups = person["groups"].as_array().into_iter().flatten();
        if groups
            .into_iter()
            .any(|it| it.as_str().is_some_and(|it| it.starts_with("gitlab:")))
        {
            may("", "groups");
        }
        for key in person["extra"]
            .as_object()
            .into_iter()
            .flat_map(|it| it.keys())
        {
            may("authentication.k8s.io", &format!("userextras/{key}"));
        }
    }
}

/// What the chart's roles give the agent's own account.
fn granted(world: &World) -> Result<BTreeSet<Right>> {
    let selector = format!("app.kubernetes.io/instance={MAIN}");
    let get = |kinds: &str| -> Result<Vec<Value>> {
        let text = world.admin(&["get", kinds, "-A", "-l", &selector, "-o", "json"])?;
        let list: Value = serde_json::from_str(&text)?;
        Ok(list["items"].as_array().cloned().unwrap_or_default())
    };
    let name_of = |object: &Value| -> (String, String, String) {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        (
            text(&object["kind"]),
            text(&object["metadata"]["namespace"]),
            text(&object["metadata"]["name"]),
        )
    };
    let roles: BTreeMap<_, _> = get("roles,clusterroles")?
        .into_iter()
        .map(|role| (name_of(&role), role["rules"].clone()))
        .collect();
    let people = |name: &str| name.ends_with("-user-access");
    let mut granted = BTreeSet::new();
    for ((_, _, name), rules) in &roles {
        if people(name) {
            continue;
        }
        for rule in rules.as_array().into_iter().flatten() {
            let texts = |field: &str| -> Vec<String> {
                let texts = rule[field].as_array().into_iter().flatten();
                texts
                    .filter_map(|it| it.as_str().map(str::to_owned))
                    .collect()
            };
            for group in texts("apiGroups") {
                for resource in texts("resources") {
                    for verb in texts("verbs") {
                        granted.insert((group.clone(), resource.clone(), verb));
                    }
                }
            }
        }
    }
    ensure!(!granted.is_empty(), "no roles of the release {MAIN}");
    Ok(granted)
}
