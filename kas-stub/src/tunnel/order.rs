//! The legal order of what an agent sends after its descriptor.

use proto::reverse_tunnel::rpc::connect_request::Msg;

/// What may come next: `error`, or `header message* trailer error?`, then the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// The header, or an error instead of everything.
    Header,
    Messages,
    /// Only an error, or the end.
    AfterTrailer,
    /// Only the end.
    End,
}

/// A frame where it must not be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("agent sent {frame} out of order")]
pub(super) struct OutOfOrder {
    pub(super) frame: &'static str,
}

impl Order {
    pub(super) fn next(self, frame: &Msg) -> Result<Self, OutOfOrder> {
        match (self, frame) {
            (Self::Header, Msg::Header(_)) | (Self::Messages, Msg::Message(_)) => {
                Ok(Self::Messages)
            }
            (Self::Messages, Msg::Trailer(_)) => Ok(Self::AfterTrailer),
            // An inner call that fails between messages ends without a trailer in some implementations.
            (Self::Header | Self::Messages | Self::AfterTrailer, Msg::Error(_)) => Ok(Self::End),
            _ => Err(OutOfOrder {
                frame: frame_name(frame),
            }),
        }
    }

    /// Whether the stream may end here.
    pub(super) fn may_end(self) -> bool {
        matches!(self, Self::AfterTrailer | Self::End)
    }
}

fn frame_name(frame: &Msg) -> &'static str {
    match frame {
        Msg::Descriptor(_) => "descriptor",
        Msg::Header(_) => "header",
        Msg::Message(_) => "message",
        Msg::Trailer(_) => "trailer",
        Msg::Error(_) => "error",
    }
}

#[cfg(test)]
mod tests {
    use proto::reverse_tunnel::rpc::{Descriptor, Error, Header, Message, Trailer};

    use super::*;

    /// Runs frames by their first letters; the answer is the place of the first illegal one.
    fn run(frames: &str) -> Result<bool, usize> {
        let mut order = Order::Header;
        for (place, letter) in frames.chars().enumerate() {
            let frame = match letter {
                'd' => Msg::Descriptor(Descriptor::default()),
                'h' => Msg::Header(Header::default()),
                'm' => Msg::Message(Message::default()),
                't' => Msg::Trailer(Trailer::default()),
                _ => Msg::Error(Error::default()),
            };
            order = order.next(&frame).map_err(|_| place)?;
        }
        Ok(order.may_end())
    }

    #[test]
    fn only_the_documented_orders_are_legal() {
        for complete in ["e", "ht", "hmmt", "hte", "hmte", "hme"] {
            assert_eq!(run(complete), Ok(true), "{complete}");
        }
        for unfinished in ["", "h", "hm"] {
            assert_eq!(run(unfinished), Ok(false), "{unfinished}");
        }
        for (illegal, place) in [
            ("d", 0),
            ("m", 0),
            ("t", 0),
            ("hh", 1),
            ("hmd", 2),
            ("htm", 2),
            ("htt", 2),
            ("ee", 1),
            ("htee", 3),
        ] {
            assert_eq!(run(illegal), Err(place), "{illegal}");
        }
    }
}
