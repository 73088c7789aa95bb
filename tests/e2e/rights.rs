//! Rights: what the chart's `userAccess` gives, and no more.

use anyhow::{Result, ensure};
use harness::wait::wait_until;
use serde_json::{Value, json};
use tests::command::Outcome;

use crate::Test;
use crate::world::{CONNECT, MAIN, PLAYGROUND, SECRET, TALKER, USUAL_CONFIGURATION, World};

pub(crate) const TESTS: &[Test] = &[
    (
        "what_the_rules_do_not_give_the_api_server_forbids",
        forbidden,
    ),
    ("rights_in_one_namespace_end_there", one_namespace),
    (
        "people_are_the_user_access_account_and_never_the_agent",
        who_am_i,
    ),
    ("nobody_else_can_be_impersonated", impersonation),
    (
        "access_as_user_gives_what_the_cluster_gives_to_the_person",
        as_user,
    ),
    ("a_wrong_token_is_refused_before_the_cluster", wrong_token),
];

fn ensure_forbidden(outcome: &Outcome) -> Result<()> {
    ensure!(outcome.code != Some(0), "it was allowed: {outcome:?}");
    ensure!(
        outcome.stderr.contains("Forbidden") || outcome.stderr.contains("forbidden"),
        "{outcome:?}"
    );
    Ok(())
}

fn forbidden(world: &mut World) -> Result<()> {
    let outcome = world.try_ask(&["get", "secret", "-n", PLAYGROUND, SECRET])?;
    ensure_forbidden(&outcome)?;
    // It was the API server that said so, to the account that people's calls run as.
    let account = format!("system:serviceaccount:{MAIN}:");
    ensure!(
        outcome.stderr.contains(&account) && outcome.stderr.contains("user-access"),
        "{}",
        outcome.stderr
    );
    ensure_forbidden(&world.try_ask(&["delete", "pod", "-n", PLAYGROUND, TALKER])?)?;
    ensure_forbidden(&world.try_ask(&["get", "nodes"])?)
}

fn one_namespace(world: &mut World) -> Result<()> {
    let pod = world
        .release
        .pods(&world.cluster)?
        .pop()
        .unwrap_or_default();
    ensure_forbidden(&world.try_ask(&["exec", "-n", MAIN, &pod, "--", "/agent", "--version"])?)?;
    ensure_forbidden(&world.try_ask(&["get", "configmaps", "-n", "kube-system"])?)?;
    world
        .ask(&["get", "configmaps", "-n", PLAYGROUND])
        .map(drop)
}

fn who_am_i(world: &mut World) -> Result<()> {
    let name = world.ask(&[
        "auth",
        "whoami",
        "-o",
        "jsonpath={.status.userInfo.username}",
    ])?;
    ensure!(
        name.starts_with(&format!("system:serviceaccount:{MAIN}:"))
            && name.ends_with("-user-access"),
        "{name}"
    );
    // The agent's one right is not among theirs.
    let outcome = world.try_ask(&[
        "auth",
        "can-i",
        "impersonate",
        "serviceaccounts",
        "-n",
        MAIN,
    ])?;
    ensure!(
        outcome.code != Some(0) && outcome.stdout.trim() == "no",
        "{outcome:?}"
    );
    Ok(())
}

fn impersonation(world: &mut World) -> Result<()> {
    for arguments in [
        ["get", "pods", "--as=system:admin"].as_slice(),
        &["get", "pods", "--as=someone", "--as-group=system:masters"],
        &[
            "get",
            "pods",
            "--as=system:serviceaccount:kube-system:default",
        ],
    ] {
        ensure_forbidden(&world.try_ask(arguments)?)?;
    }
    Ok(())
}

fn as_user(world: &mut World) -> Result<()> {
    let file = format!("{USUAL_CONFIGURATION}user_access:\n  access_as:\n    user: {{}}\n");
    world
        .project
        .push(&world.git, &file, "People act as themselves")?;
    let result = people_act_as_themselves(world);
    world
        .project
        .push(&world.git, USUAL_CONFIGURATION, "As it was")?;
    wait_until("people are the account again", CONNECT, || {
        Ok(who(world)?["username"]
            .as_str()
            .is_some_and(|name| name.starts_with("system:serviceaccount:")))
    })?;
    result
}

fn people_act_as_themselves(world: &World) -> Result<()> {
    const USER: &str = "gitlab:user:administrator";
    wait_until("the person is one of the cluster", CONNECT, || {
        Ok(who(world)?["username"] == USER)
    })?;
    let known = who(world)?;
    ensure!(
        known["groups"] == json!(["gitlab:user", "system:authenticated"]),
        "{known:#}"
    );
    let extra = &known["extra"];
    ensure!(
        extra["agent.gitlab.com/username"] == json!(["administrator"])
            && extra["agent.gitlab.com/id"] == json!([world.agent.id.to_string()]),
        "{known:#}"
    );
    // The chart's rules are for the account, and not for the person.
    let list = ["get", "configmaps", "-n", PLAYGROUND];
    ensure_forbidden(&world.try_ask(&list)?)?;
    let binding = "themselves";
    world.admin(&[
        "create",
        "rolebinding",
        binding,
        "-n",
        PLAYGROUND,
        "--clusterrole=view",
        "--user",
        USER,
    ])?;
    let allowed = wait_until("the binding holds", CONNECT, || {
        Ok(world.try_ask(&list)?.code == Some(0))
    });
    world.admin(&["delete", "rolebinding", binding, "-n", PLAYGROUND])?;
    allowed?;
    // To name somebody else is for the server alone, and the cluster holds it to its list.
    ensure_forbidden(&world.try_ask(&["get", "pods", "--as=gitlab:user:eve"])?)
}

/// Whom the API server takes the person for.
fn who(world: &World) -> Result<Value> {
    let told = world.ask(&["auth", "whoami", "-o", "json"])?;
    let told: Value = serde_json::from_str(&told)?;
    Ok(told["status"]["userInfo"].clone())
}

fn wrong_token(world: &mut World) -> Result<()> {
    let text = std::fs::read_to_string(&world.kubeconfig)?;
    let right = format!("pat:{}:", world.agent.id);
    ensure!(text.contains(&right), "the kubeconfig has no {right}");
    let wrong = world.folder.join("kubeconfig-wrong");
    std::fs::write(&wrong, text.replace(&right, &format!("{right}x")))?;
    let outcome = tests::command::outcome(
        &mut world.as_person(&wrong, &["get", "pods"]),
        crate::world::CALL,
    )?;
    ensure!(outcome.code != Some(0), "{outcome:?}");
    ensure!(
        outcome.stderr.contains("Unauthorized") || outcome.stderr.contains("logged in"),
        "{}",
        outcome.stderr
    );
    Ok(())
}
