//! Everything that a server keeps in one file, and back. The file is an SQLite database: the server's own, and one more
//! table with the keys and certificates that lie beside it. Git caches can be fetched again and are not in it.

use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use sqlx::{
    Connection as _, Row as _, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode},
};

use super::sqlite::{KNOWN_VERSION, version};
use crate::data_folder::{self, ACCESS_KEY, DATABASE, TLS};

/// What else is in a backup, as paths in the data folder.
const FILES: [&str; 6] = [
    ACCESS_KEY,
    "tls/ca.crt",
    "tls/ca.key",
    "tls/server.crt",
    "tls/server.key",
    "tls/server.names",
];
/// What SQLite keeps beside a database.
const BESIDE: [&str; 2] = ["-wal", "-shm"];
/// The table that makes a database a backup.
const TABLE: &str = "CREATE TABLE backup_file (path TEXT PRIMARY KEY, content BLOB NOT NULL)";

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{}", path.display())]
    File {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{} exists already; give the name of a new file", .0.display())]
    Exists(PathBuf),
    #[error("there is no database in {}; is it the server's data folder?", .0.display())]
    NoDatabase(PathBuf),
    #[error("copy the database")]
    Copy(#[source] sqlx::Error),
    #[error("{} is no backup of `kas-stub backup`", .0.display())]
    NoBackup(PathBuf),
    #[error("{} is damaged: {problem}", path.display())]
    Damaged { path: PathBuf, problem: String },
    #[error(
        "{} was made with a database of version {found}, and this program knows up to {KNOWN_VERSION}: use a newer kas-stub", path.display()
    )]
    TooNew { path: PathBuf, found: i64 },
    #[error("{0:#}")]
    Folder(anyhow::Error),
}

type Result<T, E = Error> = std::result::Result<T, E>;

/// What was restored, for whoever asked.
#[derive(Debug)]
pub(crate) struct Restored {
    /// Where the files are that were there before, if there were any.
    pub(crate) aside: Option<PathBuf>,
}

/// Writes a backup of a data folder, whether a server runs on it or not: the state of one moment.
///
/// # Errors
/// When there is no server's data, or the file cannot be written; then nothing is left of it.
pub(crate) async fn write(folder: &Path, target: &Path) -> Result<()> {
    let database = folder.join(DATABASE);
    if !database.exists() {
        return Err(Error::NoDatabase(folder.to_owned()));
    }
    write_of(&database, folder, target).await
}

/// As [`write()`], of this database and the files beside it.
pub(super) async fn write_of(database: &Path, folder: &Path, target: &Path) -> Result<()> {
    // SQLite writes into an empty file, which is ours alone from the first moment.
    let made = new_file(target).and_then(|file| file.sync_all());
    made.map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => Error::Exists(target.to_owned()),
        _ => file_error(target)(error),
    })?;
    let written = copy(database, folder, target).await;
    if written.is_err() {
        let _ = fs::remove_file(target);
    }
    written
}

async fn copy(database: &Path, folder: &Path, target: &Path) -> Result<()> {
    let mut source = open(database).await?;
    // One read transaction: a server that writes meanwhile is not held up, and what it writes is not in the copy.
    sqlx::query("VACUUM INTO ?1")
        .bind(target.to_string_lossy())
        .execute(&mut source)
        .await
        .map_err(Error::Copy)?;
    source.close().await.map_err(Error::Copy)?;
    let mut copy = open(target).await?;
    sqlx::raw_sql(TABLE)
        .execute(&mut copy)
        .await
        .map_err(Error::Copy)?;
    for name in FILES {
        let path = folder.join(name);
        let content = match fs::read(&path) {
            // With certificates of the operator's there is no own authority.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            read => read.map_err(file_error(&path))?,
        };
        sqlx::query("INSERT INTO backup_file (path, content) VALUES (?1, ?2)")
            .bind(name)
            .bind(content)
            .execute(&mut copy)
            .await
            .map_err(Error::Copy)?;
    }
    copy.close().await.map_err(Error::Copy)?;
    sync(target)
}

/// Puts a backup in the place of what is in a data folder. No server may run on it.
///
/// # Errors
/// When a server runs, or the file is no backup that this program can read; then nothing has changed. When the disk
/// fails in the middle, the folder says so to a server that is started on it.
pub(crate) async fn restore(folder: &Path, backup: &Path) -> Result<Restored> {
    let lock = data_folder::take(folder).map_err(Error::Folder)?;
    let staged = folder.join("restore.new");
    remove(&staged)?;
    let result = restore_locked(&lock, folder, backup, &staged).await;
    // Read before, or moved away by now.
    let _ = remove(&staged);
    result
}

