//! The query of a URL as GitLab's wire carries it: decoded keys, each with its values in order.

use bytes::Bytes;
use proto::prototool::{KeyValues, Values};

/// A browser names its agent and its CSRF token so; both are for the server.
const OURS: [&[u8]; 2] = [b"gitlab-agent-id", b"gitlab-csrf-token"];

pub(super) fn for_agent(query: &str) -> Vec<KeyValues> {
    let mut all: Vec<KeyValues> = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (key, value) = (decode(key), decode(value));
        if OURS.contains(&&*key) {
            continue;
        }
        match all.iter_mut().find(|entry| entry.key == key) {
            Some(entry) => entry.value.get_or_insert_default().value.push(value),
            None => all.push(KeyValues {
                key,
                value: Some(Values { value: vec![value] }),
            }),
        }
    }
    all
}

/// `%41` and `+`; what is no escape stands for itself.
fn decode(text: &str) -> Bytes {
    if !text.contains(['%', '+']) {
        return Bytes::copy_from_slice(text.as_bytes());
    }
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        match (first, tail) {
            (b'+', _) => decoded.push(b' '),
            (b'%', [high, low, after @ ..]) => match (hex(*high), hex(*low)) {
                (Some(high), Some(low)) => {
                    decoded.push(high << 4 | low);
                    rest = after;
                }
                _ => decoded.push(b'%'),
            },
            (other, _) => decoded.push(*other),
        }
    }
    decoded.into()
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|digit| digit as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(query: &str) -> String {
        let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
        let entries: Vec<_> = for_agent(query)
            .iter()
            .map(|entry| {
                let values: Vec<_> = entry
                    .value
                    .as_ref()
                    .unwrap()
                    .value
                    .iter()
                    .map(text)
                    .collect();
                format!("{}={}", text(&entry.key), values.join("|"))
            })
            .collect();
        entries.join(" & ")
    }

    #[test]
    fn values_keep_their_order_and_our_parameters_stay_here() {
        for (query, expected) in [
            ("", ""),
            ("watch", "watch="),
            (
                "command=sh&stdin=true&command=-c",
                "command=sh|-c & stdin=true",
            ),
            ("a=%2Fb+c%20d", "a=/b c d"),
            ("a=100%&b=%zz&c=%4", "a=100% & b=%zz & c=%4"),
            ("gitlab-agent-id=1&gitlab%2Dcsrf-token=x&limit=5", "limit=5"),
        ] {
            assert_eq!(shown(query), expected, "{query}");
        }
    }
}
