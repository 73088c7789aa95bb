mod remote_development;
mod schema;

use super::*;

fn problems(text: &str) -> Vec<String> {
    parse(text)
        .expect_err("the file should be refused")
        .iter()
        .map(ToString::to_string)
        .collect()
}

#[test]
fn an_empty_file_means_the_defaults() {
    for text in ["", "# only a comment\n", "---\n", "{}", "observability:\n"] {
        assert_eq!(parse(text), Ok(Parsed::default()), "{text:?}");
    }
    let logging = ConfigurationFile::default().observability.logging;
    assert_eq!(
        (logging.level, logging.grpc_level),
        (LogLevel::Info, LogLevel::Error)
    );
}

#[test]
fn log_levels_are_read() {
    let parsed =
        parse("observability:\n  logging:\n    level: debug\n    grpc_level: warn\n").unwrap();
    let logging = parsed.configuration.observability.logging;
    assert_eq!(
        (logging.level, logging.grpc_level),
        (LogLevel::Debug, LogLevel::Warn)
    );
    assert_eq!(parsed.notes, []);
}

#[test]
fn line_endings_and_a_byte_order_mark_change_nothing() {
    let unix = "observability:\n  logging:\n    level: debug\n";
    for text in [
        unix.replace('\n', "\r\n"),
        format!("\u{feff}{unix}"),
        unix.trim_end().to_owned(),
    ] {
        assert_eq!(parse(&text), parse(unix), "{text:?}");
    }
}

#[test]
fn a_wrong_level_names_line_field_reason_and_what_would_be_right() {
    assert_eq!(
        problems("observability:\n  logging:\n    level: verbose\n"),
        [
            "line 3, column 12, observability.logging.level: 'verbose' is no log level; expected one of debug, info, warn, error"
        ]
    );
}

#[test]
fn a_wrong_type_is_told_by_its_kind() {
    assert_eq!(
        problems("observability: [logging]\n"),
        [
            "line 1, column 16, observability: this is a list; expected a mapping with the keys logging, google_profiler"
        ]
    );
    assert_eq!(
        problems("observability:\n  logging:\n    level: 3\n"),
        [
            "line 3, column 12, observability.logging.level: this is a number; expected one of debug, info, warn, error"
        ]
    );
    assert_eq!(problems("42\n").len(), 1);
}

#[test]
fn an_unknown_key_gets_a_suggestion() {
    assert_eq!(
        problems("observabilty:\n  logging: {}\n"),
        [
            "line 1, column 1, observabilty: the key is not known; expected 'observability' (did you mean that?)"
        ]
    );
    assert!(
        problems("observability:\n  colour: blue\n")[0]
            .contains("a mapping with the keys logging, google_profiler")
    );
}

#[test]
fn every_problem_is_found_at_once_in_the_order_of_the_file() {
    let found = problems(
        "user_access:\n  access_as: {usr: {}}\n  projects: x\nobservability:\n  logging:\n    level: loud\nnonsense: 1\n",
    );
    let lines: Vec<_> = found
        .iter()
        .map(|problem| problem.split(',').next().unwrap_or_default())
        .collect();
    assert_eq!(
        lines,
        ["line 2", "line 3", "line 6", "line 7"],
        "{found:#?}"
    );
}

#[test]
fn broken_yaml_and_repeated_keys_have_a_place() {
    let broken = parse("observability:\n  logging: [\n").expect_err("broken");
    assert!(broken[0].line >= 2, "{broken:?}");
    let repeated = parse("observability: {}\nobservability: {}\n").expect_err("repeated");
    assert_eq!((repeated.len(), repeated[0].line), (1, 2), "{repeated:?}");
}

#[test]
fn what_has_no_effect_is_noted() {
    let parsed =
        parse("ci_access: {}\nuser_access:\n  access_as: {agent: {}}\n  projects: [{id: a/b}]\n")
            .unwrap();
    let fields: Vec<_> = parsed
        .notes
        .iter()
        .map(|note| note.field.as_str())
        .collect();
    assert_eq!(fields, ["ci_access"]);
    assert_eq!(parsed.configuration.user_access.unwrap().projects, ["a/b"]);
}

