//! Makes the requests of GitLab's agent legal.
//!
//! Over a WebSocket, GitLab's agent gives gRPC its whole address as the target, and grpc-go sends that as `:authority`
//! (`ws:%2F%2Fkas.example.com%2F`, before version 1.58 `ws://…`). Go's server takes it; Rust's HTTP/2 (crate h2) resets each such
//! stream with PROTOCOL_ERROR, before any code of ours sees the request. Nothing needs the authority, so it is renamed while it
//! passes: in HPACK that is one byte, the number of the name in the static table. `set-cookie` has as many letters as
//! `:authority`, and so the dynamic tables of both sides keep the same sizes, and later references lead to the renamed entry.
//!
//! What is not as described passes unchanged.

use bytes::{Bytes, BytesMut};

/// What a client sends first.
const PREFACE: usize = 24;
/// Length (3 bytes), type, flags, stream (4 bytes).
const FRAME_HEAD: usize = 9;
const HEADERS: u8 = 0x1;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;
/// Longer frames than any server allows are not waited for: they pass, and the server refuses them.
const MAX_HEADERS_FRAME: usize = 64 * 1024;

/// Numbers in HPACK's static table.
const AUTHORITY: usize = 1;
const SET_COOKIE: u8 = 55;
/// The form of HPACK that GitLab's agent uses for it: a literal that enters the dynamic table.
const INDEXED_LITERAL: u8 = 0x40;

/// How the value begins that no authority may have.
const URLS: [&[u8]; 4] = [b"ws:%", b"wss:%", b"ws:/", b"wss:/"];

/// Looks at the bytes that a client sends, in pieces of any size.
#[derive(Debug)]
pub(crate) struct Mender {
    /// Bytes that belong to what was looked at already.
    passing: usize,
    /// The beginning of a frame that has not come whole; at most a head and [`MAX_HEADERS_FRAME`].
    held: BytesMut,
}

impl Default for Mender {
    fn default() -> Self {
        Self {
            passing: PREFACE,
            held: BytesMut::new(),
        }
    }
}

/// What is at the beginning of some bytes.
enum Beginning {
    /// A frame that passes, of this length with its head.
    Passes(usize),
    /// A whole frame with headers, of this length.
    Headers(usize),
    /// More bytes are needed to tell, or to have the frame whole.
    Unknown,
}

fn beginning(bytes: &[u8]) -> Beginning {
    let Some(head) = bytes.first_chunk::<FRAME_HEAD>() else {
        return Beginning::Unknown;
    };
    let content = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
    let length = FRAME_HEAD + content;
    if head[3] != HEADERS || content > MAX_HEADERS_FRAME {
        Beginning::Passes(length)
    } else if bytes.len() >= length {
        Beginning::Headers(length)
    } else {
        Beginning::Unknown
    }
}

impl Mender {
    /// The same bytes with what had to be changed; fewer while a frame has not come whole.
    pub(crate) fn mend(&mut self, mut piece: Bytes) -> Bytes {
        if !self.held.is_empty() {
            self.held.extend_from_slice(&piece);
            piece = std::mem::take(&mut self.held).freeze();
        }
        let mut looked = 0;
        let mut changes = Vec::new();
        loop {
            let skipped = self.passing.min(piece.len() - looked);
            self.passing -= skipped;
            looked += skipped;
            if looked == piece.len() {
                break;
            }
            match beginning(&piece[looked..]) {
                Beginning::Passes(length) => self.passing = length,
                Beginning::Headers(length) => {
                    let frame = &piece[looked..looked + length];
                    changes.extend(url_as_authority(frame).map(|place| looked + place));
                    self.passing = length;
                }
                Beginning::Unknown => {
                    self.held.extend_from_slice(&piece.split_off(looked));
                    break;
                }
            }
        }
        if changes.is_empty() {
            return piece;
        }
        // Once for a connection or so.
        let mut changed = BytesMut::from(&piece[..]);
        for place in changes {
            changed[place] = INDEXED_LITERAL | SET_COOKIE;
        }
        changed.freeze()
    }
}

