//! Bytes both ways, as fast as each side takes them.

use bytes::BytesMut;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use super::broken;
use crate::convert::access::{self, DialFrame, Ended};
use crate::tunnel::call::{CallError, Inbound, Outbound};

/// The largest piece that goes as one message.
const MAX_DATA: usize = 64 * 1024;
/// What is made room for at once: a terminal's bytes do not hold 64 KiB each.
const READ: usize = 16 * 1024;

/// How a direction went.
enum Half {
    Done,
    /// The connection to the workspace broke.
    Broken(std::io::Error),
}

/// Carries the connection until both sides said all, or it breaks. Dropping it closes the connection.
pub(super) async fn carry(
    connection: TcpStream,
    inbound: Inbound,
    mut outbound: Outbound,
) -> Result<(), CallError> {
    let (reader, writer) = connection.into_split();
    let ended = {
        let upwards = upwards(inbound, writer);
        let downwards = downwards(reader, &mut outbound);
        let (mut upwards, mut downwards) = (std::pin::pin!(upwards), std::pin::pin!(downwards));
        // What the workspace said last is told even when it takes nothing any more: only its own side ends with an error.
        tokio::select! {
            half = &mut upwards => match (half?, downwards.await?) {
                (_, Half::Broken(error)) | (Half::Broken(error), Half::Done) => {
                    Ended::Broken(error.to_string())
                }
                (Half::Done, Half::Done) => Ended::Closed,
            },
            half = &mut downwards => match half? {
                Half::Broken(error) => Ended::Broken(error.to_string()),
                Half::Done => match upwards.await? {
                    Half::Broken(error) => Ended::Broken(error.to_string()),
                    Half::Done => Ended::Closed,
                },
            },
        }
    };
    outbound.message(access::end(ended)).await?;
    Ok(())
}

/// To the workspace.
async fn upwards(mut inbound: Inbound, mut writer: OwnedWriteHalf) -> Result<Half, CallError> {
    while let Some(message) = inbound.message().await {
        let data = match access::dial_frame(message).map_err(broken)? {
            DialFrame::Data(data) => data,
            DialFrame::Target(_) => return Err(broken("a second target")),
        };
        if let Err(error) = writer.write_all(&data).await {
            return Ok(Half::Broken(error));
        }
    }
    match writer.shutdown().await {
        Ok(()) => Ok(Half::Done),
        Err(error) => Ok(Half::Broken(error)),
    }
}

/// From the workspace.
async fn downwards(mut reader: OwnedReadHalf, outbound: &mut Outbound) -> Result<Half, CallError> {
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(READ);
        let mut bounded = (&mut reader).take(MAX_DATA as u64);
        match bounded.read_buf(&mut buffer).await {
            Ok(0) => {
                outbound.message(access::closed()).await?;
                return Ok(Half::Done);
            }
            Ok(_) => {
                let data = buffer.split().freeze();
                outbound.message(access::data(data)).await?;
            }
            Err(error) => return Ok(Half::Broken(error)),
        }
    }
}
