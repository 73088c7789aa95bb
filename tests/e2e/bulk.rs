//! kubectl through the tunnel with much of everything: 50 MB up and down, 200 watches at once.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tests::command::{Followed, output};

use crate::Test;
use crate::world::{CALL, PLAYGROUND, TALKER, World};

pub(crate) const TESTS: &[Test] = &[
    ("cp_copies_50_mb_both_ways", copy),
    ("a_list_of_50_mb_goes_up_and_comes_back", list),
    ("discovery_finds_the_apis", discovery),
    ("200_watches_at_once_each_see_a_change", watches),
];

const MEGABYTES: usize = 50;
const WATCHES: usize = 200;
/// For what is large; a small call takes a fraction of a second.
const LARGE: Duration = Duration::from_secs(120);
const LABEL: &str = "bulk=yes";

type Kubectl = fn(&World, &[&str]) -> Command;

fn copy(world: &mut World) -> Result<()> {
    let there = world.folder.join("there");
    let back = world.folder.join("back");
    // Nothing on the way can make it smaller.
    let mut random = fs::File::open("/dev/urandom")?.take(MEGABYTES as u64 * 1_000_000);
    std::io::copy(&mut random, &mut fs::File::create(&there)?)?;
    let text = |path: &Path| path.to_str().map(str::to_owned).context("not UTF-8");
    for kubectl in [World::person as Kubectl, World::person_of_old] {
        let pod = format!("{PLAYGROUND}/{TALKER}:/tmp/copied");
        let up = ["cp", &text(&there)?, &pod, "-c", TALKER];
        output(&mut kubectl(world, &up), LARGE)?;
        fs::remove_file(&back).ok();
        let down = ["cp", &pod, &text(&back)?, "-c", TALKER];
        output(&mut kubectl(world, &down), LARGE)?;
        ensure!(
            fs::read(&there)? == fs::read(&back)?,
            "other bytes came back"
        );
    }
    fs::remove_file(&there)?;
    fs::remove_file(&back)?;
    let remove = ["exec", "-n", PLAYGROUND, TALKER, "--", "rm", "/tmp/copied"];
    output(&mut world.person(&remove), CALL).map(drop)
}

fn list(world: &mut World) -> Result<()> {
    let text = "0123456789abcde\n".repeat(60_000);
    let count = (MEGABYTES * 1_000_000).div_ceil(text.len());
    let object = |number: usize| {
        json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": format!("bulk-{number}"), "namespace": PLAYGROUND, "labels": {"bulk": "yes"}},
            "data": {"text": text},
        })
    };
    let objects: Vec<Value> = (0..count).map(object).collect();
    let manifest = world.manifest("bulk", &objects)?;
    let manifest = manifest.to_str().context("not UTF-8")?;
    let create = ["create", "--validate=false", "-f", manifest];
    output(&mut world.person(&create), LARGE)?;
    // One answer, not pages of it.
    let all = [
        "get",
        "configmaps",
        "-n",
        PLAYGROUND,
        "-l",
        LABEL,
        "-o",
        "json",
        "--chunk-size=0",
    ];
    let seen = (|| {
        for kubectl in [World::person as Kubectl, World::person_of_old] {
            let told = output(&mut kubectl(world, &all), LARGE)?;
            ensure!(told.len() > MEGABYTES * 1_000_000, "{} bytes", told.len());
            let told: Value = serde_json::from_str(&told)?;
            let items = told["items"].as_array().context("no items")?;
            ensure!(items.len() == count, "{} of {count}", items.len());
            ensure!(items.iter().all(|it| it["data"]["text"] == text.as_str()));
        }
        Ok(())
    })();
    let delete = ["delete", "configmaps", "-n", PLAYGROUND, "-l", LABEL];
    output(&mut world.person(&delete), LARGE)?;
    seen
}

fn discovery(world: &mut World) -> Result<()> {
    for kubectl in [World::person as Kubectl, World::person_of_old] {
        let told = output(&mut kubectl(world, &["api-resources", "-o", "name"]), CALL)?;
        for name in [
            "pods",
            "deployments.apps",
            "networkpolicies.networking.k8s.io",
        ] {
            ensure!(told.lines().any(|line| line == name), "{name} in\n{told}");
        }
        let told = output(&mut kubectl(world, &["explain", "pod.spec.nodeName"]), CALL)?;
        ensure!(told.contains("nodeName"), "{told}");
    }
    Ok(())
}

/// `kubectl proxy` holds them: its own connection to the server carries them all.
fn watches(world: &mut World) -> Result<()> {
    let mut proxy =
        Followed::start(&mut world.person(&["proxy", "--port=0", "--append-server-path"]))?;
    let line = proxy.expect("Starting to serve on", CALL)?;
    let address = line.rsplit(' ').next().context("no address")?.to_owned();
    let request = format!(
        "GET /api/v1/namespaces/{PLAYGROUND}/configmaps?watch=1&labelSelector=bulk%3Dyes HTTP/1.1\r\nHost: localhost\r\n\r\n"
    );
    let mut open = Vec::with_capacity(WATCHES);
    for _ in 0..WATCHES {
        let mut stream = TcpStream::connect(&address)?;
        stream.set_read_timeout(Some(LARGE))?;
        stream.write_all(request.as_bytes())?;
        open.push(BufReader::new(stream));
    }
    for (number, stream) in open.iter_mut().enumerate() {
        let mut status = String::new();
        stream.read_line(&mut status)?;
        ensure!(status.contains("200 OK"), "watch {number}: {status}");
    }
    let create = ["create", "configmap", "-n", PLAYGROUND, "watched-by-many"];
    world.admin(&create)?;
    let label = [
        "label",
        "configmap",
        "-n",
        PLAYGROUND,
        "watched-by-many",
        LABEL,
    ];
    world.admin(&label)?;
    let seen = (|| {
        for (number, stream) in open.iter_mut().enumerate() {
            let mut line = String::new();
            while !line.contains("watched-by-many") {
                line.clear();
                let more = stream.by_ref().take(64 * 1024).read_line(&mut line);
                ensure!(
                    more.with_context(|| format!("watch {number}"))? > 0,
                    "watch {number} ended"
                );
            }
            ensure!(line.contains("\"ADDED\""), "watch {number}: {line}");
        }
        Ok(())
    })();
    world.admin(&["delete", "configmap", "-n", PLAYGROUND, "watched-by-many"])?;
    seen
}
