//! Every file of the corpus, through everything.

use devfile::flatten::{FlattenOptions, NoFetch, flatten};
use devfile::render::{RenderError, RenderOptions, dev_workspace, render};

use crate::tests_folder;

pub(crate) fn files() -> Vec<(String, String)> {
    let root = tests_folder().join("corpus");
    let index = std::fs::read_to_string(root.join("devfiles/INDEX.tsv")).unwrap();
    let mut files: Vec<(String, String)> = index
        .lines()
        .skip(1)
        .map(|line| line.split('\t').next().unwrap())
        .map(|path| {
            let text = std::fs::read_to_string(root.join("devfiles").join(path)).unwrap();
            (path.to_owned(), text)
        })
        .collect();
    for probe in std::fs::read_dir(root.join("probes")).unwrap() {
        let path = probe.unwrap().path().join("devfile.yaml");
        if let Ok(text) = std::fs::read_to_string(&path) {
            files.push((path.to_string_lossy().into_owned(), text));
        }
    }
    files.sort();
    assert!(files.len() > 200);
    files
}

fn options() -> FlattenOptions {
    FlattenOptions {
        imports: false,
        inline_uris: false,
        ..FlattenOptions::default()
    }
}

#[test]
fn the_same_input_gives_the_same_bytes_and_what_is_flattened_stays_so() {
    let mut rendered = 0;
    for (path, text) in files() {
        let first = flatten(&path, &text, &options(), &mut NoFetch);
        let Some(devfile) = &first.devfile else {
            assert!(first.has_errors(), "{path}");
            continue;
        };
        let tree = first.tree.as_ref().unwrap().to_json();
        let again = flatten(&path, &devfile::yaml_text(&tree), &options(), &mut NoFetch);
        // A variable whose value names another is expanded once each time (decision variables-once).
        if !path.contains("var-recursive") {
            assert_eq!(again.devfile.as_ref(), Some(devfile), "{path}");
        }

        let options = RenderOptions::new("demo", "team");
        let objects = match render(devfile, &options) {
            Ok(objects) => objects,
            // Plugins stay where nothing is fetched.
            Err(RenderError::NotFlattened { .. }) => continue,
            Err(error) => panic!("{path}: {error}"),
        };
        let same = flatten(&path, &text, &self::options(), &mut NoFetch);
        let other = render(same.devfile.as_ref().unwrap(), &options).unwrap();
        assert_eq!(
            serde_json::to_string(&objects.objects).unwrap(),
            serde_json::to_string(&other.objects).unwrap(),
            "{path}"
        );
        assert_eq!(objects.notes, other.notes, "{path}");
        dev_workspace(devfile, &options).unwrap();
        rendered += 1;
    }
    assert!(rendered > 100, "{rendered}");
}

#[test]
fn every_error_of_the_corpus_has_a_place_in_its_text() {
    for (path, text) in files() {
        let lines = text.lines().count().max(1);
        for found in flatten(&path, &text, &options(), &mut NoFetch).diagnostics {
            assert!(
                usize::try_from(found.line).unwrap() <= lines + 1,
                "{path}: {found}"
            );
            assert_eq!(found.document, path);
            assert!(
                found.excerpt.is_some() || text.is_empty(),
                "{path}: {found}"
            );
        }
    }
}
