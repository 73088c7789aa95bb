//! Wires the server together, top to bottom, and owns every task.

mod people;

use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, bail};
use hyper_util::service::TowerToHyperService;
use jiff::Timestamp;
use tokio::net::{TcpListener, UnixListener};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    access::{Access, AccessParts},
    agents::{AgentServices, AgentServicesParts, Clusters, Presence},
    api::{self, Api},
    audit::Audit,
    authorities,
    config::ServeConfig,
    configuration::{Configurations, chain},
    data_folder::{self, ACCESS_KEY, DATABASE, SOCKET},
    directory::{Directory, Passwords},
    fetch::Fetcher,
    git::{Git, guard::Policy},
    listener::{self, Audience, ConnectionInfo, ConnectionTiming, Lifetime, Source},
    metrics::Metrics,
    observability::Observability,
    oidc,
    proxy::Proxy,
    sign_in::SignIn,
    store::{SqliteStore, Store, backup},
    tls::{self, Tls},
    tunnel::Tunnels,
    workspaces::{Editors, Keeper, Maker, Renderer, Workspaces},
};
use people::PeopleService;

/// How often expired credentials are looked for: they end within this.
const MAINTENANCE_INTERVAL: Duration = Duration::from_secs(5);
/// How many of those between writes of when tokens were last used: once a minute.
const MAINTENANCES_PER_WRITE: u32 = 12;
/// After the grace, for tasks that were told to end at once.
const KILL_TIMEOUT: Duration = Duration::from_secs(2);

/// A running server.
#[derive(Debug)]
pub struct Server {
    /// Where agents connect.
    pub agents: SocketAddr,
    /// Where people connect.
    pub people: SocketAddr,
    /// Where metrics are.
    pub observability: SocketAddr,
    /// A single-use link, on the first start.
    pub sign_in_link: Option<String>,
    lifetime: Lifetime,
    tunnels: Arc<Tunnels>,
    directory: Arc<Directory>,
    audit: Arc<Audit>,
    store: Arc<dyn Store>,
    stop_grace: Duration,
    socket: PathBuf,
    /// Held as long as the server runs.
    _lock: data_folder::Lock,
}

