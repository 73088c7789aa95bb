//! How times are written. The script counts them on.

#![expect(unreachable_pub, reason = "what the macro makes")]

use askama::{Values, filter_fn, filters::Safe};
use jiff::Timestamp;

/// The time from one moment to a later one: `12 s`, `3 min`, `5 h`, `2 d`, as exact as somebody who waits wants it.
pub(crate) fn span(from: Timestamp, to: Timestamp) -> String {
    in_words(seconds(from, to))
}

fn in_words(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..86400 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86400),
    }
}

/// Whole seconds from one time to a later one.
fn seconds(from: Timestamp, to: Timestamp) -> u64 {
    u64::try_from(to.duration_since(from).as_secs()).unwrap_or(0)
}

/// The value that a template is rendered with: the time that all others are seen from.
pub(crate) const NOW: &str = "now";

fn now(values: &dyn Values) -> Timestamp {
    askama::get_value(values, NOW).map_or_else(|_| Timestamp::now(), |now| *now)
}

/// How long ago: `<time>12 s ago</time>`.
#[filter_fn]
pub(crate) fn ago(time: &Timestamp, values: &dyn Values) -> askama::Result<Safe<String>> {
    let seconds = seconds(*time, now(values));
    Ok(Safe(format!(
        "<time datetime=\"{time}\" title=\"{time}\" data-seconds=\"{seconds}\">{} ago</time>",
        in_words(seconds)
    )))
}

/// In how long: `<time>in 12 s</time>`.
#[filter_fn]
pub(crate) fn until(time: &Timestamp, values: &dyn Values) -> askama::Result<Safe<String>> {
    let seconds = seconds(now(values), *time);
    Ok(Safe(format!(
        "<time datetime=\"{time}\" title=\"{time}\" data-seconds=\"{seconds}\" data-ahead=\"1\">in {}</time>",
        in_words(seconds)
    )))
}

/// The time of a day, in UTC.
#[filter_fn]
pub(crate) fn clock(time: &Timestamp, _: &dyn Values) -> askama::Result<Safe<String>> {
    Ok(Safe(format!(
        "<time datetime=\"{time}\">{}</time>",
        time.strftime("%F %T UTC")
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_as_exact_as_somebody_who_waits_wants_them() {
        for (seconds, expected) in [
            (0, "0 s"),
            (59, "59 s"),
            (60, "1 min"),
            (3599, "59 min"),
            (3600, "1 h"),
            (90_000, "1 d"),
        ] {
            assert_eq!(in_words(seconds), expected);
        }
        let later: Timestamp = "2026-01-01T00:02:05.9Z".parse().unwrap();
        let earlier: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        assert_eq!(seconds(earlier, later), 125);
        assert_eq!(seconds(later, earlier), 0);
    }
}
