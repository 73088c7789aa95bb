use std::io::Write as _;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

fn devfile(arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_devfile"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(input.as_bytes())
        .unwrap();
    child.wait_with_output().unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

const GOOD: &str = "schemaVersion: 2.2.0\ncomponents: [{name: c, container: {image: i}}]\n";

#[test]
fn validate_reads_files_folders_and_standard_input_and_sums_up() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    // The first of the four names counts.
    std::fs::write(path(".devfile.yaml"), GOOD).unwrap();
    std::fs::write(path("devfile.yml"), "nonsense: 1\n").unwrap();
    std::fs::write(path("bad.yaml"), "schemaVersion: 2.2.0\nfoo: 1\n").unwrap();

    let output = devfile(&["validate", folder.path().to_str().unwrap()], "");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let output = devfile(&["validate", "-"], GOOD);
    assert_eq!(
        (output.status.code(), text(&output).as_str()),
        (Some(0), "-: valid\n")
    );

    let output = devfile(&["validate", &path(".devfile.yaml"), &path("bad.yaml")], "");
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output).ends_with("1 valid, 1 with errors, 0 unreadable\n"));
    assert!(
        !text(&output).contains('\u{1b}'),
        "no colour without a terminal"
    );

    let output = devfile(
        &["validate", "-o", "json", &path("bad.yaml"), &path("absent")],
        "",
    );
    assert_eq!(output.status.code(), Some(2));
    let value: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        value["summary"],
        serde_json::json!({"valid": 0, "invalid": 1, "unreadable": 1})
    );
    assert_eq!(
        value["inputs"][0]["diagnostics"][0]["code"],
        "unknown-field"
    );

    std::fs::write(
        path("latin1.yaml"),
        b"schemaVersion: 2.2.0\n# gr\xfc\xdfe\n",
    )
    .unwrap();
    let output = devfile(&["validate", "-o", "json", &path("latin1.yaml")], "");
    assert_eq!(output.status.code(), Some(1));
    let value: Value = serde_json::from_slice(&output.stdout).unwrap();
    let told = &value["inputs"][0]["diagnostics"][0];
    assert_eq!(
        (&told["code"], &told["line"], &told["column"]),
        (&"not-utf8".into(), &2.into(), &5.into())
    );

    let empty = tempfile::tempdir().unwrap();
    let output = devfile(&["validate", empty.path().to_str().unwrap()], "");
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output).contains("devfile.yaml, .devfile.yaml, devfile.yml, .devfile.yml"));
}

#[test]
fn colour_is_used_when_it_is_asked_for_and_texts_cannot_steer_the_terminal() {
    let output = devfile(&["validate", "--color", "always", "-"], "foo\u{1b}[2J: 1\n");
    let text = text(&output);
    assert!(text.contains("\u{1b}[31;1merror["), "{text}");
    assert!(!text.contains("\u{1b}[2J"), "{text}");
}

#[test]
fn flatten_and_render_print_what_can_be_read_again() {
    let output = devfile(
        &["flatten", "--variable", "a=b", "-"],
        "schemaVersion: 2.2.0\nvariables: {a: x}\ncomponents: [{name: c, container: {image: 'i:{{a}}'}}]\n",
    );
    assert_eq!(output.status.code(), Some(0));
    let flat = text(&output);
    assert!(flat.contains("\"i:b\""), "{flat}");
    let output = devfile(&["validate", "-"], &flat);
    assert_eq!(output.status.code(), Some(0));

    let output = devfile(&["render", "--name", "demo", "-o", "json", "-"], GOOD);
    let value: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(value["items"].as_array().unwrap().len(), 2);
    let told: Value = serde_json::from_slice(&output.stderr).unwrap();
    assert_eq!(told, serde_json::json!({"diagnostics": [], "notes": []}));
    let output = devfile(
        &["render", "-"],
        "schemaVersion: 2.2.0\ncomponents: [{name: c, attributes: {\"a\\eb\": 1}, container: {image: i}}]\n",
    );
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(
        told.starts_with("note: components[name=c].attributes.a\u{fffd}b: "),
        "{told}"
    );
    let output = devfile(&["render", "--to", "devworkspace", "-"], GOOD);
    assert!(text(&output).contains("kind: DevWorkspace"));
    let output = devfile(&["render", "-"], "schemaVersion: 2.2.0\nfoo: 1\n");
    assert_eq!(
        (output.status.code(), text(&output).as_str()),
        (Some(1), "")
    );
}

#[test]
fn explain_tells_about_codes() {
    let output = devfile(&["explain", "duplicate-key"], "");
    assert!(text(&output).contains("keep the last one"));
    assert_eq!(devfile(&["explain", "nothing"], "").status.code(), Some(2));
    assert!(text(&devfile(&["explain"], "")).lines().count() > 60);
}

#[test]
fn convert_takes_devcontainers_by_their_name_and_tells_what_is_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("devcontainer.json");
    std::fs::write(&path, "{\"image\": \"i\", \"features\": {}}").unwrap();
    let output = devfile(&["convert", "--to", "2.1.0", path.to_str().unwrap()], "");
    assert_eq!(output.status.code(), Some(0));
    let told = String::from_utf8(output.stderr.clone()).unwrap();
    assert!(told.starts_with("note: features: "), "{told}");
    assert!(text(&output).contains("schemaVersion: \"2.1.0\""));
    let checked = devfile(&["validate", "-"], &text(&output));
    assert_eq!(checked.status.code(), Some(0), "{}", text(&checked));

    let output = devfile(
        &["convert", "--from", "devcontainer", "-"],
        "{\"build\": {}}",
    );
    assert_eq!(
        (output.status.code(), text(&output).as_str()),
        (Some(1), "")
    );
    // The result is checked as well.
    let long = GOOD.replace("2.2.0", "2.0.0").replace(
        "image: i",
        "image: i, endpoints: [{name: a-name-of-sixteen, targetPort: 80}]",
    );
    let output = devfile(&["convert", "-o", "json", "-"], &long);
    assert_eq!(output.status.code(), Some(1));
    let told: Value = serde_json::from_slice(&output.stderr).unwrap();
    assert_eq!(told["diagnostics"][0]["code"], "text-too-long");
}

#[test]
fn schemas_and_completions_are_printed() {
    let output = devfile(&["schema"], "");
    let schema: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(schema["properties"]["dependentProjects"].is_object());
    let output = devfile(&["schema", "2.2.0"], "");
    let schema: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(schema["properties"].get("dependentProjects").is_none());
    assert_eq!(devfile(&["schema", "2.2"], "").status.code(), Some(2));
    for shell in ["bash", "zsh", "fish"] {
        let output = devfile(&["completions", shell], "");
        assert!(text(&output).contains("strict-defaults"), "{shell}");
    }
}
