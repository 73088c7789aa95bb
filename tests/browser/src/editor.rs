//! VS Code in a tab: opening files, typing, its terminal.

use std::time::Duration;

use anyhow::Result;
use headless_chrome::browser::tab::ModifierKey;

use crate::page::{Page, SOON};

/// From the first request to a workbench that can be used: some megabytes of scripts, on a machine that has a cluster
/// to run beside.
const LOAD: Duration = Duration::from_secs(90);
/// A command in the terminal.
const COMMAND: Duration = Duration::from_secs(60);

/// The text of the terminal as it is drawn. Its rows are joined, as a long line goes on in the next.
const SCREEN: &str = "[...document.querySelectorAll('.xterm-rows > div')].map(it => it.innerText).join('').replaceAll('\\u00a0', ' ')";

pub(crate) struct Editor<'a>(&'a Page);

impl<'a> Editor<'a> {
    /// Waits until the workbench shows the project's files.
    pub(crate) fn loaded(page: &'a Page, file: &str) -> Result<Self> {
        page.wait_for(".monaco-workbench .part.editor", LOAD)?;
        let editor = Self(page);
        page.wait_for(&row(file), LOAD)?;
        Ok(editor)
    }

    /// Opens a file, and waits until this text of it is shown.
    pub(crate) fn open(&self, file: &str, text: &str) -> Result<()> {
        self.0.click(&row(file))?;
        self.0.key("Enter", &[])?;
        self.shows(text)
    }

    /// Replaces the text of the open file, and saves it.
    pub(crate) fn replace_all(&self, text: &str) -> Result<()> {
        self.0.click(".monaco-editor .view-lines")?;
        self.0.key("a", &[ModifierKey::Ctrl])?;
        self.0.key("Delete", &[])?;
        self.0.write(text)?;
        self.save()
    }

    /// Types a line at the end of the open file, without saving it.
    pub(crate) fn add(&self, line: &str) -> Result<()> {
        self.0.click(".monaco-editor .view-lines")?;
        self.0.key("End", &[ModifierKey::Ctrl])?;
        self.0.key("Enter", &[])?;
        self.0.write(line)?;
        self.shows(line)
    }

    /// Waits until the open file shows this.
    pub(crate) fn shows(&self, text: &str) -> Result<()> {
        let lines = "(document.querySelector('.monaco-editor .view-lines')?.innerText ?? '').replaceAll('\\u00a0', ' ')";
        let shows = format!("{lines}.includes({text:?})");
        self.0
            .wait(&format!("the file shows {text:?}"), COMMAND, &shows)
    }

    /// Saves the open file, and waits until it is no longer marked as changed.
    pub(crate) fn save(&self) -> Result<()> {
        self.0.key("s", &[ModifierKey::Ctrl])?;
        let clean = "document.querySelector('.tabs-container .tab.dirty') === null";
        self.0.wait("the file is saved", SOON, clean)
    }

    /// Opens a terminal and waits for its prompt.
    pub(crate) fn open_terminal(&self) -> Result<()> {
        self.0.key("`", &[ModifierKey::Ctrl])?;
        self.0.wait_for(".xterm-helper-textarea", SOON)?;
        let prompt = format!("/[$#] *$/.test({SCREEN}.trimEnd())");
        self.0.wait("the terminal shows a prompt", SOON, &prompt)
    }

    /// Types a command in the terminal.
    pub(crate) fn command(&self, command: &str) -> Result<()> {
        self.0.click(".xterm-screen")?;
        self.0.write(command)?;
        self.0.key("Enter", &[])
    }

    /// Types a command, and waits until the terminal shows this.
    pub(crate) fn command_says(&self, command: &str, answer: &str) -> Result<()> {
        self.command(command)?;
        self.terminal_says(answer)
    }

    /// Waits until the terminal shows this.
    pub(crate) fn terminal_says(&self, answer: &str) -> Result<()> {
        let says = format!("{SCREEN}.includes({answer:?})");
        self.0
            .wait(&format!("the terminal says {answer:?}"), COMMAND, &says)
    }

    /// Answers a question that the editor asks at its top, such as Git's for a password.
    pub(crate) fn answer(&self, question: &str, answer: &str) -> Result<()> {
        let asks = format!(
            "[...document.querySelectorAll('.quick-input-widget input')].some(it => it.offsetParent && it.placeholder.includes({question:?}))"
        );
        self.0
            .wait(&format!("the editor asks for {question}"), SOON, &asks)?;
        self.0.write(answer)?;
        self.0.key("Enter", &[])
    }
}

/// A file in the tree.
fn row(file: &str) -> String {
    format!(".explorer-folders-view .monaco-list-row[aria-label^=\"{file}\"]")
}
