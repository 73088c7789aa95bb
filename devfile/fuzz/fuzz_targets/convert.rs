//! Any text as a devcontainer.json and as a devfile for each version; one for its own version stays as it is.

#![no_main]

use devfile::convert::{devcontainer, to_version};
use devfile::document::Form;
use devfile::flatten::{FlattenOptions, NoFetch, flatten};
use devfile::schema::Version;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let found = devcontainer("/w/devcontainer.json", text, Some("i"), Version::NEWEST);
    if let Ok(converted) = &found {
        let again = devcontainer("/w/devcontainer.json", text, Some("i"), Version::NEWEST);
        assert_eq!(again.as_ref(), Ok(converted));
        let written = devfile::yaml_text(&converted.devfile);
        let _ = flatten("/w/devfile.yaml", &written, &FlattenOptions::default(), &mut NoFetch);
    }
    let options = FlattenOptions {
        imports: false,
        ..FlattenOptions::default()
    };
    let read = flatten("/w/devfile.yaml", text, &options, &mut NoFetch);
    for version in Version::ALL {
        let converted = to_version("/w/devfile.yaml", text, version);
        let fits = read.tree.is_some();
        assert_eq!(converted.is_ok(), fits);
        let is_own = read.form == Some(Form::Devfile) && read.version == Some(version);
        if let (Ok(converted), true) = (converted, is_own) {
            assert_eq!(converted.notes, []);
        }
    }
});
