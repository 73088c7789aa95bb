//! Any text: it is read, checked by all rules and told about, in bounded time and memory.

#![no_main]

use devfile::flatten::{FlattenOptions, NoFetch, flatten};
use devfile::validate::Rules;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let options = FlattenOptions {
        imports: false,
        inline_uris: false,
        rules: Rules {
            library: true,
            operator: true,
            cluster: true,
            strict_defaults: false,
        },
        ..FlattenOptions::default()
    };
    let found = flatten("/w/devfile.yaml", text, &options, &mut NoFetch);
    assert_eq!(found.devfile.is_none(), found.has_errors());
    for diagnostic in &found.diagnostics {
        assert!(diagnostic.line >= 1 && diagnostic.column >= 1);
        let _ = diagnostic.to_string();
    }
});
