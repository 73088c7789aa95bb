//! A developer's day in a real browser: sign in, make a workspace, wait and see why, edit, test. Each picture of it is kept.
//!
//! The server, an agent and the repository are there already; the demo and the end-to-end tests start this beside them.
#![expect(clippy::print_stdout, reason = "it tells what it sees")]

mod editor;
mod page;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use clap::Parser;

use editor::Editor;
use page::{Page, SOON};

/// From a wish to its end, on a busy machine.
const LIFE: Duration = Duration::from_secs(180);
/// What the README says afterwards.
const NEW_LINE: &str = "Edited in the browser.";

/// Goes through a developer's day in Chromium; fails when something is not as it should be
#[derive(Debug, Parser)]
struct Arguments {
    /// A link that signs in, not used yet
    #[arg(long)]
    sign_in_link: String,
    /// The sample's repository
    #[arg(long)]
    repository: String,
    /// How the workspace is called
    #[arg(long)]
    workspace: String,
    /// Where pictures go
    #[arg(long)]
    pictures: PathBuf,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let page = Page::open(&arguments.pictures)?;
    let journey = Journey {
        arguments: &arguments,
        page: &page,
    };
    let result = journey.day();
    if result.is_err() {
        page.picture("end").ok();
    }
    result
}

struct Journey<'a> {
    arguments: &'a Arguments,
    page: &'a Page,
}

impl Journey<'_> {
    fn day(&self) -> Result<()> {
        step("sign in by the link", || self.sign_in())?;
        step("make a workspace of the repository", || self.create())?;
        step("see its state until it runs", || self.runs())?;
        step("open the editor and see the project", || self.edit())?;
        step("run the tests in the terminal", || self.test())
    }

    fn sign_in(&self) -> Result<()> {
        self.page.go(&self.arguments.sign_in_link)?;
        self.page.picture("sign-in")?;
        self.page.click("main button")?;
        self.page.wait_for_text("h1", "Workspaces", SOON)?;
        self.page.picture("list")
    }

    fn create(&self) -> Result<()> {
        self.page.click("a[href='/workspaces/new']")?;
        // First as people do it who mistype.
        self.page
            .fill("input[name=repository]", "https://git.invalid/nothing.git")?;
        self.page.click("form.fields button")?;
        self.page.wait_for("#problem", LIFE)?;
        self.page.picture("wrong-repository")?;
        self.page
            .fill("input[name=repository]", &self.arguments.repository)?;
        self.page
            .fill("input[name=name]", &self.arguments.workspace)?;
        self.page.picture("form")?;
        self.page.click("form.fields button")?;
        self.page
            .wait_for_text("h1", &self.arguments.workspace, LIFE)
    }

    /// The page turns by itself.
    fn runs(&self) -> Result<()> {
        self.page.picture("starting")?;
        self.page.wait_for_text("#state", "Running", LIFE)?;
        self.page.picture("running")
    }

    fn edit(&self) -> Result<()> {
        let began = Instant::now();
        self.page.click("#open")?;
        let editor = Editor::loaded(self.page, "README.md")?;
        println!(
            "        usable after {:.1} s",
            began.elapsed().as_secs_f64()
        );
        self.page.picture("editor")?;
        editor.open("README.md", "sample")?;
        editor.replace_all(&format!("# The sample\n\n{NEW_LINE}\n"))?;
        self.page.picture("edited")
    }

    fn test(&self) -> Result<()> {
        let editor = Editor::loaded(self.page, "README.md")?;
        editor.open_terminal()?;
        editor.command_says("python3 -m unittest -v", "Ran 2 tests")?;
        editor.terminal_says("OK")?;
        editor.command_says("echo kept-$((40 + 2)) > ~/kept; cat ~/kept", "kept-42")?;
        self.page.picture("tests")
    }
}

fn step(what: &str, act: impl FnOnce() -> Result<()>) -> Result<()> {
    let began = Instant::now();
    act().with_context(|| format!("cannot {what}"))?;
    println!("    {what} ({:.1} s)", began.elapsed().as_secs_f64());
    Ok(())
}
