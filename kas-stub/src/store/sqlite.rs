//! The store in one SQLite file.

use std::{path::Path, time::Duration};

use futures::future::BoxFuture;
use sqlx::{
    Row as _, SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use tokio::sync::broadcast;

use super::{Change, Error, Kind, Record, Result, Store, Write, backup};

/// Changes that a slow subscriber may be behind before it has to list again.
const CHANGES_KEPT: usize = 256;
/// How long a write waits for a lock, for example of a backup.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Steps from one `user_version` to the next; only ever appended to.
const MIGRATIONS: [&str; 1] = ["
    CREATE TABLE record (
        kind TEXT NOT NULL,
        id TEXT NOT NULL,
        version INTEGER NOT NULL,
        body TEXT NOT NULL,
        PRIMARY KEY (kind, id)
    ) WITHOUT ROWID
"];

#[derive(Debug)]
pub(crate) struct SqliteStore {
    /// One connection: SQLite has one writer anyway, and reads happen at the start only.
    pool: SqlitePool,
    changes: broadcast::Sender<Change>,
}

impl SqliteStore {
    /// Opens the database at `path`; one of an older program is changed to what this one knows, after a backup of it was
    /// written beside it.
    ///
    /// # Errors
    /// When it cannot be opened, or a newer program wrote it.
    pub(crate) async fn open(path: &Path) -> Result<Self> {
        Self::open_with(path, &MIGRATIONS).await
    }

    async fn open_with(path: &Path, migrations: &[&'static str]) -> Result<Self> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            // A revoked token must stay revoked after a power cut; writes are rare enough to wait for the disk.
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(BUSY_TIMEOUT);
        let pool = SqlitePoolOptions::new()
            .max_connections(1)
            .idle_timeout(None)
            .max_lifetime(None)
            .connect_with(options)
            .await
            .map_err(Error::Open)?;
        migrate(&pool, path, migrations).await?;
        Ok(Self {
            pool,
            changes: broadcast::Sender::new(CHANGES_KEPT),
        })
    }
}

/// The version of a database that this program writes.
pub(super) const KNOWN_VERSION: i64 = MIGRATIONS.len() as i64;

/// The database's version; 0: it is empty.
pub(super) async fn version(
    executor: impl sqlx::Executor<'_, Database = sqlx::Sqlite>,
) -> Result<i64, sqlx::Error> {
    sqlx::query("PRAGMA user_version")
        .fetch_one(executor)
        .await
        .and_then(|row| row.try_get(0))
}

async fn migrate(pool: &SqlitePool, path: &Path, migrations: &[&'static str]) -> Result<()> {
    let found = version(pool).await.map_err(Error::Open)?;
    let known = migrations.len() as i64;
    if found > known {
        return Err(Error::TooNew { found, known });
    }
    if found > 0 && found < known {
        let folder = path.parent().unwrap_or(Path::new("."));
        let copy = folder.join(format!("before-version-{known}.backup"));
        tracing::info!(from = found, to = known, backup = %copy.display(), "the database is changed to a newer form");
        // Of an earlier attempt, if there is one: nothing was changed since.
        let _ = std::fs::remove_file(&copy);
        let written = backup::write_of(path, folder, &copy).await;
        written.map_err(|source| Error::BackUp {
            path: copy,
            source: Box::new(source),
        })?;
    }
    for (migration, version) in migrations.iter().zip(1..).skip(found as usize) {
        let mut transaction = pool.begin().await.map_err(Error::Open)?;
        sqlx::raw_sql(*migration)
            .execute(&mut *transaction)
            .await
            .map_err(Error::Open)?;
        let set_version = sqlx::AssertSqlSafe(format!("PRAGMA user_version = {version}"));
        sqlx::raw_sql(set_version)
            .execute(&mut *transaction)
            .await
            .map_err(Error::Open)?;
        transaction.commit().await.map_err(Error::Open)?;
    }
    Ok(())
}

impl Store for SqliteStore {
    fn append(&self, writes: Vec<Write>) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            let mut transaction = self.pool.begin().await.map_err(Error::Append)?;
            for write in &writes {
                let kind = write.kind.as_str();
                let expected = write.expected_version as i64;
                let query = match (&write.body, expected) {
                    (Some(body), 0) => sqlx::query(
                        "INSERT INTO record (kind, id, version, body) VALUES (?1, ?2, ?3 + 1, ?4) \
                         ON CONFLICT DO NOTHING",
                    )
                    .bind(kind)
                    .bind(&write.id)
                    .bind(expected)
                    .bind(body),
                    (Some(body), _) => sqlx::query(
                        "UPDATE record SET version = version + 1, body = ?4 \
                         WHERE kind = ?1 AND id = ?2 AND version = ?3",
                    )
                    .bind(kind)
                    .bind(&write.id)
                    .bind(expected)
                    .bind(body),
                    (None, _) => sqlx::query(
                        "DELETE FROM record WHERE kind = ?1 AND id = ?2 AND version = ?3",
                    )
                    .bind(kind)
                    .bind(&write.id)
                    .bind(expected),
                };
                let done = query
                    .execute(&mut *transaction)
                    .await
                    .map_err(Error::Append)?;
                if done.rows_affected() != 1 {
                    return Err(Error::Conflict {
                        kind,
                        id: write.id.clone(),
                        expected_version: write.expected_version,
                    });
                }
            }
            transaction.commit().await.map_err(Error::Append)?;
            for write in writes {
                // Nobody listening is fine.
                let _ = self.changes.send(Change {
                    kind: write.kind,
                    id: write.id,
                    version: write.expected_version + 1,
                });
            }
            Ok(())
        })
    }

    fn load<'a>(&'a self, kind: Kind, id: &'a str) -> BoxFuture<'a, Result<Option<Record>>> {
        Box::pin(async move {
            sqlx::query("SELECT id, version, body FROM record WHERE kind = ?1 AND id = ?2")
                .bind(kind.as_str())
                .bind(id)
                .fetch_optional(&self.pool)
                .await
                .map_err(Error::Read)?
                .map(|row| record(&row))
                .transpose()
        })
    }

    fn list(&self, kind: Kind) -> BoxFuture<'_, Result<Vec<Record>>> {
        Box::pin(async move {
            let rows =
                sqlx::query("SELECT id, version, body FROM record WHERE kind = ?1 ORDER BY id")
                    .bind(kind.as_str())
                    .fetch_all(&self.pool)
                    .await
                    .map_err(Error::Read)?;
            rows.iter().map(record).collect()
        })
    }

    fn subscribe(&self) -> broadcast::Receiver<Change> {
        self.changes.subscribe()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.pool.close())
    }
}

