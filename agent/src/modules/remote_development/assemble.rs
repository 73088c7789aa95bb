//! Puts the server's messages together: a workspace comes as a description and then its objects, in chunks.

use std::sync::Arc;
use std::time::Duration;

use agent_core::reconcile::{
    Content, DesiredWorkspace, MAX_OBJECT_BYTES, MAX_OBJECTS, MAX_WORKSPACE_BYTES,
};
use proto::remote_development::rpc as wire;
use proto::remote_development::rpc::reconcile_response::Message;

use super::link::{Said, Settings};
use super::pull_secrets::PullSecrets;
use crate::convert;

/// The state between messages. Nothing in it grows beyond the limits of one workspace.
#[derive(Debug, Default)]
pub(super) struct Assembler {
    pending: Option<Pending>,
}

#[derive(Debug)]
struct Pending {
    desired: DesiredWorkspace,
    pull_secrets: PullSecrets,
    expected: usize,
    objects: Vec<(String, Arc<str>)>,
    /// The object whose chunks are coming.
    partial: Vec<u8>,
    bytes: usize,
    received: usize,
    broken: Option<String>,
}

impl Assembler {
    /// Takes a message; gives what is complete with it.
    pub(super) fn take(&mut self, response: wire::ReconcileResponse) -> Vec<Said> {
        match response.message {
            Some(Message::ObjectChunk(chunk)) => self.take_chunk(chunk),
            Some(Message::Settings(settings)) => {
                let interval = |millis| (millis > 0).then(|| Duration::from_millis(millis));
                self.after_pending(Said::Settings(Settings {
                    full_interval: interval(settings.full_interval_ms),
                    partial_interval: interval(settings.partial_interval_ms),
                }))
            }
            Some(Message::PollAnswered(answered)) => {
                self.after_pending(Said::Answered(answered.number))
            }
            Some(Message::Workspace(workspace)) => {
                let mut said: Vec<_> = self.cut_short().into_iter().collect();
                said.extend(self.take_workspace(workspace));
                said
            }
            // A kind of message that this agent does not know.
            None => Vec::new(),
        }
    }

    fn take_workspace(&mut self, workspace: wire::Workspace) -> Option<Said> {
        let (unchanged, expected) = (workspace.unchanged, workspace.object_count);
        let pull_secrets = PullSecrets {
            wanted: convert::reconcile::pull_secrets_from(&workspace),
            ..PullSecrets::default()
        };
        let desired = match convert::reconcile::desired_from(workspace) {
            Ok(desired) => desired,
            Err(reason) => return Some(Said::Nonsense(reason)),
        };
        if unchanged {
            return Some(Said::Wish(desired, Content::Unchanged, pull_secrets));
        }
        let expected = usize::try_from(expected).unwrap_or(usize::MAX);
        let broken = (expected > MAX_OBJECTS)
            .then(|| format!("{expected} objects; a workspace may have at most {MAX_OBJECTS}"));
        let pending = Pending {
            desired,
            pull_secrets,
            expected,
            objects: Vec::new(),
            partial: Vec::new(),
            bytes: 0,
            received: 0,
            broken,
        };
        if expected == 0 {
            return Some(pending.finish());
        }
        self.pending = Some(pending);
        None
    }

    fn take_chunk(&mut self, chunk: wire::ObjectChunk) -> Vec<Said> {
        let Some(pending) = &mut self.pending else {
            return vec![Said::Nonsense(
                "an object that belongs to no workspace".to_owned(),
            )];
        };
        pending.take(chunk);
        if pending.received < pending.expected {
            return Vec::new();
        }
        self.pending
            .take()
            .map(Pending::finish)
            .into_iter()
            .collect()
    }

    fn after_pending(&mut self, said: Said) -> Vec<Said> {
        self.cut_short().into_iter().chain([said]).collect()
    }

    fn cut_short(&mut self) -> Option<Said> {
        let mut pending = self.pending.take()?;
        let Pending {
            received, expected, ..
        } = pending;
        pending
            .broken
            .get_or_insert(format!("{received} of {expected} objects were sent"));
        Some(pending.finish())
    }
}

