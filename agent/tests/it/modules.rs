//! A module is a folder and a line in a list: here is a list with one more.

mod toy;

use agent::config::Config;
use agent::module::Module;
use agent::telemetry::LogLevels;
use proto::agentcfg::LogLevel;
use proto::reverse_tunnel::rpc::connect_request;

use crate::fixture::{Cluster, eventually, start_agent_with};
use crate::kas::{Kas, configuration};

async fn all(config: &Config, log_levels: LogLevels) -> Vec<Box<dyn Module>> {
    let mut modules = agent::modules::all(config, log_levels).await.unwrap();
    modules.push(Box::new(toy::Toy::default()));
    modules
}

async fn call(kas: &Kas, method: &str, message: &'static str) -> Result<String, (i32, String)> {
    let mut tunnel = kas.call(&format!("/toy.Toy/{method}")).await;
    tunnel.message(message).await;
    tunnel.close_send().await;
    let mut received = String::new();
    while let Some(frame) = tunnel.frame().await {
        match frame {
            connect_request::Msg::Message(message) => {
                received.push_str(std::str::from_utf8(&message.data).unwrap());
            }
            connect_request::Msg::Error(error) => {
                let status = error.status.unwrap();
                return Err((status.code, status.message));
            }
            connect_request::Msg::Header(_)
            | connect_request::Msg::Trailer(_)
            | connect_request::Msg::Descriptor(_) => {}
        }
    }
    Ok(received)
}

#[tokio::test]
async fn a_toy_module_is_called_through_the_tunnel_and_sees_its_configuration() {
    let cluster = Cluster::start().await;
    let kas = Kas::start().await;
    let config = cluster.config(kas.address);
    let modules = all(&config, LogLevels::new(|_| {})).await;
    let agent = start_agent_with(config, modules).await;
    let services = kas.tunnel().await.services;
    assert!(services.contains(&"/toy.Toy/Echo".to_owned()));
    // The metadata of the server's own connection does not arrive.
    assert_eq!(
        call(&kas, "Echo", "hello").await.unwrap(),
        "hello (x-trace)"
    );
    let seen = async |path: &str| {
        eventually(path, async || {
            call(&kas, "Project", "").await.unwrap() == path
        })
        .await;
    };
    seen("group/project").await;
    let mut changed = configuration("c2", LogLevel::Info);
    changed.configuration.as_mut().unwrap().project_path = "group/moved".to_owned();
    kas.script.configuration.send(changed).unwrap();
    seen("group/moved").await;
    drop(agent);
}

#[tokio::test]
async fn a_handler_that_panics_disturbs_nobody() {
    let cluster = Cluster::start().await;
    let kas = Kas::start().await;
    let config = cluster.config(kas.address);
    let modules = all(&config, LogLevels::new(|_| {})).await;
    let agent = start_agent_with(config, modules).await;
    let mut other = kas.call("/toy.Toy/Echo").await;
    for _ in 0..3 {
        let (code, _) = call(&kas, "Panic", "").await.unwrap_err();
        assert_eq!(code, 13);
    }
    other.message("still here").await;
    other.close_send().await;
    assert_eq!(other.answer_message().await, "still here (x-trace)");
    assert_eq!(kas.get("/after").await.status, 201);
    crate::fixture::metric(
        &agent,
        "agent_tunnel_calls_total{service=\"toy.Toy\",outcome=\"panicked\"} 3",
    )
    .await;
}

#[tokio::test]
async fn two_modules_cannot_serve_the_same_method() {
    let cluster = Cluster::start().await;
    let config = cluster.config("127.0.0.1:1".parse().unwrap());
    let mut modules = all(&config, LogLevels::new(|_| {})).await;
    modules.push(Box::new(toy::Toy::default()));
    let error = agent::app::start(config, modules).await.unwrap_err();
    assert!(error.to_string().contains("/toy.Toy/"), "{error}");
}
