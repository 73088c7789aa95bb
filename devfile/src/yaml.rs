//! YAML text to a tree with places.
//!
//! Scalars are read as the Go library's YAML 1.1 reader reads them (`yes`, `on`, `0x10`, `1_000`), because that is
//! what other tools will see; every such value can then be explained where a text is due.

mod scalar;
mod write;

use std::collections::{HashMap, HashSet};

pub use write::yaml_text;

use granit_parser::{ErrorKind, Event, Options, Parser, ScalarStyle, Span, StrInput, Tag};

use crate::code::Code;
use crate::diagnostic::{Reporter, Severity};
use crate::limits::{MAX_ALIAS_BYTES, MAX_ALIAS_VALUES, MAX_DEPTH, MAX_DOCUMENT_BYTES, MAX_VALUES};
use crate::node::{Entry, Node, Trail, Value};
use crate::source::{Place, Source, Sources};

/// Reads the first YAML document of a text. `None` when it could not be read; why is in the reporter.
pub(crate) fn read(document: u32, reporter: &mut Reporter<'_>) -> Option<Node> {
    let sources: &Sources = reporter.sources();
    let source = sources.get(document)?;
    let text = source.text();
    let start = Place {
        document,
        line: 1,
        column: 1,
        length: 1,
    };
    if text.len() > MAX_DOCUMENT_BYTES {
        reporter.add(
            Code::DocumentTooLarge,
            start,
            &Trail::ROOT,
            format!("the document has {} bytes", text.len()),
            Some(format!("at most {MAX_DOCUMENT_BYTES} bytes are read")),
        );
        return None;
    }
    let mut options = Options::default();
    options.set_emit_comments(false);
    let mut composer = Composer {
        parser: Parser::new_from_str_with_options(text, options),
        text,
        document,
        reporter,
        anchors: HashMap::new(),
        values: 0,
        alias_values: 0,
        alias_bytes: 0,
    };
    match composer.documents(false) {
        Ok(mut documents) if !documents.is_empty() => Some(documents.swap_remove(0)),
        Ok(_) => Some(Node::new(start, Value::Null)),
        Err(Stop) => None,
    }
}

/// Reads all documents of a text that is embedded in a devfile. On failure the first problem's message.
pub(crate) fn read_embedded(text: &str) -> Result<Vec<Node>, String> {
    if text.len() > MAX_DOCUMENT_BYTES {
        return Err(format!("the text has more than {MAX_DOCUMENT_BYTES} bytes"));
    }
    let mut sources = Sources::default();
    let document = sources.add(Source::new("embedded", text));
    let mut reporter = Reporter::new(&sources);
    let mut options = Options::default();
    options.set_emit_comments(false);
    let documents = Composer {
        parser: Parser::new_from_str_with_options(text, options),
        text,
        document,
        reporter: &mut reporter,
        anchors: HashMap::new(),
        values: 0,
        alias_values: 0,
        alias_bytes: 0,
    }
    .documents(true);
    let problem = reporter
        .finish()
        .into_iter()
        .find(|found| found.severity == Severity::Error);
    match (documents, problem) {
        (Ok(documents), None) => Ok(documents),
        (_, Some(problem)) => Err(format!("line {} of it: {}", problem.line, problem.message)),
        (Err(Stop), None) => Err("it cannot be read".into()),
    }
}

/// Reading cannot go on; the reason was reported.
struct Stop;

/// An anchored value and what it costs to repeat it.
struct Anchored {
    node: Node,
    values: usize,
    bytes: usize,
}

struct Composer<'a, 'r, 's> {
    parser: Parser<'a, StrInput<'a>>,
    text: &'a str,
    document: u32,
    reporter: &'r mut Reporter<'s>,
    anchors: HashMap<usize, Anchored>,
    values: usize,
    alias_values: usize,
    alias_bytes: usize,
}

