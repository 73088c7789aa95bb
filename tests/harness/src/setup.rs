//! What the machine needs before the first run.

/// What is not as it has to be.
#[derive(Debug, Default)]
pub struct Missing {
    /// Debian packages to install, one for each program that is not there.
    pub packages: Vec<&'static str>,
    /// What only a person can change (disk, memory, ports in use, root), each a sentence.
    pub problems: Vec<String>,
}

/// Looks for programs, disk, memory, root and the ports that the cluster's two ways out lead to.
pub fn missing() -> Missing {
    Missing::default()
}

/// Installs the missing packages after saying which; asks first unless `yes`. Never removes a package.
///
/// # Errors
/// When apt-get fails or the answer is no.
pub fn install(yes: bool) -> anyhow::Result<()> {
    let _ = yes;
    anyhow::bail!("not yet")
}