/// Starts a server; when this returns, it listens.
///
/// # Errors
/// When the data folder, an address or a certificate cannot be used.
pub async fn start(config: ServeConfig) -> anyhow::Result<Server> {
    let ServeConfig {
        data_dir,
        agent_listen_address,
        people_listen_address,
        observability_listen_address,
        agent_connection_age_s,
        external_url,
        agent_url,
        tls_san,
        tls_cert_file,
        tls_key_file,
        tls_ca_file,
        allow_plaintext,
        git_allow_http,
        git_allow_private,
        git_ca_file,
        workspaces: workspace_defaults,
        workspaces_domain,
        editors,
        oidc,
        log_format: _,
        log_level: _,
        clock_ahead_file,
        clock,
        timing,
    } = config;
    let editors = Editors::load(&editors)?;
    let lock = data_folder::take(&data_dir)?;
    lock.check_whole()?;
    let lifetime = Lifetime {
        tasks: TaskTracker::new(),
        stopping: CancellationToken::new(),
        killing: CancellationToken::new(),
    };

    let store: Arc<dyn Store> = Arc::new(SqliteStore::open(&data_dir.join(DATABASE)).await?);
    let (directory, first_start) = Directory::open(Arc::clone(&store)).await?;
    let directory = Arc::new(directory);
    let audit = Arc::new(Audit::open(Arc::clone(&store)).await?);
    let registries = workspace_defaults.registries.iter();
    let registries = registries.map(ToString::to_string).collect();
    let (full_interval, partial_interval) = (
        Duration::from_secs(workspace_defaults.full_interval_s),
        Duration::from_secs(workspace_defaults.partial_interval_s),
    );
    if let Some(file) = clock_ahead_file {
        tracing::warn!(file = %file.display(), "the clock for workspaces is moved by a file; this is for tests only");
        clock.read_ahead(&file).await;
        let (stopping, following) = (lifetime.stopping.clone(), clock.clone().follow(file));
        lifetime.tasks.spawn(async move {
            stopping.run_until_cancelled(following).await;
        });
    }
    let renderer = Arc::new(Renderer::new(workspace_defaults, editors));
    let workspaces = Workspaces::open(Arc::clone(&store), Arc::clone(&renderer), clock.clone());
    let workspaces = Arc::new(workspaces.await?);

    let agents = bind(agent_listen_address, "agents").await?;
    let people = bind(people_listen_address, "people").await?;
    let observability = bind(observability_listen_address, "observability").await?;
    let (agents_at, people_at) = (agents.local_addr()?, people.local_addr()?);
    let observability_at = observability.local_addr()?;
    let socket = data_dir.join(SOCKET);
    let socket_listener = bind_socket(&socket)?;

    let external_host = external_url.as_ref().map(|url| url.host().to_owned());
    let agent_host = agent_url.as_ref().map(|url| url.host().to_owned());
    let external_url: Arc<str> = external_url
        .map_or_else(|| format!("https://{people_at}"), |url| url.to_string())
        .into();
    let agent_url: Arc<str> = agent_url
        .map_or_else(|| format!("grpcs://{agents_at}"), |url| url.to_string())
        .into();
    let provider = oidc::provider(oidc, &external_url)?;
    let tls = Tls::load(match (tls_cert_file, tls_key_file) {
        (Some(certificate), Some(key)) => tls::Source::Given {
            certificate,
            key,
            authority: tls_ca_file,
        },
        (Some(_), None) => bail!("--tls-cert-file needs --tls-key-file"),
        (None, Some(_)) => bail!("--tls-key-file needs --tls-cert-file"),
        (None, None) if tls_ca_file.is_some() => {
            bail!(
                "--tls-ca-file needs --tls-cert-file: without, the server has an authority of its own"
            )
        }
        (None, None) => tls::Source::Own {
            folder: data_dir.join(data_folder::TLS),
            names: tls::server_names(
                [agents_at.ip(), people_at.ip()],
                tls_san
                    .into_iter()
                    .chain(external_host)
                    .chain(agent_host)
                    .chain([format!("*.{workspaces_domain}")]),
            ),
        },
    })?;

    let metrics = Arc::new(Metrics::new());
    let presence = Arc::new(Presence::default());
    let clusters = Arc::new(Clusters::open(Arc::clone(&store)).await?);
    let tunnels = Arc::new(Tunnels::new(timing.find_tunnel));
    let git_policy = Policy {
        allow_http: git_allow_http,
        allow_private: git_allow_private,
    };
    let git_cache = data_dir.join("git");
    data_folder::create_folder(&git_cache)?;
    let (stop_grace, keepalive) = (timing.stop_grace, timing.keepalive);
    let tls_poll_interval = timing.tls_poll_interval;
    let authorities = authorities::load(
        git_ca_file.as_deref(),
        &std::path::absolute(git_cache.join("authorities.crt"))?,
    )
    .context("--git-ca-file")?;
    let git = Git::new(git_cache, git_policy, timing.git_timeout, &authorities);
    let git = Arc::new(git);
    let fetcher = Fetcher::new(git_policy, timing.fetch_timeout, &authorities);
    let configurations = Arc::new(Configurations::new(
        Arc::clone(&store),
        Arc::clone(&git),
        timing,
        lifetime.tasks.clone(),
        lifetime.stopping.clone(),
    ));
    for agent in directory.agents() {
        configurations.watch(&agent).await;
    }
    let keeper = Keeper::new(
        Arc::clone(&workspaces),
        Arc::clone(&configurations),
        Arc::clone(&directory),
    );
    let stopping = lifetime.stopping.clone();
    lifetime.tasks.spawn(async move {
        stopping.run_until_cancelled(keeper.run()).await;
    });
    let sign_in = Arc::new(SignIn::new());
    let sign_in_link =
        first_start.then(|| api::sign_in_link(&sign_in, directory.administrator(), &external_url));

    let agent_services = AgentServices::new(AgentServicesParts {
        directory: Arc::clone(&directory),
        clusters: Arc::clone(&clusters),
        configurations: Arc::clone(&configurations),
        presence: Arc::clone(&presence),
        tunnels: Arc::clone(&tunnels),
        workspaces: Arc::clone(&workspaces),
        full_interval,
        partial_interval,
        metrics: Arc::clone(&metrics),
        external_url: Arc::clone(&external_url),
    });
    let proxy = Arc::new(Proxy::new(
        Arc::clone(&audit),
        Arc::clone(&directory),
        Arc::clone(&configurations),
        Arc::clone(&tunnels),
        Arc::clone(&metrics),
        &lifetime,
    ));
    let workspaces_domain: Arc<str> = workspaces_domain.as_str().into();
    let access = Arc::new(
        Access::open(AccessParts {
            audit: Arc::clone(&audit),
            directory: Arc::clone(&directory),
            workspaces: Arc::clone(&workspaces),
            tunnels: Arc::clone(&tunnels),
            metrics: Arc::clone(&metrics),
            external_url: Arc::clone(&external_url),
            domain: Arc::clone(&workspaces_domain),
            key_file: &data_dir.join(ACCESS_KEY),
            lifetime: &lifetime,
        })
        .with_context(|| format!("the key in {}", data_dir.join(ACCESS_KEY).display()))?,
    );
    let api = Api {
        audit: Arc::clone(&audit),
        directory: Arc::clone(&directory),
        clusters,
        configurations: Arc::clone(&configurations),
        presence: Arc::clone(&presence),
        tunnels: Arc::clone(&tunnels),
        sign_in,
        passwords: Arc::new(Passwords::new()),
        provider,
        external_url,
        agent_url,
        workspaces_domain,
        certificate: Arc::clone(&tls.served),
        git_policy,
        workspaces,
        maker: Arc::new(Maker::new(git, fetcher, registries, renderer, clock)),
        proxy: Arc::clone(&proxy),
        access: Arc::clone(&access),
        stopping: lifetime.stopping.clone(),
    }
    .router();
    let observability_router = Observability {
        metrics: Arc::clone(&metrics),
        presence,
        tunnels: Arc::clone(&tunnels),
        configurations,
        stopping: lifetime.stopping.clone(),
    }
    .router();

    let connections = ConnectionTiming {
        age: Duration::from_secs(agent_connection_age_s),
        keepalive,
    };
    let plaintext = |address: SocketAddr| allow_plaintext || address.ip().is_loopback();
    let people_service = {
        let proxy = Arc::clone(&proxy);
        move |info: ConnectionInfo, _| {
            let (access, proxy) = (Arc::clone(&access), Arc::clone(&proxy));
            PeopleService::new(access, proxy, api.clone(), info)
        }
    };
    lifetime.tasks.spawn(listener::accept(
        Audience::Agents,
        Source::Tcp {
            listener: agents,
            tls: Some(tls.agents),
            plaintext: plaintext(agents_at),
        },
        connections,
        Arc::clone(&metrics),
        lifetime.clone(),
        move |info: ConnectionInfo, ending| agent_services.for_connection(info.id, ending),
    ));
    lifetime.tasks.spawn(listener::accept(
        Audience::People,
        Source::Tcp {
            listener: people,
            tls: Some(tls.people),
            plaintext: plaintext(people_at),
        },
        connections,
        Arc::clone(&metrics),
        lifetime.clone(),
        people_service.clone(),
    ));
    lifetime.tasks.spawn(listener::accept(
        Audience::Socket,
        Source::Unix(socket_listener),
        connections,
        Arc::clone(&metrics),
        lifetime.clone(),
        people_service,
    ));
    lifetime.tasks.spawn(listener::accept(
        Audience::Observability,
        Source::Tcp {
            listener: observability,
            tls: None,
            plaintext: true,
        },
        connections,
        Arc::clone(&metrics),
        lifetime.clone(),
        move |_, _| TowerToHyperService::new(observability_router.clone()),
    ));
    lifetime.tasks.spawn(maintain(
        Arc::clone(&directory),
        Arc::clone(&audit),
        lifetime.stopping.clone(),
    ));
    lifetime.tasks.spawn(tls::keep_fresh(
        tls.served,
        tls_poll_interval,
        metrics,
        lifetime.stopping.clone(),
    ));

    Ok(Server {
        agents: agents_at,
        people: people_at,
        observability: observability_at,
        sign_in_link,
        lifetime,
        tunnels,
        directory,
        audit,
        store,
        stop_grace,
        socket,
        _lock: lock,
    })
}