impl<'a> Composer<'a, '_, '_> {
    fn documents(&mut self, all: bool) -> Result<Vec<Node>, Stop> {
        let mut documents = Vec::new();
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::DocumentStart(..) if all || documents.is_empty() => {
                    let (event, span) = self.next()?;
                    documents.push(self.node(event, span, 0, &Trail::ROOT)?);
                }
                Event::DocumentStart(..) => {
                    let place = self.place(span, 1);
                    self.reporter.add(
                        Code::ExtraDocuments,
                        place,
                        &Trail::ROOT,
                        "a second YAML document starts here; only the first one is read",
                        None,
                    );
                    return Ok(documents);
                }
                Event::StreamEnd => return Ok(documents),
                _ => {}
            }
        }
    }

    fn next(&mut self) -> Result<(Event<'a>, Span), Stop> {
        match self.parser.next_event() {
            Some(Ok(next)) => Ok(next),
            None => Ok((
                Event::StreamEnd,
                Span::empty(granit_parser::Marker::new(0, 1, 0)),
            )),
            Some(Err(error)) => {
                let marker = *error.marker();
                let place = Place {
                    document: self.document,
                    line: number(marker.line()),
                    column: number(marker.col() + 1),
                    length: 1,
                };
                let too_deep = matches!(error.kind(), ErrorKind::RecursionLimitExceeded);
                let line = self
                    .reporter
                    .sources()
                    .get(self.document)
                    .and_then(|source| source.line(place.line))
                    .unwrap_or_default()
                    .to_owned();
                if too_deep {
                    return self.too_deep(place);
                }
                self.reporter.add(
                    Code::YamlSyntax,
                    place,
                    &Trail::ROOT,
                    format!("this is no YAML that can be read: {}", error.info()),
                    syntax_hint(&line),
                );
                Err(Stop)
            }
        }
    }

    fn node(
        &mut self,
        event: Event<'a>,
        span: Span,
        depth: usize,
        trail: &Trail<'_>,
    ) -> Result<Node, Stop> {
        self.values += 1;
        if self.values > MAX_VALUES {
            let place = self.place(span, 1);
            self.reporter.add(
                Code::TooManyValues,
                place,
                &Trail::ROOT,
                format!("the document has more than {MAX_VALUES} values"),
                None,
            );
            return Err(Stop);
        }
        if depth > MAX_DEPTH {
            let place = self.place(span, 1);
            return self.too_deep(place);
        }
        match event {
            Event::Alias(id) => self.alias(id, span),
            Event::Scalar(text, style, anchor, tag) => {
                let place = self.scalar_place(&text, style, span);
                let value = self.scalar(&text, style, tag.as_deref(), place);
                let node = Node::new(place, value);
                self.remember(anchor, &node);
                Ok(node)
            }
            Event::SequenceStart(_, anchor, _) => {
                let mut items = Vec::new();
                loop {
                    let (event, span) = self.next()?;
                    if matches!(event, Event::SequenceEnd | Event::StreamEnd) {
                        break;
                    }
                    let below = trail.index(items.len());
                    items.push(self.node(event, span, depth + 1, &below)?);
                }
                let node = Node::new(self.place(span, 1), Value::List(items));
                self.remember(anchor, &node);
                Ok(node)
            }
            Event::MappingStart(_, anchor, _) => {
                let node = self.mapping(span, depth, trail)?;
                self.remember(anchor, &node);
                Ok(node)
            }
            _ => Ok(Node::new(self.place(span, 1), Value::Null)),
        }
    }

    fn mapping(&mut self, start: Span, depth: usize, trail: &Trail<'_>) -> Result<Node, Stop> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut seen: HashMap<String, Place> = HashMap::new();
        let mut merged: Vec<Node> = Vec::new();
        loop {
            let (event, span) = self.next()?;
            let (text, style, place) = match event {
                Event::MappingEnd | Event::StreamEnd => break,
                Event::Scalar(text, style, anchor, _) => {
                    let place = self.scalar_place(&text, style, span);
                    let node = Node::text(place, text.as_ref());
                    self.remember(anchor, &node);
                    (text.into_owned(), style, place)
                }
                Event::Alias(id) => {
                    let node = self.alias(id, span)?;
                    match node.as_text() {
                        Some(text) => (text.to_owned(), ScalarStyle::DoubleQuoted, node.place),
                        None => return self.bad_key(start, span, trail),
                    }
                }
                _ => return self.bad_key(start, span, trail),
            };
            let (event, span) = self.next()?;
            let below = trail.key(&text);
            let node = self.node(event, span, depth + 1, &below)?;
            if text == "<<" && style == ScalarStyle::Plain {
                self.collect_merge(node, &mut merged);
                continue;
            }
            if let Some(first) = seen.get(&text) {
                self.reporter.add(
                    Code::DuplicateKey,
                    place,
                    &below,
                    format!("the key {text:?} stands twice in one mapping"),
                    Some(format!(
                        "it first stands in line {}; other readers silently keep the last one",
                        first.line
                    )),
                );
                continue;
            }
            seen.insert(text.clone(), place);
            entries.push(Entry {
                key: text,
                place,
                node,
            });
        }
        // What is written in the mapping itself wins over what `<<` brings, and the first of several `<<` wins.
        let mut taken: HashSet<String> = seen.into_keys().collect();
        for node in merged {
            if let Value::Mapping(more) = node.value {
                for entry in more {
                    if taken.insert(entry.key.clone()) {
                        entries.push(entry);
                    }
                }
            }
        }
        Ok(Node::new(self.place(start, 1), Value::Mapping(entries)))
    }

    fn collect_merge(&mut self, node: Node, merged: &mut Vec<Node>) {
        let place = node.place;
        match node.value {
            Value::Mapping(_) => merged.push(node),
            Value::List(items)
                if items
                    .iter()
                    .all(|item| matches!(item.value, Value::Mapping(_))) =>
            {
                merged.extend(items);
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Text(_) | Value::List(_) => {
                self.reporter.add(
                    Code::YamlSyntax,
                    place,
                    &Trail::ROOT,
                    "`<<` takes a mapping or a list of mappings",
                    None,
                );
            }
        }
    }

    fn alias(&mut self, id: usize, span: Span) -> Result<Node, Stop> {
        let place = self.place(span, 1);
        let Some(anchored) = self.anchors.get(&id) else {
            self.reporter.add(
                Code::YamlSyntax,
                place,
                &Trail::ROOT,
                "the alias stands inside of what it names",
                None,
            );
            return Err(Stop);
        };
        self.values += anchored.values;
        self.alias_values += anchored.values;
        self.alias_bytes += anchored.bytes;
        if self.alias_values > MAX_ALIAS_VALUES || self.alias_bytes > MAX_ALIAS_BYTES {
            self.reporter.add(
                Code::AliasBomb,
                place,
                &Trail::ROOT,
                format!(
                    "aliases add more than {MAX_ALIAS_VALUES} values or {MAX_ALIAS_BYTES} bytes to the document"
                ),
                Some("write the repeated part out where it is needed".into()),
            );
            return Err(Stop);
        }
        Ok(anchored.node.clone())
    }

    fn remember(&mut self, anchor: usize, node: &Node) {
        if anchor != 0 {
            let (values, bytes) = weigh(node);
            self.anchors.insert(
                anchor,
                Anchored {
                    node: node.clone(),
                    values,
                    bytes,
                },
            );
        }
    }

    fn scalar(&mut self, text: &str, style: ScalarStyle, tag: Option<&Tag>, place: Place) -> Value {
        let core = tag.and_then(Tag::core_suffix);
        let plain = match core {
            Some("str") => return Value::Text(text.to_owned()),
            Some("int" | "float" | "bool" | "null") => true,
            Some(_) | None => {
                if let Some(tag) = tag
                    && tag.suffix() == "binary"
                {
                    self.reporter.add(
                        Code::UnsupportedTag,
                        place,
                        &Trail::ROOT,
                        "binary values are not read",
                        Some("write the text itself".into()),
                    );
                }
                style == ScalarStyle::Plain && tag.is_none_or(|tag| tag.suffix() != "")
            }
        };
        if !plain {
            return Value::Text(text.to_owned());
        }
        scalar::resolve(text).unwrap_or_else(|scalar::NotFinite| {
            self.reporter.add(
                Code::NumberNotFinite,
                place,
                &Trail::ROOT,
                format!("{text} is a number without an end in YAML, which JSON cannot hold"),
                Some(format!("write \"{text}\" if a text is meant")),
            );
            Value::Text(text.to_owned())
        })
    }

    fn bad_key<T>(&mut self, mapping: Span, key: Span, trail: &Trail<'_>) -> Result<T, Stop> {
        // `{{name}}` without quotes is a mapping as the key of a mapping.
        let at = mapping.start.byte_offset().unwrap_or_default();
        let variable = self
            .text
            .get(at..)
            .filter(|rest| rest.starts_with("{{"))
            .and_then(|rest| rest.split_once("}}"))
            .map(|(inner, _)| format!("{inner}}}}}"));
        match variable {
            Some(variable) => {
                let length = number(variable.chars().count());
                let place = self.place(mapping, length);
                self.reporter.add(
                    Code::UnquotedVariable,
                    place,
                    trail,
                    format!("YAML reads {variable} without quotes as a mapping in a mapping"),
                    Some(format!("write \"{variable}\" or '{variable}'")),
                );
            }
            None => {
                let place = self.place(key, 1);
                self.reporter.add(
                    Code::YamlSyntax,
                    place,
                    trail,
                    "a list or a mapping cannot be a key",
                    None,
                );
            }
        }
        Err(Stop)
    }

    fn too_deep<T>(&mut self, place: Place) -> Result<T, Stop> {
        self.reporter.add(
            Code::TooDeep,
            place,
            &Trail::ROOT,
            format!("lists and mappings stand more than {MAX_DEPTH} deep in one another"),
            None,
        );
        Err(Stop)
    }

    fn place(&self, span: Span, length: u32) -> Place {
        Place {
            document: self.document,
            line: number(span.start.line()),
            column: number(span.start.col() + 1),
            length,
        }
    }

    fn scalar_place(&self, text: &str, style: ScalarStyle, span: Span) -> Place {
        let one_line = span.start.line() == span.end.line();
        let length = if one_line && span.end.col() > span.start.col() {
            span.end.col() - span.start.col()
        } else if style == ScalarStyle::Plain {
            text.lines().next().map_or(1, |line| line.chars().count())
        } else {
            1
        };
        self.place(span, number(length.max(1)))
    }
}

