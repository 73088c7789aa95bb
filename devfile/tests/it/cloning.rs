//! The script that clones projects, run as the init container would run it.

use std::path::Path;
use std::process::Command;

use devfile::flatten::{FlattenOptions, NoFetch, flatten};
use devfile::render::{ProjectClone, RenderOptions, render};

fn git(folder: &Path, arguments: &[&str]) {
    let output = Command::new("git")
        .args(["-c", "user.name=t", "-c", "user.email=t@example.org"])
        .args(arguments)
        .current_dir(folder)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
}

struct Machine {
    folder: tempfile::TempDir,
}

impl Machine {
    /// Runs the script in folders of this machine and gives what it leaves in the termination message.
    fn run(&self, script: &str) -> String {
        let log = self.folder.path().join("termination-log");
        let script = script.replace("/dev/termination-log", log.to_str().unwrap());
        let output = Command::new("/bin/sh")
            .args(["-c", &script])
            .env("PROJECTS_ROOT", self.folder.path().join("projects"))
            .env("HOME", self.folder.path())
            .env("GIT_TERMINAL_PROMPT", "0")
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        std::fs::read_to_string(log).unwrap()
    }

    fn head(&self, project: &str) -> String {
        let output = Command::new("git")
            .args(["log", "-1", "--format=%s"])
            .current_dir(self.folder.path().join("projects").join(project))
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }
}

#[test]
fn projects_are_cloned_at_their_ref_and_a_failure_is_told_but_fails_nothing() {
    let machine = Machine {
        folder: tempfile::tempdir().unwrap(),
    };
    let origin = machine.folder.path().join("origin");
    std::fs::create_dir_all(machine.folder.path().join("projects")).unwrap();
    std::fs::create_dir_all(&origin).unwrap();
    git(&origin, &["init", "--quiet", "--initial-branch", "main"]);
    git(
        &origin,
        &["commit", "--quiet", "--allow-empty", "-m", "one"],
    );
    git(&origin, &["tag", "v1"]);
    git(&origin, &["branch", "feature"]);
    git(
        &origin,
        &["commit", "--quiet", "--allow-empty", "-m", "two"],
    );
    let address = origin.to_str().unwrap();

    let text = format!(
        "schemaVersion: 2.2.0
components: [{{name: c, container: {{image: i}}}}]
projects:
- {{name: branch, git: {{remotes: {{up: '{address}', other: 'https://o.example/x'}}, checkoutFrom: {{remote: up, revision: feature}}}}}}
- {{name: nested, clonePath: a/b, git: {{remotes: {{origin: '{address}'}}}}}}
- {{name: broken, git: {{remotes: {{origin: '{address}-absent'}}}}}}
- {{name: badref, git: {{remotes: {{origin: '{address}'}}, checkoutFrom: {{revision: nowhere}}}}}}
"
    );
    let found = flatten(
        "/w/devfile.yaml",
        &text,
        &FlattenOptions::default(),
        &mut NoFetch,
    );
    let mut options = RenderOptions::new("demo", "team");
    options.project_clone = Some(ProjectClone {
        image: "git".into(),
        memory_limit: "256Mi".into(),
        repositories: vec![("repo".into(), address.into(), Some("v1".into()))],
    });
    let rendered = render(&found.devfile.unwrap(), &options).unwrap();
    let deployment = rendered.objects.last().unwrap();
    let clone = &deployment["spec"]["template"]["spec"]["initContainers"][0];
    let script = clone["command"][2].as_str().unwrap();

    let told = machine.run(script);
    assert_eq!(machine.head("repo"), "one");
    assert_eq!(machine.head("branch"), "one");
    assert_eq!(machine.head("a/b"), "two");
    let lines: Vec<&str> = told.lines().collect();
    assert_eq!(lines.len(), 2, "{told}");
    assert!(lines[0].starts_with("broken: "), "{told}");
    assert!(
        lines[1].starts_with("badref: ") && lines[1].contains("nowhere"),
        "{told}"
    );
    for absent in ["broken", "badref", ".cloning"] {
        assert!(!machine.folder.path().join("projects").join(absent).exists());
    }
    let remotes = Command::new("git")
        .args(["remote"])
        .current_dir(machine.folder.path().join("projects/branch"))
        .output()
        .unwrap();
    assert_eq!(String::from_utf8(remotes.stdout).unwrap(), "other\nup\n");

    // A second start leaves what is there, also what a person put where a project would be.
    let mine = machine.folder.path().join("projects/broken");
    std::fs::create_dir_all(&mine).unwrap();
    std::fs::write(mine.join("file"), "mine").unwrap();
    std::fs::write(machine.folder.path().join("projects/repo/change"), "mine").unwrap();
    let told = machine.run(script);
    assert!(told.starts_with("badref: "), "{told}");
    assert!(machine.folder.path().join("projects/repo/change").exists());
    assert!(mine.join("file").exists());
}