fn record(row: &sqlx::sqlite::SqliteRow) -> Result<Record> {
    Ok(Record {
        id: row.try_get(0).map_err(Error::Read)?,
        version: row.try_get::<i64, _>(1).map_err(Error::Read)? as u64,
        body: row.try_get(2).map_err(Error::Read)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data_folder::DATABASE;

    fn write(id: &str, expected_version: u64, body: &str) -> Write {
        Write {
            kind: Kind::Agent,
            id: id.into(),
            expected_version,
            body: Some(body.into()),
        }
    }

    async fn store() -> (tempfile::TempDir, SqliteStore) {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(&folder.path().join("db")).await.unwrap();
        (folder, store)
    }

    #[tokio::test]
    async fn what_was_appended_is_there_after_a_restart() {
        let (folder, store) = store().await;
        store.append(vec![write("a", 0, "1")]).await.unwrap();
        store.append(vec![write("a", 1, "2")]).await.unwrap();
        store.close().await;
        let again = SqliteStore::open(&folder.path().join("db")).await.unwrap();
        let record = again.load(Kind::Agent, "a").await.unwrap().unwrap();
        assert_eq!((record.version, record.body.as_str()), (2, "2"));
        assert_eq!(again.list(Kind::Agent).await.unwrap(), [record]);
        assert_eq!(again.list(Kind::User).await.unwrap(), []);
    }

    #[tokio::test]
    async fn a_stale_write_changes_nothing_not_even_its_neighbours() {
        let (_folder, store) = store().await;
        store.append(vec![write("a", 0, "1")]).await.unwrap();
        for stale in [write("a", 0, "x"), write("a", 2, "x")] {
            let refused = store.append(vec![write("b", 0, "1"), stale]).await;
            assert!(
                matches!(refused, Err(Error::Conflict { .. })),
                "{refused:?}"
            );
        }
        assert_eq!(store.load(Kind::Agent, "b").await.unwrap(), None);
        let end = Write {
            body: None,
            ..write("a", 1, "")
        };
        store.append(vec![end]).await.unwrap();
        assert_eq!(store.load(Kind::Agent, "a").await.unwrap(), None);
    }

    #[tokio::test]
    async fn subscribers_see_what_was_written_and_nothing_that_failed() {
        let (_folder, store) = store().await;
        let mut changes = store.subscribe();
        store.append(vec![write("a", 5, "x")]).await.unwrap_err();
        store.append(vec![write("a", 0, "1")]).await.unwrap();
        let change = changes.recv().await.unwrap();
        assert_eq!((change.id.as_str(), change.version), ("a", 1));
        assert!(changes.try_recv().is_err());
    }

    #[tokio::test]
    async fn a_database_of_a_newer_program_is_refused() {
        let (folder, store) = store().await;
        sqlx::raw_sql("PRAGMA user_version = 99")
            .execute(&store.pool)
            .await
            .unwrap();
        store.close().await;
        let opened = SqliteStore::open(&folder.path().join("db")).await;
        let error = opened.unwrap_err();
        assert!(
            matches!(error, Error::TooNew { found: 99, .. })
                && error.to_string().contains("kas-stub restore"),
            "{error}"
        );
    }

    #[tokio::test]
    async fn a_migration_leaves_a_way_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(DATABASE);
        let store = SqliteStore::open(&path).await.unwrap();
        store.append(vec![write("a", 0, "old")]).await.unwrap();
        store.close().await;
        let newer = [MIGRATIONS[0], "UPDATE record SET body = 'new'"];
        let store = SqliteStore::open_with(&path, &newer).await.unwrap();
        let body = async |store: &SqliteStore| {
            let record = store.load(Kind::Agent, "a").await.unwrap();
            record.unwrap().body
        };
        assert_eq!(body(&store).await, "new");
        store.close().await;
        // The older program does not touch it, and gets its own back.
        let refused = SqliteStore::open(&path).await;
        assert!(matches!(refused, Err(Error::TooNew { found: 2, .. })));
        let copy = folder.path().join("before-version-2.backup");
        backup::restore(folder.path(), &copy).await.unwrap();
        let store = SqliteStore::open(&path).await.unwrap();
        assert_eq!(body(&store).await, "old");
    }
}