fn weigh(node: &Node) -> (usize, usize) {
    let mut values = 1;
    let mut bytes = 0;
    match &node.value {
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
        Value::Text(text) => bytes += text.len(),
        Value::List(items) => {
            for item in items {
                let (more_values, more_bytes) = weigh(item);
                values += more_values;
                bytes += more_bytes;
            }
        }
        Value::Mapping(entries) => {
            for entry in entries {
                let (more_values, more_bytes) = weigh(&entry.node);
                values += more_values;
                bytes += more_bytes + entry.key.len();
            }
        }
    }
    (values, bytes)
}

fn syntax_hint(line: &str) -> Option<String> {
    let indent: String = line.chars().take_while(|c| c.is_whitespace()).collect();
    if indent.contains('\t') {
        return Some("YAML is indented with spaces, never with tabs".into());
    }
    if line.contains("{{") {
        return Some("put quotes around a value that starts with {{".into());
    }
    let value = line.split_once(": ").map(|(_, value)| value.trim());
    match value.and_then(|value| value.chars().next()) {
        Some('@' | '`' | '%' | '*' | '&' | '!') => {
            Some("put quotes around a value that starts with such a character".into())
        }
        _ if value.is_some_and(|value| value.contains(": ")) => {
            Some("put quotes around a value that holds `: `".into())
        }
        _ => None,
    }
}

fn number(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

/// Whether other readers write a key of these characters, without quotes, in another way.
pub(crate) fn reads_differently(key: &str) -> bool {
    match scalar::resolve(key) {
        Ok(Value::Number(number)) => number.to_string() != key,
        Ok(Value::Text(_)) => false,
        _ => !matches!(key, "true" | "false"),
    }
}
