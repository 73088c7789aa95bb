//! What names, zones, ranges and amounts look like: Kubernetes' rules, each with what would be right.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::quantity::{self, Quantity};

/// The longest zone in characters: a host below it, `<port>-<workspace>.<zone>`, has at most 253.
const MAX_ZONE: usize = 253 - "65535-".len() - crate::workspace::MAX_WORKSPACE_NAME_BYTES - 1;
/// The longest DNS name in characters.
const MAX_SUBDOMAIN: usize = 253;
/// The longest label of a DNS name, name part of a key, and label's value.
const MAX_LABEL: usize = 63;

/// Domains whose keys have a meaning to Kubernetes, GitLab, or an operator.
const RESERVED: [&str; 4] = ["devfile.io", "gitlab.com", "k8s.io", "kubernetes.io"];

pub(super) const DNS_LABEL: &str =
    "at most 63 lowercase letters, digits and '-', the first and last no '-'";
pub(super) const DNS_NAME: &str = "at most 253 lowercase letters, digits, '-' and '.', each part beginning and ending with a letter or digit";
pub(super) const ZONE: &str =
    "a DNS name of at most 206 characters, such as workspaces.example.com";
pub(super) const RANGE: &str = "a range in CIDR form, such as 10.0.0.0/8 or fd00::/8";
pub(super) const KEY: &str = "a name of at most 63 letters, digits, '-', '_' and '.', with a DNS name and a '/' before it perhaps";
pub(super) const LABEL_VALUE: &str =
    "at most 63 letters, digits, '-', '_' and '.', the first and last a letter or digit";

/// A label of a DNS name (RFC 1123), in lowercase.
pub(super) fn is_dns_label(text: &str) -> bool {
    (1..=MAX_LABEL).contains(&text.len())
        && text
            .bytes()
            .all(|it| it.is_ascii_lowercase() || it.is_ascii_digit() || it == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// Such labels with dots between: the name of most objects. Only the whole is limited, as Kubernetes does it.
pub(super) fn is_dns_name(text: &str) -> bool {
    let is_part = |part: &str| {
        !part.is_empty()
            && part
                .bytes()
                .all(|it| it.is_ascii_lowercase() || it.is_ascii_digit() || it == b'-')
            && !part.starts_with('-')
            && !part.ends_with('-')
    };
    text.len() <= MAX_SUBDOMAIN && text.split('.').all(is_part)
}

/// A zone below which hosts can be made; capitals are lowered, a dot at the end is dropped.
pub(super) fn zone(text: &str) -> Option<String> {
    let zone = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    (zone.len() <= MAX_ZONE && zone.split('.').all(is_dns_label)).then_some(zone)
}

/// A range, its address cut to the range's first.
pub(super) fn range(text: &str) -> Option<IpNet> {
    // `010.0.0.0` is one address to some and another to others.
    text.split_once('/')?.0.parse::<IpAddr>().ok()?;
    text.parse::<IpNet>().ok().map(|range| range.trunc())
}

/// What is right instead of a text that is no range, where that can be said.
pub(super) fn range_expected(text: &str) -> String {
    match text.parse::<IpAddr>() {
        Ok(address) => format!("{RANGE}; one address is {}", IpNet::from(address)),
        Err(_) => RANGE.into(),
    }
}

/// A key of a label or annotation.
pub(super) fn is_key(text: &str) -> bool {
    let (prefix, name) = match text.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, text),
    };
    prefix.is_none_or(is_dns_name) && !name.is_empty() && is_label_value(name)
}

/// The domain that a key may not be of.
pub(super) fn reserved(key: &str) -> Option<&'static str> {
    let (prefix, _) = key.split_once('/')?;
    let ends = |domain: &&str| {
        prefix
            .strip_suffix(*domain)
            .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    };
    RESERVED.into_iter().find(ends)
}

/// A label's value; it may be empty.
pub(super) fn is_label_value(text: &str) -> bool {
    let ends = |byte: Option<&u8>| byte.is_none_or(u8::is_ascii_alphanumeric);
    text.len() <= MAX_LABEL
        && text
            .bytes()
            .all(|it| it.is_ascii_alphanumeric() || matches!(it, b'-' | b'_' | b'.'))
        && ends(text.as_bytes().first())
        && ends(text.as_bytes().last())
}

