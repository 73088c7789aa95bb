//! Whatever is valid is rendered, the same each time, and what is written as YAML is read back the same.

#![no_main]

use devfile::flatten::{FlattenOptions, NoFetch, flatten};
use devfile::render::{ProjectClone, RenderOptions, dev_workspace, render};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let found = flatten(
        "/w/devfile.yaml",
        text,
        &FlattenOptions::default(),
        &mut NoFetch,
    );
    let Some(devfile) = found.devfile else {
        return;
    };
    let tree = found.tree.map(|tree| tree.to_json()).unwrap_or_default();
    let options = FlattenOptions {
        imports: false,
        inline_uris: false,
        // Variables are in already.
        variables: Default::default(),
        ..FlattenOptions::default()
    };
    if !tree.to_string().contains("{{") {
        let again = flatten("/w/devfile.yaml", &devfile::yaml_text(&tree), &options, &mut NoFetch);
        assert_eq!(again.devfile.as_ref(), Some(&devfile));
    }
    let mut options = RenderOptions::new("demo", "team");
    options.project_clone = Some(ProjectClone {
        image: "git".into(),
        memory_limit: "256Mi".into(),
        repositories: Vec::new(),
    });
    let first = render(&devfile, &options);
    assert_eq!(first, render(&devfile, &options));
    if let Ok(rendered) = first {
        for object in &rendered.objects {
            assert!(object["metadata"]["name"].is_string());
            assert_eq!(object["metadata"]["namespace"], "team");
        }
    }
    let _ = dev_workspace(&devfile, &options);
});
