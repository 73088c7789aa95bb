//! Workspaces that nobody uses.

use jiff::{SignedDuration, Timestamp};

use super::*;

/// How many minutes after its creation a time that is shown lies.
fn minutes(shown: &Value, time: &Value) -> i64 {
    let at = |time: &Value| time.as_str().unwrap().parse::<Timestamp>().unwrap();
    let age = at(time).duration_since(at(&shown["created_at"]));
    (age.as_secs() + 30) / 60
}

#[tokio::test(flavor = "multi_thread")]
async fn what_passes_keeps_a_workspace_up_and_silence_stops_it() {
    let stage = Stage::start_with(|config| config.workspaces.idle_timeout_min = 30).await;
    let ahead = |minutes| {
        stage
            .rig
            .clock
            .set_ahead(SignedDuration::from_mins(minutes))
    };
    let show = || {
        stage
            .rig
            .admin(Method::GET, "/api/v1/workspaces/one", Value::Null)
    };
    let shown = show().await;
    assert_eq!(minutes(&shown, &shown["next_change"]["at"]), 30);
    assert_eq!(shown["next_change"]["origin"]["level"], "server");

    // Used after 25 minutes, then silence.
    ahead(25);
    let call = stage.get("/head").await;
    assert_eq!(call.status(), StatusCode::OK);
    let shown = show().await;
    assert_eq!(minutes(&shown, &shown["next_change"]["at"]), 55);
    ahead(50);
    let refused = stage.page(stage.silent).await.0;
    assert_eq!(refused, StatusCode::BAD_GATEWAY);
    ahead(54);
    assert_eq!(show().await["desired_state"], "Running");
    ahead(56);
    let end = tokio::time::Instant::now() + SOON;
    let stopped = loop {
        let shown = show().await;
        if shown["desired_state"] == "Stopped" {
            break shown;
        }
        assert!(tokio::time::Instant::now() < end, "{shown:#}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!(minutes(&stopped, &stopped["desired_state_changed_at"]), 56);
    let reason = stopped["desired_state_reason"].as_str().unwrap();
    assert!(reason.contains("not used for 30 minutes"), "{reason}");
    stage.agent.unwrap().stop().await;
}