/// An amount above zero.
pub(super) fn amount(text: &str) -> Option<Quantity> {
    Quantity::parse(text)
        .ok()
        .filter(|it| !it.is_zero() && !it.is_negative())
}

/// What is right instead of a text that is no amount.
pub(super) fn amount_expected(text: &str, example: &str) -> String {
    match quantity::repair(text) {
        Some(repaired) => format!("a quantity; perhaps {repaired}"),
        None => format!("a quantity above zero, such as {example}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_kubernetes_rules() {
        let long = "a".repeat(64);
        for (text, label, name) in [
            ("a", true, true),
            ("0-a", true, true),
            ("a.b", false, true),
            (long.as_str(), false, true),
            ("", false, false),
            ("-a", false, false),
            ("a-", false, false),
            ("A", false, false),
            ("a..b", false, false),
            ("a.-b", false, false),
        ] {
            assert_eq!(
                (is_dns_label(text), is_dns_name(text)),
                (label, name),
                "{text}"
            );
        }
        let too_long = format!("{}aa", "a.".repeat(126));
        assert!(!is_dns_name(&too_long) && is_dns_name(&too_long[1..].replacen('.', "a", 1)));
    }

    #[test]
    fn zones_leave_room_for_a_host() {
        let longest = format!(
            "{}.{}.{}.{}",
            "a".repeat(63),
            "b".repeat(63),
            "c".repeat(63),
            "d".repeat(14)
        );
        assert_eq!(longest.len(), MAX_ZONE);
        assert_eq!(MAX_ZONE, 206, "as the text says");
        for (text, expected) in [
            ("Example.COM.", Some("example.com")),
            ("localhost", Some("localhost")),
            (longest.as_str(), Some(longest.as_str())),
            ("example-.com", None),
            ("a b", None),
            ("", None),
            ("https://example.com", None),
        ] {
            assert_eq!(zone(text).as_deref(), expected, "{text}");
        }
        assert_eq!(zone(&format!("{longest}d")), None);
    }

    #[test]
    fn keys_of_others_are_reserved() {
        for (key, valid, domain) in [
            ("team", true, None),
            ("example.com/team_1", true, None),
            ("agent.gitlab.com/id", true, Some("gitlab.com")),
            ("gitlab.com/id", true, Some("gitlab.com")),
            ("app.kubernetes.io/name", true, Some("kubernetes.io")),
            ("config.k8s.io/x", true, Some("k8s.io")),
            ("controller.devfile.io/x", true, Some("devfile.io")),
            ("notgitlab.com/id", true, None),
            ("a/b/c", false, None),
            ("/b", false, None),
            ("a/", false, None),
            ("a b", false, None),
            ("Up.per/x", false, None),
            ("-a", false, None),
        ] {
            assert_eq!(
                (is_key(key), valid.then(|| reserved(key)).flatten()),
                (valid, domain),
                "{key}"
            );
        }
    }

    #[test]
    fn ranges_and_amounts_say_what_would_be_right() {
        assert_eq!(range("10.1.2.3/8").unwrap().to_string(), "10.0.0.0/8");
        assert_eq!(range("2001:db8::/32").unwrap().to_string(), "2001:db8::/32");
        for wrong in ["10.0.0.0", "10.0.0.0/33", "010.0.0.0/8", "example.com", ""] {
            assert_eq!(range(wrong), None, "{wrong}");
        }
        assert!(range_expected("10.0.0.1").ends_with("one address is 10.0.0.1/32"));
        assert!(amount("500m").is_some());
        for wrong in ["0", "-1", "much"] {
            assert!(amount(wrong).is_none(), "{wrong}");
        }
        assert_eq!(amount_expected("1GB", "1Gi"), "a quantity; perhaps 1G");
        assert_eq!(
            amount_expected("0", "1Gi"),
            "a quantity above zero, such as 1Gi"
        );
    }
}
