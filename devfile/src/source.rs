//! The texts that were read, and places in them.

/// A place in one of the texts: where a value starts, and how far it reaches on its line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Place {
    /// Which text, by its number in [`Sources`].
    pub document: u32,
    /// Line, counted from 1.
    pub line: u32,
    /// Column in characters, counted from 1.
    pub column: u32,
    /// How many characters the value has on its first line; 0 is taken as 1.
    pub length: u32,
}

/// One text and the name people know it by (a file, an address, `-` for standard input).
#[derive(Debug, Clone)]
pub struct Source {
    name: String,
    text: String,
    /// Byte offset at which each line starts.
    starts: Vec<usize>,
}

impl Source {
    /// Takes a text under a name. A byte-order mark in front is not part of it.
    #[must_use]
    pub fn new(name: impl Into<String>, text: &str) -> Self {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text).to_owned();
        let mut starts = vec![0];
        let bytes = text.as_bytes();
        for (at, byte) in bytes.iter().enumerate() {
            // A lone carriage return ends a line in YAML too.
            let ends = *byte == b'\n' || (*byte == b'\r' && bytes.get(at + 1) != Some(&b'\n'));
            if ends {
                starts.push(at + 1);
            }
        }
        Self {
            name: name.into(),
            text,
            starts,
        }
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The text, without a byte-order mark.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Line and column behind the last character.
    pub(crate) fn end(&self) -> (u32, u32) {
        let start = self.starts.last().copied().unwrap_or_default();
        let last = self.text.get(start..).unwrap_or_default();
        let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        (
            number(self.starts.len()),
            number(last.chars().count().saturating_add(1)),
        )
    }

    /// A line without its end, counted from 1.
    #[must_use]
    pub fn line(&self, line: u32) -> Option<&str> {
        let index = usize::try_from(line).ok()?.checked_sub(1)?;
        let start = *self.starts.get(index)?;
        let end = self
            .starts
            .get(index + 1)
            .copied()
            .unwrap_or(self.text.len());
        Some(self.text.get(start..end)?.trim_end_matches(['\n', '\r']))
    }
}

/// All texts of one devfile: itself first, then its parents and plugins in the order they were read.
#[derive(Debug, Clone, Default)]
pub struct Sources(Vec<Source>);

/// Longest part of a line that an excerpt shows.
const EXCERPT_WIDTH: usize = 120;

impl Sources {
    /// Adds a text and says its number.
    pub fn add(&mut self, source: Source) -> u32 {
        self.0.push(source);
        u32::try_from(self.0.len() - 1).unwrap_or(u32::MAX)
    }

    /// A text by its number.
    #[must_use]
    pub fn get(&self, document: u32) -> Option<&Source> {
        self.0.get(usize::try_from(document).ok()?)
    }

    /// The name of a text.
    #[must_use]
    pub fn name(&self, document: u32) -> &str {
        self.get(document).map_or("", Source::name)
    }

    /// What stands at a place, as it is written, if it is on one line.
    #[must_use]
    pub fn written(&self, place: Place) -> Option<String> {
        let line = self.get(place.document)?.line(place.line)?;
        let skip = usize::try_from(place.column).ok()?.checked_sub(1)?;
        let length = usize::try_from(place.length).ok()?;
        let text: String = line.chars().skip(skip).take(length).collect();
        (!text.is_empty()).then_some(text)
    }

    /// The line at a place with a caret below the value. Long lines are cut around it.
    #[must_use]
    pub fn excerpt(&self, place: Place) -> Option<String> {
        let line = self.get(place.document)?.line(place.line)?;
        let characters: Vec<char> = line
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect();
        let column = usize::try_from(place.column.max(1)).ok()? - 1;
        let column = column.min(characters.len());
        let first = if characters.len() <= EXCERPT_WIDTH || column < EXCERPT_WIDTH / 2 {
            0
        } else {
            column - EXCERPT_WIDTH / 2
        };
        let last = characters.len().min(first + EXCERPT_WIDTH);
        let before = if first > 0 { "…" } else { "" };
        let after = if last < characters.len() { "…" } else { "" };
        let shown: String = characters[first..last].iter().collect();
        let carets = usize::try_from(place.length.max(1))
            .ok()?
            .min(last.saturating_sub(column).max(1));
        let number = place.line.to_string();
        let margin = " ".repeat(number.len());
        let indent = " ".repeat(column - first + before.chars().count());
        let carets = "^".repeat(carets);
        Some(format!(
            "{number} | {before}{shown}{after}\n{margin} | {indent}{carets}"
        ))
    }
}
