//! Proof that the cluster has two ways out and none in.

use std::io::ErrorKind;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::cluster::{AGENT_PORT, CLUSTER_ADDRESS, Cluster, GIT_PORT, HOST_ADDRESS};
use crate::step;

/// For a connection over a virtual cable; a dropped packet is noticed by nothing else than this.
const LIMIT: Duration = Duration::from_secs(1);
/// Ports of the cluster that a host could want: API server, kubelet, registry.
const CLUSTER_PORTS: [u16; 3] = [6443, 10250, 5000];
/// The Pod that tries to get out.
const POD: &str = "reachability";

/// Tries connections from a Pod, from the node and from the host.
///
/// # Errors
/// When one succeeds that must not, or the other way round.
pub fn check(cluster: &Cluster) -> Result<()> {
    // Whoever has the two ports already (the server, the Git server) answers for us.
    let _open: Vec<_> = [AGENT_PORT, GIT_PORT]
        .map(listen)
        .into_iter()
        .collect::<Result<_>>()?;
    let closed = TcpListener::bind((HOST_ADDRESS, 0))
        .context("cannot listen on the host's end of the uplink")?;
    let closed_port = closed.local_addr()?.port();

    start_pod(cluster)?;
    let pod = From::Pod("default", POD);
    for (place, from) in [("a Pod", pod), ("the node", From::Node)] {
        for port in [AGENT_PORT, GIT_PORT] {
            ensure!(
                opens(cluster, from, HOST_ADDRESS, port)?,
                "{place} cannot reach {HOST_ADDRESS}:{port}, which is a way out"
            );
        }
        ensure!(
            !opens(cluster, from, HOST_ADDRESS, closed_port)?,
            "{place} reaches {HOST_ADDRESS}:{closed_port}, which is no way out"
        );
        if let Some(other) = other_address() {
            let _open = listen_on(&other, AGENT_PORT)?;
            // The same port on another address of the host is no way out either.
            ensure!(
                !opens(cluster, from, &other, AGENT_PORT)?,
                "{place} reaches {other}:{AGENT_PORT}"
            );
        }
    }
    for port in CLUSTER_PORTS {
        let address = format!("{CLUSTER_ADDRESS}:{port}").parse()?;
        match TcpStream::connect_timeout(&address, LIMIT) {
            Ok(_) => bail!("the host reaches {address}: there is a way into the cluster"),
            Err(error) if error.kind() == ErrorKind::TimedOut => {}
            Err(error) => {
                bail!("the host gets an answer from {address} ({error}): not all is dropped")
            }
        }
    }
    step::run(&mut cluster.kubectl(&["delete", "pod", POD, "--wait=false"]))?;
    Ok(())
}

fn listen(port: u16) -> Result<Option<TcpListener>> {
    listen_on(HOST_ADDRESS, port)
}

/// Listens, unless somebody else does already.
fn listen_on(address: &str, port: u16) -> Result<Option<TcpListener>> {
    match TcpListener::bind((address, port)) {
        Ok(listener) => Ok(Some(listener)),
        Err(error) if error.kind() == ErrorKind::AddrInUse => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot listen on {address}:{port}")),
    }
}

fn start_pod(cluster: &Cluster) -> Result<()> {
    let exists = cluster
        .kubectl(&["get", "pod", POD])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()?
        .success();
    if !exists {
        step::run(&mut cluster.kubectl(&[
            "run",
            POD,
            "--image=localhost/busybox:1",
            "--restart=Never",
            "--",
            "sleep",
            "3600",
        ]))?;
    }
    step::run(&mut cluster.kubectl(&["wait", "--for=condition=Ready", "pod", POD, "--timeout=60s"]))
        .map(drop)
}

/// From where somebody tries to connect.
#[derive(Debug, Clone, Copy)]
pub enum From<'a> {
    /// The node itself.
    Node,
    /// The first container of a Pod with busybox in it: its namespace and name.
    Pod(&'a str, &'a str),
}

/// Whether a TCP connection opens.
///
/// # Errors
/// When it cannot be tried.
pub fn opens(cluster: &Cluster, from: From<'_>, address: &str, port: u16) -> Result<bool> {
    let (seconds, port) = (LIMIT.as_secs().to_string(), port.to_string());
    // Runs `true` when the connection is open: busybox's nc has no -z.
    let attempt = ["nc", "-w", &seconds, address, &port, "-e", "true"];
    let mut command = match from {
        From::Pod(namespace, pod) => {
            let exec = ["exec", "-n", namespace, pod, "--", "timeout", "10"];
            cluster.kubectl(&[&exec, &attempt[..]].concat())
        }
        From::Node => {
            let busybox = cluster.tools().busybox.to_string_lossy().into_owned();
            cluster.run(&[&["timeout", "10", &busybox], &attempt[..]].concat())
        }
    };
    let status = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()?;
    Ok(status.success())
}

/// An address of the host on another interface, if it has one.
fn other_address() -> Option<String> {
    // Connecting a UDP socket sends nothing; it only picks the address one would send from.
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    let address = socket.local_addr().ok()?.ip().to_string();
    (address != HOST_ADDRESS).then_some(address)
}
