//! Two texts, divided by a line `=====`: a devfile and what every reference in it leads to.

#![no_main]

use devfile::flatten::{Fetch, FetchError, FlattenOptions, Reference, flatten};
use libfuzzer_sys::fuzz_target;

struct Same(String);

impl Fetch for Same {
    fn fetch(&mut self, _: &Reference) -> Result<String, FetchError> {
        Ok(self.0.clone())
    }
}

fuzz_target!(|text: &str| {
    let (main, other) = text.split_once("\n=====\n").unwrap_or((text, text));
    let options = FlattenOptions {
        boolean_defaults: true,
        registries: vec!["https://registry.example".into()],
        variables: [("a".to_owned(), "{{b}}".to_owned())].into(),
        ..FlattenOptions::default()
    };
    let mut fetch = Same(other.to_owned());
    let first = flatten("/w/devfile.yaml", main, &options, &mut fetch);
    let second = flatten("/w/devfile.yaml", main, &options, &mut fetch);
    assert_eq!(first.devfile, second.devfile);
    assert_eq!(first.diagnostics, second.diagnostics);
    if let Some(devfile) = &first.devfile {
        assert!(
            devfile
                .components
                .iter()
                .all(|component| component.kind.name() != "plugin")
        );
    }
});