impl Pending {
    fn take(&mut self, chunk: wire::ObjectChunk) {
        let wire::ObjectChunk { hash, data, last } = chunk;
        if self.broken.is_none() {
            self.bytes += data.len();
            if self.partial.len() + data.len() > MAX_OBJECT_BYTES {
                self.broken = Some(format!("an object is larger than {MAX_OBJECT_BYTES} bytes"));
            } else if self.bytes > MAX_WORKSPACE_BYTES {
                self.broken = Some(format!(
                    "its objects are larger than {MAX_WORKSPACE_BYTES} bytes"
                ));
            } else {
                self.partial.extend_from_slice(&data);
            }
        }
        if !last {
            return;
        }
        self.received += 1;
        let bytes = std::mem::take(&mut self.partial);
        if self.broken.is_some() {
            self.objects.clear();
            return;
        }
        match String::from_utf8(bytes) {
            Ok(text) => self.objects.push((hash, text.into())),
            Err(_) => self.broken = Some("an object is no text".to_owned()),
        }
    }

    fn finish(self) -> Said {
        let content = match self.broken {
            Some(reason) => Content::Broken(reason),
            None => Content::Objects(self.objects),
        };
        Said::Wish(self.desired, content, self.pull_secrets)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workspace(object_count: u32) -> wire::ReconcileResponse {
        message(Message::Workspace(wire::Workspace {
            workspace_id: "5f0c6d0e-0000-4000-8000-000000000001".into(),
            name: "w".into(),
            namespace: "gl-rd-ns-w".into(),
            own_namespace: true,
            generation: 3,
            desired_state: wire::DesiredState::Running.into(),
            object_count,
            unchanged: false,
            image_pull_secrets: Vec::new(),
        }))
    }

    fn message(message: Message) -> wire::ReconcileResponse {
        wire::ReconcileResponse {
            message: Some(message),
        }
    }

    fn chunk(data: &[u8], last: bool) -> wire::ReconcileResponse {
        let data = data.to_vec().into();
        message(Message::ObjectChunk(wire::ObjectChunk {
            hash: "h".into(),
            data,
            last,
        }))
    }

    fn content(mut said: Vec<Said>) -> Content {
        assert_eq!(said.len(), 1, "{said:?}");
        match said.remove(0) {
            Said::Wish(_, content, _) => content,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_object_in_chunks_is_put_together() {
        let mut assembler = Assembler::default();
        assert!(assembler.take(workspace(2)).is_empty());
        assert!(assembler.take(chunk("{\"ä".as_bytes(), false)).is_empty());
        assert!(assembler.take(chunk(b"\":1}", true)).is_empty());
        let expected = vec![
            ("h".to_owned(), "{\"ä\":1}".into()),
            ("h".to_owned(), "{}".into()),
        ];
        assert_eq!(
            content(assembler.take(chunk(b"{}", true))),
            Content::Objects(expected)
        );
    }

    #[test]
    fn what_is_too_large_too_much_or_cut_short_is_broken_and_the_next_is_not() {
        let mut assembler = Assembler::default();
        assert!(assembler.take(workspace(1)).is_empty());
        let half = vec![b' '; MAX_OBJECT_BYTES / 2 + 1];
        assert!(assembler.take(chunk(&half, false)).is_empty());
        assert!(assembler.take(chunk(&half, false)).is_empty());
        assert!(
            matches!(content(assembler.take(chunk(b"", true))), Content::Broken(reason) if reason.contains("larger"))
        );

        assert!(assembler.take(workspace(2)).is_empty());
        assert!(assembler.take(chunk(b"{}", true)).is_empty());
        assert!(
            matches!(content(assembler.take(workspace(1))), Content::Broken(reason) if reason.contains("1 of 2"))
        );
        assert_eq!(
            content(assembler.take(chunk(b"{}", true))),
            Content::Objects(vec![("h".into(), "{}".into())])
        );

        assert!(assembler.take(workspace(201)).is_empty());
        let answered = assembler.take(message(Message::PollAnswered(wire::PollAnswered {
            number: 7,
        })));
        assert!(
            matches!(
                &answered[..],
                [Said::Wish(_, Content::Broken(_), _), Said::Answered(7)]
            ),
            "{answered:?}"
        );
        assert!(matches!(
            &assembler.take(chunk(b"{}", true))[..],
            [Said::Nonsense(_)]
        ));
    }
}
