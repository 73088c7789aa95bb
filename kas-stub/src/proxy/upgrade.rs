//! After a 101: bytes both ways, unread.

use std::time::Duration;

use bytes::BytesMut;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::wire::{self, Exchange, Part};
use crate::{directory::Cut, tunnel::CallSender};

/// How long the caller's connection may take to be handed over.
const HANDOVER_TIMEOUT: Duration = Duration::from_secs(20);
/// The caller closed its sending half: how long the other may be silent before the call is given up. Its protocols
/// (SPDY, WebSocket) end inside themselves, so a closed connection is nearly always a caller that is gone.
const SILENCE_AFTER_CLOSE: Duration = Duration::from_secs(30);
/// What is read of the caller at once.
const READ_BUFFER: usize = 32 * 1024;

/// Passes bytes until the agent's side ends, the caller is gone, or the caller's token ends. Dropping the exchange
/// early cancels the call in the agent.
pub(super) async fn pass(on_upgrade: OnUpgrade, exchange: Exchange, sender: CallSender, cut: Cut) {
    let Ok(Ok(upgraded)) = tokio::time::timeout(HANDOVER_TIMEOUT, on_upgrade).await else {
        return;
    };
    let (reader, writer) = tokio::io::split(TokioIo::new(upgraded));
    let closed = Cut::new();
    let from_agent = from_agent(exchange, writer, &closed);
    let from_caller = async {
        if from_caller(reader, sender).await.is_err() {
            return;
        }
        closed.cancel();
        // The other direction decides when it is over.
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = cut.cancelled() => {}
        () = from_agent => {}
        () = from_caller => {}
    }
}

/// An error means that the caller or the call is gone.
async fn from_caller(
    mut reader: impl tokio::io::AsyncRead + Unpin,
    sender: CallSender,
) -> Result<(), ()> {
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(READ_BUFFER);
        let mut bounded = (&mut reader).take(READ_BUFFER as u64);
        if bounded.read_buf(&mut buffer).await.map_err(|_| ())? == 0 {
            return sender.close().await.map_err(|_| ());
        }
        let data = buffer.split().freeze();
        let sent = sender.send(wire::upgrade_data(data)).await;
        sent.map_err(|_| ())?;
    }
}

async fn from_agent(
    mut exchange: Exchange,
    mut writer: impl tokio::io::AsyncWrite + Unpin,
    closed: &Cut,
) {
    loop {
        let silence = async {
            closed.cancelled().await;
            tokio::time::sleep(SILENCE_AFTER_CLOSE).await;
        };
        // A part that is ready is taken whole; waiting for one loses nothing when dropped.
        let part = tokio::select! {
            part = exchange.part() => part,
            () = silence => return,
        };
        match part {
            Ok(Part::Trailer) => {}
            Ok(Part::UpgradeData(data)) => {
                if writer.write_all(&data).await.is_err() || writer.flush().await.is_err() {
                    return;
                }
            }
            Ok(Part::End) => {
                exchange.finish();
                let _ = writer.shutdown().await;
                return;
            }
            Ok(Part::Data(_)) | Err(_) => return,
        }
    }
}