impl Server {
    /// Stops: nothing new begins, idle tunnels end with OK, running requests get the grace, then everything ends.
    pub async fn stop(self) {
        let Self {
            agents: _,
            people: _,
            observability: _,
            sign_in_link: _,
            lifetime,
            tunnels,
            directory,
            audit,
            store,
            stop_grace,
            socket,
            _lock,
        } = self;
        // Connections first: their GOAWAY keeps agents from opening new tunnels in place of the old.
        lifetime.stopping.cancel();
        lifetime.tasks.close();
        tokio::task::yield_now().await;
        tunnels.stop();
        if tokio::time::timeout(stop_grace, lifetime.tasks.wait())
            .await
            .is_err()
        {
            tracing::info!(tasks = lifetime.tasks.len(), "ending what still runs");
            lifetime.killing.cancel();
            let _ = tokio::time::timeout(KILL_TIMEOUT, lifetime.tasks.wait()).await;
        }
        if let Err(error) = directory.maintain(Timestamp::now(), true).await {
            tracing::warn!(
                error = chain(&error),
                "when tokens were last used could not be kept"
            );
        }
        audit.write().await;
        store.close().await;
        let _ = fs::remove_file(socket);
    }
}

/// Writes a backup of a server's data folder to a new file, as `kas-stub backup` does; a server may run on it.
///
/// # Errors
/// When there is no server's data, or the file cannot be written.
pub async fn back_up(data_dir: &Path, file: &Path) -> anyhow::Result<()> {
    Ok(backup::write(data_dir, file).await?)
}

