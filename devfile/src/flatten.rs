//! Parents and plugins to one self-contained devfile.
//!
//! Fetching is behind [`Fetch`], without async: a caller that fetches asynchronously gives [`Cache`], fetches what it
//! lists as missing, and flattens again.

mod defaults;
mod merge;
mod operator;
mod overrides;
mod reference;

use std::collections::BTreeMap;

use crate::code::Code;
use crate::diagnostic::{Diagnostic, Reporter, has_errors, sort_by_place};
use crate::document::{self, Document, Form};
use crate::limits::{MAX_IMPORT_DEPTH, MAX_IMPORTS};
use crate::model::Devfile;
use crate::node::{Node, Trail, Value};
use crate::schema::Version;
use crate::source::{Place, Source, Sources};
use crate::validate::{Rules, validate};
use crate::variables;

pub use reference::{Reference, resolve};

/// Reads what devfiles refer to.
pub trait Fetch {
    /// Reads the text a reference names.
    ///
    /// # Errors
    /// When it cannot or may not be read.
    fn fetch(&mut self, reference: &Reference) -> Result<String, FetchError>;
}

/// Why something could not be fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchError {
    /// For people.
    pub message: String,
    /// What they may do about it.
    pub hint: Option<String>,
}

impl FetchError {
    /// An error with a message.
    #[must_use]
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            hint: None,
        }
    }
}

/// Fetches nothing: for devfiles that must stand alone.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoFetch;

impl Fetch for NoFetch {
    fn fetch(&mut self, _: &Reference) -> Result<String, FetchError> {
        Err(FetchError::new("nothing is fetched here"))
    }
}

/// What was fetched before; remembers what was asked for and is not there.
#[derive(Debug, Clone, Default)]
pub struct Cache {
    known: BTreeMap<Reference, Result<String, FetchError>>,
    missing: Vec<Reference>,
}

impl Cache {
    /// Adds an answer.
    pub fn insert(&mut self, reference: Reference, answer: Result<String, FetchError>) {
        self.known.insert(reference, answer);
    }

    /// What was asked for since the last call and is not there.
    pub fn take_missing(&mut self) -> Vec<Reference> {
        std::mem::take(&mut self.missing)
    }
}

impl Fetch for Cache {
    fn fetch(&mut self, reference: &Reference) -> Result<String, FetchError> {
        self.known.get(reference).cloned().unwrap_or_else(|| {
            self.missing.push(reference.clone());
            Err(FetchError::new("it was not fetched yet"))
        })
    }
}

/// Whose way of flattening.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Style {
    /// devfile/library's: nothing may be defined twice.
    #[default]
    Library,
    /// DevWorkspace Operator's: volumes of one name become one, the larger and the kept one; containers with the attribute
    /// `controller.devfile.io/container-contribution` are merged into the container that they are for, unless a variable
    /// is unknown; imported elements say by `controller.devfile.io/imported-by` where they come from. Defaults that an
    /// operator's configuration has for resources are not added in.
    Operator,
}

/// How to flatten.
#[derive(Debug, Clone)]
pub struct FlattenOptions {
    /// Whether parents and plugins are drawn in.
    pub imports: bool,
    /// Whose way.
    pub style: Style,
    /// Values that win over the devfile's own variables.
    pub variables: BTreeMap<String, String>,
    /// Registries to ask for parents that name none.
    pub registries: Vec<String>,
    /// Namespace of Kubernetes references that name none.
    pub namespace: Option<String>,
    /// Whether booleans that were left out are written with their default.
    pub boolean_defaults: bool,
    /// Whether what kubernetes components name by uri is put in.
    pub inline_uris: bool,
    /// What is checked in the end.
    pub rules: Rules,
}

impl Default for FlattenOptions {
    fn default() -> Self {
        Self {
            imports: true,
            style: Style::default(),
            variables: BTreeMap::new(),
            registries: Vec::new(),
            namespace: None,
            boolean_defaults: false,
            inline_uris: true,
            rules: Rules::default(),
        }
    }
}

/// What came out.
#[derive(Debug, Clone)]
pub struct Flattened {
    /// The result, if nothing stood against it.
    pub devfile: Option<Devfile>,
    /// The same as a tree whose values know where they come from, if the text fits its schema.
    pub tree: Option<Node>,
    /// Form of the document.
    pub form: Option<Form>,
    /// Version of the document.
    pub version: Option<Version>,
    /// All texts that were read.
    pub sources: Sources,
    /// All there is to say.
    pub diagnostics: Vec<Diagnostic>,
}