async fn restore_locked(
    lock: &data_folder::Lock,
    folder: &Path,
    backup: &Path,
    staged: &Path,
) -> Result<Restored> {
    let mut reader = fs::File::open(backup).map_err(file_error(backup))?;
    new_file(staged)
        .and_then(|mut writer| io::copy(&mut reader, &mut writer))
        .map_err(file_error(staged))?;
    let files = unpack(backup, staged).await?;
    sync(staged)?;
    let aside = aside(folder)?;
    let place = || {
        for name in FILES {
            put_aside(folder, name, aside.as_deref())?;
        }
        for beside in BESIDE.iter().chain(&[""]) {
            put_aside(folder, &format!("{DATABASE}{beside}"), aside.as_deref())?;
        }
        data_folder::create_folder(&folder.join(TLS))?;
        for (name, content) in &files {
            let path = folder.join(name);
            let mut file = new_file(&path)?;
            file.write_all(content)?;
            file.sync_all()?;
        }
        fs::rename(staged, folder.join(DATABASE))?;
        Ok(())
    };
    lock.while_not_whole(place).map_err(Error::Folder)?;
    Ok(Restored { aside })
}

/// Takes the files out of a copy of a backup, which is then the database alone.
async fn unpack(backup: &Path, staged: &Path) -> Result<Vec<(&'static str, Vec<u8>)>> {
    let no_backup = |_| Error::NoBackup(backup.to_owned());
    let damaged = |problem: String| Error::Damaged {
        path: backup.to_owned(),
        problem,
    };
    let mut copy = open(staged)
        .await
        .map_err(|_| Error::NoBackup(backup.to_owned()))?;
    let sound = sqlx::query("PRAGMA integrity_check(1)")
        .fetch_one(&mut copy)
        .await
        .and_then(|row| row.try_get::<String, _>(0))
        .map_err(no_backup)?;
    if sound != "ok" {
        return Err(damaged(sound));
    }
    let rows = sqlx::query("SELECT path, content FROM backup_file")
        .fetch_all(&mut copy)
        .await
        .map_err(no_backup)?;
    let found = version(&mut copy).await.map_err(no_backup)?;
    if found > KNOWN_VERSION {
        return Err(Error::TooNew {
            path: backup.to_owned(),
            found,
        });
    }
    let mut files = Vec::new();
    for row in rows {
        let (name, content): (String, Vec<u8>) = row
            .try_get(0)
            .and_then(|name| Ok((name, row.try_get(1)?)))
            .map_err(|error| damaged(error.to_string()))?;
        // Somebody else's file must not choose where it is written to.
        let Some(known) = FILES.iter().find(|known| **known == name) else {
            return Err(damaged(format!("it has a file {name:?}")));
        };
        files.push((*known, content));
    }
    sqlx::raw_sql("DROP TABLE backup_file")
        .execute(&mut copy)
        .await
        .map_err(|error| damaged(error.to_string()))?;
    copy.close().await.map_err(Error::Copy)?;
    Ok(files)
}

/// A new folder for what is in the data folder now; `None` when nothing is.
fn aside(folder: &Path) -> Result<Option<PathBuf>> {
    if !folder.join(DATABASE).exists() && !FILES.iter().any(|name| folder.join(name).exists()) {
        return Ok(None);
    }
    let now = Timestamp::now().strftime("%Y%m%dT%H%M%S%.6fZ");
    let aside = folder.join(format!("before-restore-{now}"));
    data_folder::create_folder(&aside.join(TLS)).map_err(Error::Folder)?;
    Ok(Some(aside))
}

