//! What the kernel knows about a process.

use std::fs;
use std::time::Duration;

use anyhow::Context as _;

/// `USER_HZ`: the kernel tells CPU times to programs in hundredths of a second on every Linux there is.
const TICKS_PER_SECOND: f64 = 100.0;

/// CPU time used so far, of all threads, user and system.
pub(crate) fn cpu_time(pid: u32) -> anyhow::Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))
        .with_context(|| format!("process {pid} is gone"))?;
    // The second field is the program's name in parentheses and may hold anything.
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let field = |number: usize| -> anyhow::Result<f64> {
        // Fields are counted from 1 and the first two are cut off here.
        Ok(after_name
            .split_whitespace()
            .nth(number - 3)
            .context("a field is missing in stat")?
            .parse()?)
    };
    Ok(Duration::from_secs_f64(
        (field(14)? + field(15)?) / TICKS_PER_SECOND,
    ))
}

/// Resident memory now, in MiB.
pub(crate) fn rss_mib(pid: u32) -> anyhow::Result<f64> {
    status_mib(pid, "VmRSS:")
}

/// The most resident memory there ever was, in MiB.
pub(crate) fn peak_rss_mib(pid: u32) -> anyhow::Result<f64> {
    status_mib(pid, "VmHWM:")
}

fn status_mib(pid: u32, key: &str) -> anyhow::Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))
        .with_context(|| format!("process {pid} is gone"))?;
    let line = status
        .lines()
        .find(|line| line.starts_with(key))
        .with_context(|| format!("no {key} in status"))?;
    let kib: f64 = line
        .split_whitespace()
        .nth(1)
        .context("no number in status")?
        .parse()?;
    Ok(kib / 1024.0)
}

/// The machine's load average over the last minute.
pub(crate) fn load() -> anyhow::Result<f64> {
    let text = fs::read_to_string("/proc/loadavg")?;
    let first = text.split_whitespace().next();
    Ok(first.context("/proc/loadavg is empty")?.parse()?)
}
