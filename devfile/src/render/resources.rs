//! A container's resources.

use serde_json::{Map, Value, json};

use super::ResourceDefaults;
use crate::model::Container;
use crate::quantity::Quantity;

/// Requests and limits, from the devfile or by default.
pub(super) fn resources(container: &Container, defaults: &ResourceDefaults) -> Value {
    let memory = pair(
        container.memory_request.as_deref(),
        container.memory_limit.as_deref(),
        defaults.memory_request.as_deref(),
        defaults.memory_limit.as_deref(),
    );
    let cpu = pair(
        container.cpu_request.as_deref(),
        container.cpu_limit.as_deref(),
        defaults.cpu_request.as_deref(),
        defaults.cpu_limit.as_deref(),
    );
    let mut requests = Map::new();
    let mut limits = Map::new();
    for (name, (request, limit)) in [("cpu", cpu), ("memory", memory)] {
        if let Some(request) = request {
            requests.insert(name.into(), request.into());
        }
        if let Some(limit) = limit {
            limits.insert(name.into(), limit.into());
        }
    }
    let mut resources = Map::new();
    if !requests.is_empty() {
        resources.insert("requests".into(), Value::Object(requests));
    }
    if !limits.is_empty() {
        resources.insert("limits".into(), Value::Object(limits));
    }
    json!(resources)
}

/// Writes the defaults into a container where it says nothing itself.
pub fn with_default_resources(container: &mut Container, defaults: &ResourceDefaults) {
    let (memory_request, memory_limit) = pair(
        container.memory_request.as_deref(),
        container.memory_limit.as_deref(),
        defaults.memory_request.as_deref(),
        defaults.memory_limit.as_deref(),
    );
    let (cpu_request, cpu_limit) = pair(
        container.cpu_request.as_deref(),
        container.cpu_limit.as_deref(),
        defaults.cpu_request.as_deref(),
        defaults.cpu_limit.as_deref(),
    );
    let [memory_request, memory_limit, cpu_request, cpu_limit] =
        [memory_request, memory_limit, cpu_request, cpu_limit].map(|it| it.map(str::to_owned));
    container.memory_request = memory_request;
    container.memory_limit = memory_limit;
    container.cpu_request = cpu_request;
    container.cpu_limit = cpu_limit;
}

fn pair<'a>(
    request: Option<&'a str>,
    limit: Option<&'a str>,
    default_request: Option<&'a str>,
    default_limit: Option<&'a str>,
) -> (Option<&'a str>, Option<&'a str>) {
    // A zero sets nothing: Kubernetes would take a limit of zero for "as much as is there".
    let set = |text: Option<&'a str>| {
        text.filter(|text| Quantity::parse(text).is_ok_and(|quantity| !quantity.is_zero()))
    };
    let (own_request, own_limit) = (set(request), set(limit));
    let above = |a: &str, b: &str| match (Quantity::parse(a), Quantity::parse(b)) {
        (Ok(a), Ok(b)) => a > b,
        _ => false,
    };
    let mut request = own_request.or_else(|| set(default_request));
    let mut limit = own_limit.or_else(|| set(default_limit));
    if let (Some(wanted), Some(most)) = (request, limit)
        && above(wanted, most)
    {
        if own_request.is_none() {
            request = Some(most);
        } else if own_limit.is_none() {
            limit = Some(wanted);
        }
    }
    (request, limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_give_way_to_what_is_written() {
        assert_eq!(
            pair(None, Some("32M"), Some("64M"), Some("128M")),
            (Some("32M"), Some("32M"))
        );
        assert_eq!(
            pair(Some("1Gi"), None, Some("64M"), Some("128M")),
            (Some("1Gi"), Some("1Gi"))
        );
        assert_eq!(
            pair(None, None, Some("64M"), Some("0")),
            (Some("64M"), None)
        );
        assert_eq!(
            pair(Some("2"), Some("1"), None, None),
            (Some("2"), Some("1"))
        );
    }
}