/// Where in a frame with headers an authority begins that is a URL.
fn url_as_authority(frame: &[u8]) -> Option<usize> {
    let flags = frame[4];
    let start = FRAME_HEAD
        + if flags & PADDED != 0 { 1 } else { 0 }
        + if flags & PRIORITY != 0 { 5 } else { 0 };
    let mut fields = Fields(frame.get(start..)?);
    loop {
        let place = frame.len() - fields.0.len();
        let field = fields.next()?;
        if let Field::IndexedLiteral { name, value } = field
            && name == AUTHORITY
        {
            return value.is_url().then_some(place);
        }
    }
}

/// HPACK's fields (RFC 7541, section 6), as far as their borders have to be known.
struct Fields<'a>(&'a [u8]);

enum Field<'a> {
    IndexedLiteral { name: usize, value: Text<'a> },
    Other,
}

/// A string as it travels.
struct Text<'a> {
    huffman: bool,
    bytes: &'a [u8],
}

impl<'a> Fields<'a> {
    /// `None` at the end of the frame, or where it is no HPACK.
    fn next(&mut self) -> Option<Field<'a>> {
        let first = *self.0.first()?;
        match first {
            // A whole entry, or a size of the dynamic table.
            0x80.. => {
                self.number(7)?;
                Some(Field::Other)
            }
            0x20..0x40 => {
                self.number(5)?;
                Some(Field::Other)
            }
            INDEXED_LITERAL..0x80 => {
                let name = self.name(6)?;
                let value = self.text()?;
                Some(Field::IndexedLiteral { name, value })
            }
            _ => {
                self.name(4)?;
                self.text()?;
                Some(Field::Other)
            }
        }
    }

    /// The number of a name; 0 for one that is spelled, which is skipped.
    fn name(&mut self, bits: u32) -> Option<usize> {
        let number = self.number(bits)?;
        if number == 0 {
            self.text()?;
        }
        Some(number)
    }

    fn text(&mut self) -> Option<Text<'a>> {
        let huffman = self.0.first()? & 0x80 != 0;
        let length = self.number(7)?;
        let bytes;
        (bytes, self.0) = self.0.split_at_checked(length)?;
        Some(Text { huffman, bytes })
    }

    /// Section 5.1. None of the numbers here needs more than three further bytes.
    fn number(&mut self, bits: u32) -> Option<usize> {
        let most = (1_usize << bits) - 1;
        let mut number = usize::from(self.byte()?) & most;
        if number < most {
            return Some(number);
        }
        for shift in [0, 7, 14] {
            let byte = usize::from(self.byte()?);
            number += (byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }
}

impl Text<'_> {
    fn is_url(&self) -> bool {
        URLS.iter().any(|url| {
            if self.huffman {
                self.begins_with_bits(url)
            } else {
                self.bytes.starts_with(url)
            }
        })
    }

    fn begins_with_bits(&self, text: &[u8]) -> bool {
        let (mut code, mut length) = (0_u64, 0);
        for character in text {
            let (bits, count) = huffman(*character);
            code = code << count | bits;
            length += count;
        }
        let mut first = [0; 8];
        let count = self.bytes.len().min(first.len());
        first[..count].copy_from_slice(&self.bytes[..count]);
        count * 8 >= length && u64::from_be_bytes(first) >> (64 - length) == code
    }
}