impl Flattened {
    /// Whether an error was found.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        has_errors(&self.diagnostics)
    }
}

/// Reads, flattens and checks one devfile. `name` is where it is: relative references start there.
#[must_use]
pub fn flatten(
    name: &str,
    text: &str,
    options: &FlattenOptions,
    fetch: &mut dyn Fetch,
) -> Flattened {
    let mut work = Work {
        options,
        fetch,
        sources: Sources::default(),
        diagnostics: Vec::new(),
        imports: 0,
        main_version: Version::NEWEST,
    };
    let main = work.read(name, text);
    // What is wrong with the text alone stands against a result, but not against looking for more.
    let told = work.diagnostics.len();
    let fits = !has_errors(&work.diagnostics);
    let (form, version) = (
        main.as_ref().map(|main| main.form),
        main.as_ref().map(|main| main.version),
    );
    let tree = main.and_then(|main| work.main(main));
    let devfile = tree.as_ref().and_then(|tree| work.finish(tree, told));
    let Work {
        sources,
        mut diagnostics,
        ..
    } = work;
    sort_by_place(&mut diagnostics, &sources);
    let usable = !has_errors(&diagnostics);
    Flattened {
        devfile: devfile.filter(|_| usable),
        tree: tree.filter(|_| fits),
        form,
        version,
        sources,
        diagnostics,
    }
}

struct Work<'a> {
    options: &'a FlattenOptions,
    fetch: &'a mut dyn Fetch,
    sources: Sources,
    diagnostics: Vec<Diagnostic>,
    imports: usize,
    main_version: Version,
}

/// A document on its way: where references in it start, and how it was reached.
struct Position<'a> {
    above: Option<&'a Position<'a>>,
    reference: Option<Reference>,
    version: Version,
    /// What the Go library calls it in attributes.
    label: String,
}

impl Position<'_> {
    fn depth(&self) -> usize {
        self.above.map_or(0, |above| above.depth() + 1)
    }

    fn reaches(&self, reference: &Reference) -> bool {
        self.reference.as_ref() == Some(reference)
            || self.above.is_some_and(|above| above.reaches(reference))
    }

    fn chain(&self) -> String {
        match self.above {
            Some(above) => format!("{} -> {}", above.chain(), self.label),
            None => self.label.clone(),
        }
    }
}

