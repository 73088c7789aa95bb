//! Whether a uri can be read, by the rules of Go's `net/url`, which both implementations use.

/// Why a uri cannot be read; `Ok` if it can.
pub(crate) fn is_valid(uri: &str) -> Result<(), &'static str> {
    if uri.bytes().any(|byte| byte < 0x20 || byte == 0x7f) {
        return Err("it has a control character");
    }
    let absolute = uri.starts_with("http");
    if absolute && uri.is_empty() {
        return Err("it is empty");
    }
    let (before_fragment, fragment) = match uri.split_once('#') {
        // An address that is asked for has no fragment: `#` is part of its path.
        Some((before, fragment)) if !absolute => (before, fragment),
        _ => (uri, ""),
    };
    escapes(fragment)?;
    let (scheme, rest) = scheme(before_fragment)?;
    let rest = rest.split_once('?').map_or(rest, |(path, _)| path);
    if !rest.starts_with('/') {
        if scheme.is_some() {
            // `mailto:x`: what follows is not looked at.
            return if absolute && !rest.is_empty() {
                Err("it has no // after its scheme")
            } else {
                Ok(())
            };
        }
        if absolute {
            return Err(
                "a uri that starts with http has a scheme and a host, as https://host/path",
            );
        }
        let segment = rest.split('/').next().unwrap_or_default();
        if segment.contains(':') {
            return Err("its first part has a colon");
        }
    }
    let path = match (scheme, rest.strip_prefix("//")) {
        (Some(_), Some(after)) => {
            let end = after.find('/').unwrap_or(after.len());
            host(&after[..end])?;
            &after[end..]
        }
        (None, Some(after)) if !rest.starts_with("///") => {
            let end = after.find('/').unwrap_or(after.len());
            host(&after[..end])?;
            &after[end..]
        }
        _ => rest,
    };
    escapes(path)
}

fn scheme(uri: &str) -> Result<(Option<&str>, &str), &'static str> {
    for (at, byte) in uri.bytes().enumerate() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' => {}
            b'0'..=b'9' | b'+' | b'-' | b'.' if at > 0 => {}
            b':' if at == 0 => return Err("its scheme is missing"),
            b':' => return Ok((Some(&uri[..at]), &uri[at + 1..])),
            _ => break,
        }
    }
    Ok((None, uri))
}

fn host(authority: &str) -> Result<(), &'static str> {
    let host = authority
        .rsplit_once('@')
        .map_or(authority, |(_, host)| host);
    if let Some(rest) = host.strip_prefix('[') {
        let Some((_, port)) = rest.split_once(']') else {
            return Err("its host has a [ without a ]");
        };
        return port_fits(port);
    }
    if host.bytes().any(|byte| {
        matches!(
            byte,
            b' ' | b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}'
        )
    }) {
        return Err("its host has a character that hosts do not have");
    }
    match host.rfind(':') {
        Some(at) => port_fits(&host[at..]),
        None => Ok(()),
    }
}

fn port_fits(port: &str) -> Result<(), &'static str> {
    let digits = port.strip_prefix(':').unwrap_or(port);
    if digits.bytes().all(|byte| byte.is_ascii_digit()) {
        Ok(())
    } else {
        Err("its port is no number")
    }
}

fn escapes(text: &str) -> Result<(), &'static str> {
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at] == b'%' {
            let fits = bytes
                .get(at + 1..at + 3)
                .is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit));
            if !fits {
                return Err("a % in it is not followed by two hexadecimal digits");
            }
            at += 3;
        } else {
            at += 1;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uris_are_judged_as_go_judges_them() {
        for (uri, valid) in [
            ("p.yaml", true),
            ("../a/b.yaml", true),
            ("https://example.org/a.yaml", true),
            ("https://user@example.org:8080/a%20b", true),
            ("http//wronguri", false),
            ("httpfoo/bar.yaml", false),
            ("%zz", false),
            ("a:b", true),
            ("1a:b", false),
            (":a", false),
            ("https://exa mple.org/", false),
            ("https://example.org:port/", false),
            ("a b.yaml", true),
            ("a\u{7}", false),
        ] {
            assert_eq!(is_valid(uri).is_ok(), valid, "{uri}");
        }
    }
}
