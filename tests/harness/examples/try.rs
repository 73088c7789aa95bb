use harness::cluster::*;
use harness::step;
use harness::wait::*;
use std::time::*;
fn main() -> anyhow::Result<()> {
    let c = Cluster::attach()?.unwrap();
    for p in [
        "kube-apiserver",
        "kubelet",
        "etcd",
        "kube-controller-manager",
        "registry",
        "kube-proxy",
        "kube-scheduler",
    ] {
        let t = Instant::now();
        c.stop_program(p)?;
        eprintln!("{p} stopped {:?}", t.elapsed());
        if p == "kube-apiserver" {
            eprintln!("{:?}", c.kubectl(&["get", "--raw", "/readyz"]).output()?);
        }
        assert!(c.stop_program(p).is_err());
        c.start_program(p)?;
        c.wait_ready()?;
        eprintln!("{p} again {:?}", t.elapsed());
        assert!(c.start_program(p).is_err());
    }
    c.kill_in_pod("default", "user", "main")?;
    wait_until("restarted", Duration::from_secs(30), || {
        Ok(step::run(&mut c.kubectl(&[
            "get",
            "pod",
            "user",
            "-ojsonpath={.status.containerStatuses[0].restartCount}",
        ]))?
        .trim()
            == "1")
    })?;
    // killing run
    let mut child = c.run(&["sleep", "4242"]).spawn()?;
    std::thread::sleep(Duration::from_millis(500));
    child.kill()?;
    child.wait()?;
    std::thread::sleep(Duration::from_millis(300));
    eprintln!(
        "{}",
        String::from_utf8_lossy(
            &std::process::Command::new("pgrep")
                .args(["-af", "sleep 4242"])
                .output()?
                .stdout
        )
    );
    eprintln!("{}", step::run(&mut c.helm(&["list", "-A"]))?);
    eprintln!("{}", step::run(&mut c.helm(&["version"]))?);
    eprintln!(
        "{}",
        step::run(&mut c.run(&[
            "sh",
            "-c",
            "ls -la ~/.config/helm ~/.cache/helm; pwd; env | grep KUBE"
        ]))
        .unwrap_or_default()
    );
    Ok(())
}