#[test]
fn ways_of_access_are_read() {
    let read = |text: &str| {
        let file = parse(text).unwrap().configuration;
        file.user_access.unwrap().access_as
    };
    assert_eq!(read("user_access: {}"), AccessAs::Agent);
    assert_eq!(
        read("user_access: {access_as: {agent: {}}}"),
        AccessAs::Agent
    );
    assert_eq!(read("user_access: {access_as: {user: {}}}"), AccessAs::User);
    assert!(problems("user_access: {access_as: {user: {x: 1}}}")[0].contains("access_as.user.x"));
}

#[test]
fn both_ways_of_access_at_once_are_refused() {
    assert!(
        problems("user_access: {access_as: {agent: {}, user: {}}}")[0].contains("only one way")
    );
}

#[test]
fn size_depth_and_aliases_are_bounded() {
    let large = format!("# {}\n", "x".repeat(MAX_CONFIGURATION_BYTES));
    assert!(problems(&large)[0].contains("bytes"));
    let deep = "[".repeat(10_000);
    assert_eq!(problems(&deep).len(), 1);
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..12 {
        let previous = level - 1;
        let items = vec![format!("*a{previous}"); 10].join(", ");
        bomb.push_str(&format!("a{level}: &a{level} [{items}]\n"));
    }
    assert!(problems(&bomb).len() <= MAX_PROBLEMS);
}

#[test]
fn problems_are_capped() {
    let text: String = (0..1000).map(|n| format!("unknown-{n}: 1\n")).collect();
    assert_eq!(problems(&text).len(), MAX_PROBLEMS);
}

#[test]
fn a_text_value_of_the_file_is_not_repeated_at_full_length() {
    let text = format!(
        "observability: {{logging: {{level: {}}}}}",
        "s".repeat(5000)
    );
    assert!(problems(&text)[0].len() < 400);
}

#[test]
fn a_wrong_section_leaves_the_others_in_force() {
    let judged = judge(
        "observability:\n  logging:\n    level: debug\nuser_access:\n  access_as: {agent: {}, user: {}}\nremote_development:\n  enabled: true\n  workspaces_quota: ten\n  full_sync_interval: 1h\n",
    );
    assert_eq!(
        judged.wrong,
        [Section::RemoteDevelopment, Section::UserAccess].into()
    );
    assert_eq!(judged.problems.len(), 2);
    assert_eq!(
        judged.configuration,
        ConfigurationFile {
            observability: Observability {
                logging: Logging {
                    level: LogLevel::Debug,
                    ..Logging::default()
                }
            },
            ..ConfigurationFile::default()
        },
        "nothing of a wrong section is kept"
    );
    assert_eq!(judged.notes, [], "nor are its notes");
}

#[test]
fn no_yaml_makes_all_wrong_and_a_slip_in_a_name_what_is_absent() {
    assert_eq!(judge("a: [").wrong, Section::ALL.into());
    assert_eq!(judge("42").wrong, Section::ALL.into());
    let slip = judge("user_acess: {}\nobservability: {}\n");
    assert_eq!(
        slip.wrong,
        [Section::RemoteDevelopment, Section::UserAccess].into()
    );
    assert_eq!(judge("").wrong, [].into());
}

#[test]
fn one_section_can_be_taken_of_another_file() {
    let other = parse("observability: {logging: {level: warn}}\nremote_development: {enabled: true}\nuser_access: {}")
        .unwrap()
        .configuration;
    for section in Section::ALL {
        let mut file = ConfigurationFile::default();
        file.take(section, &other);
        let same = [
            file.observability == other.observability,
            file.remote_development == other.remote_development,
            file.user_access == other.user_access,
        ];
        let expected = Section::ALL.map(|it| it == section);
        assert_eq!(same, expected, "{section}");
    }
}
