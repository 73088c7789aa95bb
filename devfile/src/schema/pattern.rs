//! The four patterns of the schemas. Each is a function, so that its hint can say what it wants.

use serde::Deserialize;

/// A pattern that a text must match.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(super) enum Pattern {
    /// A name or id.
    #[serde(rename = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")]
    Name,
    /// `metadata.version`.
    #[serde(
        rename = "^([0-9]+)\\.([0-9]+)\\.([0-9]+)(\\-[0-9a-z-]+(\\.[0-9a-z-]+)*)?(\\+[0-9A-Za-z-]+(\\.[0-9A-Za-z-]+)*)?$"
    )]
    Version,
    /// `schemaVersion`.
    #[serde(
        rename = "^([2-9])\\.([0-9]+)\\.([0-9]+)(\\-[0-9a-z-]+(\\.[0-9a-z-]+)*)?(\\+[0-9A-Za-z-]+(\\.[0-9A-Za-z-]+)*)?$"
    )]
    SchemaVersion,
    /// A parent's `version`: `latest…` or `…1.2.3`, because the published pattern does not group its alternatives.
    #[serde(
        rename = "^(latest)|(([1-9])\\.([0-9]+)\\.([0-9]+)(\\-[0-9a-z-]+(\\.[0-9a-z-]+)*)?(\\+[0-9A-Za-z-]+(\\.[0-9A-Za-z-]+)*)?)$"
    )]
    ImportVersion,
}

impl Pattern {
    pub(super) fn matches(self, text: &str) -> bool {
        match self {
            Self::Name => is_name(text),
            Self::Version => is_version(text, |major| {
                !major.is_empty() && major.bytes().all(|byte| byte.is_ascii_digit())
            }),
            Self::SchemaVersion => {
                is_version(text, |major| matches!(major.as_bytes(), [b'2'..=b'9']))
            }
            Self::ImportVersion => {
                text.starts_with("latest")
                    || (0..text.len()).any(|at| {
                        text.get(at..).is_some_and(|rest| {
                            is_version(rest, |major| matches!(major.as_bytes(), [b'1'..=b'9']))
                        })
                    })
            }
        }
    }

    pub(super) fn wanted(self) -> &'static str {
        match self {
            Self::Name => "lower-case letters, digits and hyphens, a letter or digit at both ends",
            Self::Version => "three numbers with dots, as 1.0.0, with an optional -suffix",
            Self::SchemaVersion => "a version of the standard, as 2.3.0",
            Self::ImportVersion => "`latest` or three numbers with dots, as 1.0.0",
        }
    }

    /// A text like the given one that would match.
    pub(super) fn repair(self, text: &str) -> Option<String> {
        match self {
            Self::Name => {
                let lower = text.to_ascii_lowercase();
                let name: String = lower
                    .chars()
                    .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
                    .collect();
                let name = name.trim_matches('-').to_owned();
                self.matches(&name).then_some(name)
            }
            Self::Version | Self::SchemaVersion | Self::ImportVersion => {
                let longer = format!("{text}.0");
                if self.matches(&longer) {
                    return Some(longer);
                }
                let longer = format!("{text}.0.0");
                self.matches(&longer).then_some(longer)
            }
        }
    }
}

pub(super) fn is_name(text: &str) -> bool {
    let bytes = text.as_bytes();
    let inner = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    match (bytes.first(), bytes.last()) {
        (Some(first), Some(last)) => {
            inner(first) && inner(last) && bytes.iter().all(|byte| inner(byte) || *byte == b'-')
        }
        _ => false,
    }
}

fn is_version(text: &str, major_fits: impl Fn(&str) -> bool) -> bool {
    let (rest, build) = match text.split_once('+') {
        Some((rest, build)) => (rest, Some(build)),
        None => (text, None),
    };
    let (core, suffix) = match rest.split_once('-') {
        Some((core, suffix)) => (core, Some(suffix)),
        None => (rest, None),
    };
    let number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let parts: Vec<&str> = core.split('.').collect();
    let core_fits = matches!(parts[..], [major, minor, patch] if major_fits(major) && number(minor) && number(patch));
    let dotted = |text: &str, fits: &dyn Fn(u8) -> bool| {
        text.split('.')
            .all(|part| !part.is_empty() && part.bytes().all(fits))
    };
    core_fits
        && suffix.is_none_or(|suffix| {
            dotted(suffix, &|byte| {
                byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-'
            })
        })
        && build
            .is_none_or(|build| dotted(build, &|byte| byte.is_ascii_alphanumeric() || byte == b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_what_the_published_expressions_match() {
        for (pattern, text, expected) in [
            (Pattern::Name, "a", true),
            (Pattern::Name, "1a-b", true),
            (Pattern::Name, "a-", false),
            (Pattern::Name, "", false),
            (Pattern::Name, "a\n", false),
            (Pattern::Version, "1.0", false),
            (Pattern::Version, "1.0.0", true),
            (Pattern::Version, "10.0.0-alpha.1+B2", true),
            (Pattern::Version, "1.0.0-Alpha", false),
            (Pattern::Version, "1.0.0-", false),
            (Pattern::SchemaVersion, "2.2.0-latest", true),
            (Pattern::SchemaVersion, "1.0.0", false),
            (Pattern::ImportVersion, "latestfoo", true),
            (Pattern::ImportVersion, "x1.2.3", true),
            (Pattern::ImportVersion, "0.1.2", false),
        ] {
            assert_eq!(pattern.matches(text), expected, "{pattern:?} {text:?}");
        }
    }
}