/// HPACK's code (RFC 7541, appendix B) of the characters in [`URLS`], and its length.
fn huffman(character: u8) -> (u64, usize) {
    match character {
        b'w' => (0x78, 7),
        b's' => (0x8, 5),
        b':' => (0x5c, 7),
        b'%' => (0x15, 6),
        b'/' => (0x18, 6),
        // The longest code: it begins no text.
        _ => (0x3fff_ffff, 30),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// How grpc-go writes `ws:%2F`.
    const HUFFMAN: [u8; 4] = [0xf0, 0x8b, 0x8a, 0x8b];

    fn text(huffman: bool, bytes: &[u8]) -> Vec<u8> {
        let mut text = vec![bytes.len() as u8 | if huffman { 0x80 } else { 0 }];
        text.extend_from_slice(bytes);
        text
    }

    /// What a client sends: preface, settings, a request with this `:authority`, data.
    fn stream(authority: &[u8]) -> (Vec<u8>, usize) {
        // :method POST, :scheme http, :path (of the dynamic table), a size, a literal with a spelled name.
        let mut block = vec![0x83, 0x86, 0xc0, 0x3f, 0xe1, 0x1f, 0x40, 1, b'a', 1, b'A'];
        let place = block.len();
        block.push(0x41);
        block.extend_from_slice(authority);
        block.extend_from_slice(&[0x0f, 0x10, 1, b'v']);
        let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        bytes.extend_from_slice(&[0, 0, 0, 4, 0, 0, 0, 0, 0]);
        bytes.extend_from_slice(&[0, 0, block.len() as u8, 1, 4, 0, 0, 0, 1]);
        let place = bytes.len() + place;
        bytes.extend_from_slice(&block);
        // Data that looks like a request.
        bytes.extend_from_slice(&[0, 0, 4, 0, 1, 0, 0, 0, 1, 0x41, 4, b'w', b's']);
        (bytes, place)
    }

    fn mended(bytes: &[u8], piece: usize) -> Vec<u8> {
        let mut mender = Mender::default();
        bytes
            .chunks(piece)
            .flat_map(|piece| mender.mend(Bytes::copy_from_slice(piece)))
            .collect()
    }

    #[test]
    fn a_url_as_authority_gets_another_name_however_the_bytes_are_cut() {
        for authority in [
            text(true, &HUFFMAN),
            text(false, b"ws:%2F%2Fkas%2F"),
            text(
                false,
                b"wss:%2F%2Fkas.example.com%2F-%2Fkubernetes-agent%2F",
            ),
            text(false, b"wss://kas.example.com/"),
        ] {
            let (sent, place) = stream(&authority);
            let mut expected = sent.clone();
            expected[place] = 0x77;
            for piece in 1..=sent.len() {
                assert_eq!(mended(&sent, piece), expected, "in pieces of {piece}");
            }
        }
    }

    #[test]
    fn everything_else_passes_unchanged() {
        for authority in [
            text(false, b"kas.example.com"),
            text(false, b"ws:8150"),
            text(false, b""),
            // `ws:3`, whose code begins like that of `ws:/`.
            text(true, &[0xf0, 0x8b, 0x8c, 0xff]),
            text(true, &[0xf0, 0x8b]),
            // Longer than the frame.
            vec![0x7f, 0xff, 0xff, 0x7f],
        ] {
            let (sent, _) = stream(&authority);
            for piece in [1, 7, sent.len()] {
                assert_eq!(mended(&sent, piece), sent, "{authority:?}");
            }
        }
        // A frame that no server would take is not waited for.
        let mut long = stream(b"\0").0;
        long.extend_from_slice(&[1, 0, 1, 1, 4, 0, 0, 0, 3, 0x83]);
        assert_eq!(mended(&long, 5), long);
    }

    proptest! {
        /// Whoever sends it, and however it is cut: only that one byte changes, the cuts change nothing, and no more is held
        /// than a frame.
        #[test]
        fn any_bytes_pass(frames in prop::collection::vec((0..3_u8, any::<u8>(), prop::collection::vec(any::<u8>(), 0..40)), 0..8),
                          rest in prop::collection::vec(any::<u8>(), 0..12),
                          piece in 1..50_usize) {
            let mut sent = vec![b'p'; PREFACE];
            for (kind, flags, content) in frames {
                sent.extend_from_slice(&[0, 0, content.len() as u8, kind, flags, 0, 0, 0, 1]);
                sent.extend_from_slice(&content);
            }
            sent.extend_from_slice(&rest);
            let got = mended(&sent, piece);
            prop_assert!(sent.len() - got.len() <= FRAME_HEAD + MAX_HEADERS_FRAME);
            prop_assert_eq!(&got, &mended(&sent, sent.len()));
            for (before, after) in sent.iter().zip(&got) {
                prop_assert!(before == after || (*before, *after) == (0x41, 0x77));
            }
        }
    }
}