/// Puts a backup in the place of what is in the data folder of a stopped server, as `kas-stub restore` does.
///
/// # Errors
/// When a server runs, or the file is no backup.
pub async fn restore(data_dir: &Path, file: &Path) -> anyhow::Result<()> {
    backup::restore(data_dir, file).await?;
    Ok(())
}

async fn maintain(directory: Arc<Directory>, audit: Arc<Audit>, stopping: CancellationToken) {
    for round in 1_u32.. {
        let pause = tokio::time::sleep(MAINTENANCE_INTERVAL);
        if stopping.run_until_cancelled(pause).await.is_none() {
            return;
        }
        let write = round.is_multiple_of(MAINTENANCES_PER_WRITE);
        if let Err(error) = directory.maintain(Timestamp::now(), write).await {
            tracing::warn!(error = chain(&error), "maintenance of credentials failed");
        }
        audit.write().await;
    }
}

async fn bind(address: SocketAddr, what: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| {
        format!("listen for {what} on {address}; does another program use the port?")
    })
}

fn bind_socket(path: &Path) -> anyhow::Result<UnixListener> {
    // The lock says that no server uses it.
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("replace {}", path.display()));
        }
        Ok(()) | Err(_) => {}
    }
    let listener = UnixListener::bind(path).with_context(|| {
        format!(
            "listen on {} (a socket's path has at most about 100 characters)",
            path.display()
        )
    })?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}
