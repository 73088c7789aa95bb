//! Git's configuration by environment, which no file in HOME or in a repository can undo.

/// The variable with the number of settings.
const COUNT: &str = "GIT_CONFIG_COUNT";

/// The variables that a container gets beside its own: all `settings`, or, behind a devfile's own ones, the one without
/// which Git does not work.
pub(super) fn environment(
    own: &[(String, String)],
    settings: &[(String, String)],
) -> Vec<(String, String)> {
    // The sources' folder belongs to whoever the volume was made for, which Git distrusts.
    let trust = ("safe.directory".to_owned(), "*".to_owned());
    let count = own.iter().rev().find(|(name, _)| name == COUNT);
    let (first, settings) = match count.map(|(_, value)| value.parse::<u16>()) {
        None => (
            0,
            std::iter::once(trust)
                .chain(settings.iter().cloned())
                .collect(),
        ),
        Some(Ok(first)) => (first, vec![trust]),
        // Git refuses to work with it, and says so itself.
        Some(Err(_)) => return Vec::new(),
    };
    let mut variables = vec![(
        COUNT.to_owned(),
        (usize::from(first) + settings.len()).to_string(),
    )];
    for (index, (name, value)) in (first..).zip(settings) {
        variables.push((format!("GIT_CONFIG_KEY_{index}"), name));
        variables.push((format!("GIT_CONFIG_VALUE_{index}"), value));
    }
    variables
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(variables: &[(String, String)]) -> String {
        let parts: Vec<_> = variables
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        parts.join(" ")
    }

    fn pair(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    #[test]
    fn settings_stand_beside_what_git_needs() {
        let settings = [pair("credential.helper", "cache")];
        assert_eq!(
            text(&environment(&[pair("A", "1")], &settings)),
            "GIT_CONFIG_COUNT=2 GIT_CONFIG_KEY_0=safe.directory GIT_CONFIG_VALUE_0=* \
             GIT_CONFIG_KEY_1=credential.helper GIT_CONFIG_VALUE_1=cache"
        );
    }

    #[test]
    fn a_devfiles_own_settings_stay_and_git_goes_on_working() {
        let own = [
            pair("GIT_CONFIG_COUNT", "1"),
            pair("GIT_CONFIG_KEY_0", "user.name"),
            pair("GIT_CONFIG_VALUE_0", "Me"),
        ];
        let settings = [pair("credential.helper", "cache")];
        assert_eq!(
            text(&environment(&own, &settings)),
            "GIT_CONFIG_COUNT=2 GIT_CONFIG_KEY_1=safe.directory GIT_CONFIG_VALUE_1=*"
        );
        assert_eq!(environment(&[pair(COUNT, "many")], &settings), []);
    }
}