fn put_aside(folder: &Path, name: &str, aside: Option<&Path>) -> io::Result<()> {
    let Some(aside) = aside else {
        return Ok(());
    };
    match fs::rename(folder.join(name), aside.join(name)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

async fn open(path: &Path) -> Result<SqliteConnection> {
    let mut options = SqliteConnectOptions::new().filename(path);
    if path.file_name().is_none_or(|name| name != DATABASE) {
        // A single file, with nothing beside it.
        options = options.journal_mode(SqliteJournalMode::Delete);
    }
    SqliteConnection::connect_with(&options)
        .await
        .map_err(Error::Copy)
}

/// One that did not exist, for us alone.
fn new_file(path: &Path) -> io::Result<fs::File> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true).mode(0o600).open(path)
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(file_error(path)(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn sync(path: &Path) -> Result<()> {
    fs::File::open(path)
        .and_then(|file| file.sync_all())
        .map_err(file_error(path))
}

fn file_error(path: &Path) -> impl Fn(io::Error) -> Error + '_ {
    move |source| Error::File {
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::store::{Kind, SqliteStore, Store as _, Write};

    fn agent(id: &str) -> Vec<Write> {
        vec![Write {
            kind: Kind::Agent,
            id: id.into(),
            expected_version: 0,
            body: Some("{}".into()),
        }]
    }

    async fn ids(folder: &Path) -> Vec<String> {
        let store = SqliteStore::open(&folder.join(DATABASE)).await.unwrap();
        let records = store.list(Kind::Agent).await.unwrap();
        store.close().await;
        records.into_iter().map(|record| record.id).collect()
    }

    #[tokio::test]
    async fn a_backup_made_under_way_brings_back_database_and_keys() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        fs::create_dir_all(data.join(TLS)).unwrap();
        fs::write(data.join(ACCESS_KEY), "key one").unwrap();
        fs::write(data.join("tls/ca.key"), "ca one").unwrap();
        let store = SqliteStore::open(&data.join(DATABASE)).await.unwrap();
        store.append(agent("a")).await.unwrap();
        let file = folder.path().join("it.backup");
        write(&data, &file).await.unwrap();
        let mode = fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let again = write(&data, &file).await.unwrap_err();
        assert!(matches!(again, Error::Exists(_)), "{again}");
        // The server writes on.
        store.append(agent("b")).await.unwrap();
        fs::write(data.join(ACCESS_KEY), "key two").unwrap();
        store.close().await;
        assert_eq!(ids(&data).await, ["a", "b"]);

        let restored = restore(&data, &file).await.unwrap();
        assert_eq!(ids(&data).await, ["a"]);
        let text = |path: PathBuf| fs::read_to_string(path).unwrap();
        assert_eq!(text(data.join(ACCESS_KEY)), "key one");
        assert_eq!(text(data.join("tls/ca.key")), "ca one");
        let aside = restored.aside.unwrap();
        assert_eq!(ids(&aside).await, ["a", "b"]);
        assert_eq!(text(aside.join(ACCESS_KEY)), "key two");
        // And into an empty folder, as on a new machine.
        let new = folder.path().join("new");
        assert!(restore(&new, &file).await.unwrap().aside.is_none());
        assert_eq!(ids(&new).await, ["a"]);
        assert_eq!(text(new.join(ACCESS_KEY)), "key one");
    }

    #[tokio::test]
    async fn a_wrong_file_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        data_folder::create_folder(&data).unwrap();
        let store = SqliteStore::open(&data.join(DATABASE)).await.unwrap();
        store.append(agent("a")).await.unwrap();
        store.close().await;
        let path = |name: &str| folder.path().join(name);
        write(&data, &path("good")).await.unwrap();
        let altered = async |name: &str, sql: &'static str| {
            fs::copy(path("good"), path(name)).unwrap();
            let mut copy = open(&path(name)).await.unwrap();
            sqlx::raw_sql(sql).execute(&mut copy).await.unwrap();
            copy.close().await.unwrap();
        };
        altered("newer", "PRAGMA user_version = 99").await;
        altered(
            "elsewhere",
            "INSERT INTO backup_file VALUES ('../../etc/passwd', 'x')",
        )
        .await;
        altered("plain", "DROP TABLE backup_file").await;
        fs::write(path("text"), "hello ".repeat(1000)).unwrap();
        fs::write(path("empty"), "").unwrap();
        for (name, expected) in [
            ("newer", "version 99"),
            ("elsewhere", "it has a file"),
            ("plain", "is no backup"),
            ("text", "is no backup"),
            ("empty", "is no backup"),
            ("absent", "absent"),
        ] {
            let error = restore(&data, &path(name)).await.unwrap_err().to_string();
            assert!(error.contains(expected), "{name}: {error}");
        }
        let taken = data_folder::take(&data).unwrap();
        let error = restore(&data, &path("good")).await.unwrap_err().to_string();
        assert!(error.contains("another server runs"), "{error}");
        drop(taken);
        assert_eq!(ids(&data).await, ["a"]);
        data_folder::take(&data).unwrap().check_whole().unwrap();
        assert!(matches!(
            write(folder.path(), &path("none")).await,
            Err(Error::NoDatabase(_))
        ));
    }

    #[test]
    fn a_restore_that_broke_off_is_seen_by_the_next_server() {
        let folder = tempfile::tempdir().unwrap();
        let lock = data_folder::take(folder.path()).unwrap();
        let broke = lock.while_not_whole(|| anyhow::bail!("the disk is full"));
        assert!(broke.is_err());
        let refused = lock.check_whole().unwrap_err().to_string();
        assert!(refused.contains("kas-stub restore"), "{refused}");
        lock.while_not_whole(|| Ok(())).unwrap();
        lock.check_whole().unwrap();
    }
}