impl Work<'_> {
    fn report<T>(&mut self, tell: impl FnOnce(&mut Reporter<'_>) -> T) -> T {
        let mut reporter = Reporter::new(&self.sources);
        let result = tell(&mut reporter);
        self.diagnostics.extend(reporter.finish());
        result
    }

    fn error(&mut self, code: Code, place: Place, trail: &Trail<'_>, message: String) {
        self.error_with_hint(code, place, trail, message, None);
    }

    fn error_with_hint(
        &mut self,
        code: Code,
        place: Place,
        trail: &Trail<'_>,
        message: String,
        hint: Option<String>,
    ) {
        self.report(|reporter| reporter.add(code, place, trail, message, hint));
    }

    fn read(&mut self, name: &str, text: &str) -> Option<Document> {
        let number = self.sources.add(Source::new(name, text));
        self.report(|reporter| document::read_or_mend(number, reporter))
    }

    fn main(&mut self, main: Document) -> Option<Node> {
        let version = main.version;
        self.main_version = version;
        let exact = main.root.text_at("schemaVersion").map(str::to_owned);
        let own = Position {
            above: None,
            reference: self
                .sources
                .get(main.number)
                .map(|source| Reference::Location(reference::normal(source.name()))),
            version,
            label: "main devfile".into(),
        };
        let mut content = if self.options.imports {
            self.imports(main.into_content(), &own)?
        } else {
            main.into_content()
        };
        if self.options.boolean_defaults {
            defaults::write_booleans(&mut content, version);
        }
        if self.options.inline_uris {
            self.inline_uris(&mut content);
        }
        let mut merges = self.options.style == Style::Operator;
        // As in the library: a devfile of the version without variables has none from outside either.
        if exact.as_deref() != Some("2.0.0") {
            let outside = &self.options.variables;
            let mut reporter = Reporter::new(&self.sources);
            variables::substitute(&mut content, outside, &mut reporter);
            let found = reporter.finish();
            // As in the operator, odd as it is.
            merges &= !found.iter().any(|it| it.code == Code::VariableUnknown);
            self.diagnostics.extend(found);
        }
        if merges {
            self.report(|reporter| operator::merge_contributions(&mut content, reporter));
        }
        Some(content)
    }

    /// Checks what came out, unless an error beyond the first `told` diagnostics stands against it.
    fn finish(&mut self, tree: &Node, told: usize) -> Option<Devfile> {
        let (of_text, of_imports) = self.diagnostics.split_at(told);
        if has_errors(of_imports) {
            return None;
        }
        let devfile = match document::typed(tree) {
            Ok(devfile) => devfile,
            Err(_) if has_errors(of_text) => return None,
            Err(error) => {
                let message = format!("this is no devfile: {error}");
                self.error(Code::WrongType, tree.place, &Trail::ROOT, message);
                return None;
            }
        };
        let rules = self.options.rules;
        self.report(|reporter| validate(&devfile, tree, rules, reporter));
        Some(devfile)
    }

    /// Draws parents and plugins into a content, on all levels.
    fn imports(&mut self, mut content: Node, own: &Position<'_>) -> Option<Node> {
        let parent = match content.remove("parent") {
            Some(parent) => Some(self.parent(parent, own)?),
            None => None,
        };
        let mut plugins = Vec::new();
        let mut failed = false;
        let components = Trail::ROOT.key("components");
        for (index, component) in content.items_at("components").iter().enumerate() {
            let Some(plugin) = component.get("plugin") else {
                continue;
            };
            let item = components.index(index);
            let at = item.key("plugin");
            let name = component.text_at("name").unwrap_or_default().to_owned();
            match self.import(plugin, &at, own, "plugin", &name) {
                Some(imported) => plugins.push((name, imported)),
                None => failed = true,
            }
        }
        if failed {
            return None;
        }
        let style = self.options.style;
        self.report(|reporter| merge::merge(content, parent, plugins, style, reporter))
    }

    fn parent(&mut self, parent: Node, own: &Position<'_>) -> Option<Node> {
        let at = Trail::ROOT.key("parent");
        self.import(&parent, &at, own, "parent", operator::BY_PARENT)
    }

    /// Reads what a parent or plugin names, flattens it and applies the overrides beside the name. `by` is what the
    /// operator calls it.
    fn import(
        &mut self,
        import: &Node,
        at: &Trail<'_>,
        own: &Position<'_>,
        role: &'static str,
        by: &str,
    ) -> Option<Node> {
        let base = self.sources.name(import.place.document).to_owned();
        let defaults = reference::Defaults {
            registries: &self.options.registries,
            namespace: self.options.namespace.as_deref(),
        };
        let candidates =
            self.report(|reporter| reference::read(import, at, &base, defaults, reporter))?;
        let (reference, text) = self.fetch_first(import, at, candidates, own)?;
        let number = self.sources.add(Source::new(reference.to_string(), &text));
        let found = self.report(|reporter| document::read(number, reporter))?;
        if found.version > own.version {
            self.error_with_hint(
                Code::ImportVersion,
                import.place,
                at,
                format!(
                    "the {role} {reference} has schemaVersion {}, which is newer than {}",
                    found.version.name(),
                    own.version.name()
                ),
                Some(format!(
                    "write schemaVersion: {} here too",
                    found.version.name()
                )),
            );
            return None;
        }
        let label = reference::label(import, &reference, self.options.namespace.as_deref());
        let below = Position {
            above: Some(own),
            version: found.version,
            label: reference::resolved_label(&reference, &label),
            reference: Some(reference),
        };
        let mut content = self.imports(found.into_content(), &below)?;
        for key in ["schemaVersion", "metadata"] {
            content.remove(key);
        }
        let mut patch = import.clone();
        reference::remove_reference(&mut patch);
        if self.options.style == Style::Operator {
            let applied = self.report(|it| overrides::apply(content, patch, at, role, it));
            let mut content = applied?;
            overrides::mark(&mut content, operator::IMPORTED_BY, by, true);
            return Some(content);
        }
        overrides::mark(&mut content, overrides::IMPORTED_FROM, &label, true);
        let override_from = if role == "parent" {
            overrides::PARENT_OVERRIDE_FROM
        } else {
            overrides::PLUGIN_OVERRIDE_FROM
        };
        overrides::mark(&mut patch, override_from, &own.label, role == "parent");
        self.report(|reporter| overrides::apply(content, patch, at, role, reporter))
    }

    fn fetch_first(
        &mut self,
        import: &Node,
        at: &Trail<'_>,
        candidates: Vec<Reference>,
        own: &Position<'_>,
    ) -> Option<(Reference, String)> {
        let mut last = None;
        for reference in candidates {
            if own.reaches(&reference) {
                self.error(
                    Code::ImportCycle,
                    import.place,
                    at,
                    format!("{} -> {reference} is a circle", own.chain()),
                );
                return None;
            }
            self.imports += 1;
            if self.imports > MAX_IMPORTS || own.depth() >= MAX_IMPORT_DEPTH {
                self.error(
                    Code::ImportLimit,
                    import.place,
                    at,
                    format!(
                        "at most {MAX_IMPORTS} parents and plugins in {MAX_IMPORT_DEPTH} levels are drawn in"
                    ),
                );
                return None;
            }
            match self.fetch.fetch(&reference) {
                Ok(text) => return Some((reference, text)),
                Err(error) => last = Some((reference, error)),
            }
        }
        if let Some((reference, error)) = last {
            self.error_with_hint(
                Code::ImportFailed,
                import.place,
                at,
                format!("{reference}: {}", error.message),
                error.hint,
            );
        }
        None
    }

    /// Puts what kubernetes and openshift components name by uri in; the uri stays in an attribute.
    fn inline_uris(&mut self, content: &mut Node) {
        let Some(components) = content.get_mut("components") else {
            return;
        };
        let Value::List(components) = &mut components.value else {
            return;
        };
        let list = Trail::ROOT.key("components");
        for (index, component) in components.iter_mut().enumerate() {
            let item = list.index(index);
            for kind in ["kubernetes", "openshift"] {
                let body = item.key(kind);
                let Some(objects) = component.get_mut(kind) else {
                    continue;
                };
                let Some(uri) = objects.get("uri").cloned() else {
                    continue;
                };
                let written = uri.as_text().unwrap_or_default().to_owned();
                let at = body.key("uri");
                if written.is_empty() || crate::validate::is_valid_uri(&written).is_err() {
                    if !written.is_empty() {
                        self.error(
                            Code::UriInvalid,
                            uri.place,
                            &at,
                            format!("{written:?} cannot be read as a uri"),
                        );
                    }
                    continue;
                }
                match self.fetch_file(&uri, &written) {
                    Ok(text) => {
                        objects.remove("uri");
                        objects.set("inlined", Node::text(uri.place, text));
                        overrides::set_attribute(
                            component,
                            overrides::ORIGINAL_URI,
                            Node::text(uri.place, written),
                        );
                    }
                    Err(error) => self.error_with_hint(
                        Code::ImportFailed,
                        uri.place,
                        &at,
                        format!("{written}: {}", error.message),
                        error.hint,
                    ),
                }
            }
        }
    }

    /// A path is relative to the document it is written in, also when that is a parent.
    fn fetch_file(&mut self, uri: &Node, written: &str) -> Result<String, FetchError> {
        let base = self.sources.name(uri.place.document).to_owned();
        let location = resolve(&base, written).map_err(FetchError::new)?;
        self.imports += 1;
        if self.imports > MAX_IMPORTS {
            return Err(FetchError::new(format!(
                "at most {MAX_IMPORTS} parents, plugins and files are drawn in"
            )));
        }
        self.fetch.fetch(&Reference::Location(location))
    }
}

/// Parts of flattening alone, for the upstream cases.
#[cfg(test)]
pub(crate) mod testing {
    use super::{Node, Reporter, Style, Trail, merge, overrides};

    pub(crate) fn apply_overrides(
        original: Node,
        patch: Node,
        reporter: &mut Reporter<'_>,
    ) -> Option<Node> {
        overrides::apply(
            original,
            patch,
            &Trail::ROOT.key("parent"),
            "parent",
            reporter,
        )
    }

    pub(crate) fn merge_contents(
        mut main: Node,
        parent: Option<Node>,
        plugin: Option<Node>,
        reporter: &mut Reporter<'_>,
    ) -> Option<Node> {
        main.remove("parent");
        let plugins = plugin.map(|plugin| ("plugin".to_owned(), plugin));
        let plugins = plugins.into_iter().collect();
        merge::merge(main, parent, plugins, Style::Library, reporter)
    }
}
