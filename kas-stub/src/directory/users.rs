//! Making users and changing what they may.

use std::sync::Arc;

use jiff::Timestamp;

use super::{
    Directory, Error, Result,
    password::PasswordHash,
    records::{self, UserRecord},
    session::Session,
    user::{Identity, User, UserName, UserState},
};
use crate::{authorization::Role, secret::random_id, store::Kind};

pub(super) const MAX_USERS: usize = 10_000;

/// Somebody to be.
#[derive(Clone, Debug)]
pub(crate) struct NewUser {
    pub(crate) name: UserName,
    pub(crate) role: Role,
    pub(crate) password: Option<PasswordHash>,
    pub(crate) identity: Option<Identity>,
}

/// What becomes of a user's sessions when the user changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sessions {
    Stay,
    End,
}

impl Directory {
    /// All, by name.
    pub(crate) fn users(&self) -> Vec<Arc<User>> {
        let mut users: Vec<_> = self.read().users.values().cloned().collect();
        users.sort_by(|a, b| a.name.cmp(&b.name));
        users
    }

    pub(crate) fn user(&self, id: u64) -> Option<Arc<User>> {
        self.read().users.get(&id).cloned()
    }

    pub(crate) fn user_by_name(&self, name: &str) -> Result<Arc<User>> {
        let unknown = || Error::NoSuchUser(name.chars().take(80).collect());
        let name: UserName = name.parse().map_err(|_| unknown())?;
        let index = self.read();
        let id = index.users_by_name.get(&name);
        let user = id.and_then(|id| index.users.get(id));
        user.cloned().ok_or_else(unknown)
    }

    pub(crate) fn user_by_identity(&self, identity: &Identity) -> Option<Arc<User>> {
        let index = self.read();
        let id = index.users_by_identity.get(identity)?;
        index.users.get(id).cloned()
    }

    pub(crate) async fn create_user(&self, new: NewUser) -> Result<Arc<User>> {
        let _writing = self.writing.lock().await;
        let NewUser {
            name,
            role,
            password,
            identity,
        } = new;
        {
            let index = self.read();
            if index.users_by_name.contains_key(&name) {
                return Err(Error::UserExists(name.to_string()));
            }
            if index.users.len() >= MAX_USERS {
                return Err(Error::TooManyUsers);
            }
        }
        if let Some(identity) = &identity {
            self.check_identity(identity)?;
        }
        let user = User {
            id: random_id(),
            name,
            role,
            state: UserState::Active,
            local: false,
            password,
            identities: identity.into_iter().collect(),
            created_at: Some(Timestamp::now()),
            version: 1,
        };
        let record = UserRecord::from(&user);
        let write = records::write(Kind::User, user.id.to_string(), 0, &record);
        self.append(vec![write]).await?;
        let user = Arc::new(user);
        self.write().set_user(Arc::clone(&user));
        Ok(user)
    }

    /// Ends what they have open and lets nothing new begin, until they are reactivated. Their tokens stay, without effect.
    pub(crate) async fn suspend_user(&self, name: &str) -> Result<Arc<User>> {
        self.change_user(name, Sessions::End, |user| {
            not_local(user)?;
            user.state = UserState::Suspended;
            Ok(())
        })
        .await
    }

    pub(crate) async fn reactivate_user(&self, name: &str) -> Result<Arc<User>> {
        self.change_user(name, Sessions::Stay, |user| {
            user.state = UserState::Active;
            Ok(())
        })
        .await
    }

    /// Changes what a user is. They sign in anew, and what they have open ends.
    pub(crate) async fn set_role(&self, name: &str, role: Role) -> Result<Arc<User>> {
        self.change_user(name, Sessions::End, |user| {
            not_local(user)?;
            user.role = role;
            Ok(())
        })
        .await
    }

    /// Sets a password, or takes it away. Sessions end, since whoever has one may be who the password was changed for.
    pub(crate) async fn set_password(
        &self,
        name: &str,
        password: Option<PasswordHash>,
    ) -> Result<Arc<User>> {
        self.change_user(name, Sessions::End, |user| {
            user.password = password;
            Ok(())
        })
        .await
    }

    /// Lets a user sign in as somebody at a provider too.
    pub(crate) async fn link_identity(&self, name: &str, identity: Identity) -> Result<Arc<User>> {
        self.change_user(name, Sessions::Stay, |user| {
            if !user.identities.contains(&identity) {
                self.check_identity(&identity)?;
                // One at each provider: the newest counts.
                user.identities.retain(|it| it.issuer != identity.issuer);
                user.identities.push(identity);
            }
            Ok(())
        })
        .await
    }

    fn check_identity(&self, identity: &Identity) -> Result<()> {
        match self.user_by_identity(identity) {
            Some(other) => Err(Error::IdentityTaken(other.name.to_string())),
            None => Ok(()),
        }
    }

    async fn change_user(
        &self,
        name: &str,
        sessions: Sessions,
        change: impl FnOnce(&mut User) -> Result<()> + Send,
    ) -> Result<Arc<User>> {
        let _writing = self.writing.lock().await;
        let user = self.user_by_name(name)?;
        let mut changed = User::clone(&user);
        change(&mut changed)?;
        changed.version = user.version + 1;
        let record = UserRecord::from(&changed);
        let id = user.id.to_string();
        let mut writes = vec![records::write(Kind::User, id, user.version, &record)];
        let over: Vec<Arc<Session>> = match sessions {
            Sessions::Stay => Vec::new(),
            Sessions::End => self.sessions_of(user.id),
        };
        writes.extend(over.iter().map(|session| session.end()));
        self.append(writes).await?;
        let changed = Arc::new(changed);
        let mut index = self.write();
        for identity in &user.identities {
            index.users_by_identity.remove(identity);
        }
        index.set_user(Arc::clone(&changed));
        if sessions == Sessions::End {
            for session in &over {
                index.sessions.remove(&session.digest());
                session.ended().cancel();
            }
            self.cut_user(&mut index, user.id);
        }
        Ok(changed)
    }
}

fn not_local(user: &User) -> Result<()> {
    if user.local {
        return Err(Error::LocalAdministrator);
    }
    Ok(())
}
