//! A developer's day in a real browser: sign in, make a workspace, wait and see why, edit, test, run, commit, push, stop,
//! start again. Each picture of it is kept.
//!
//! The server, an agent and the repository are there already; the demo and the end-to-end tests start this beside them.
#![expect(clippy::print_stdout, reason = "it tells what it sees")]

mod editor;
mod page;

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::{Parser, Subcommand};
use harness::step::run;

use editor::Editor;
use page::{Page, SOON};

/// From a wish to its end, on a busy machine.
const LIFE: Duration = Duration::from_secs(180);
/// What the README says afterwards.
const NEW_LINE: &str = "Edited in the browser.";

/// Goes through a developer's day in Chromium; fails when something is not as it should be
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    way: Way,
    /// A link that signs in, not used yet
    #[arg(long, global = true, default_value = "")]
    sign_in_link: String,
    /// The sample's repository
    #[arg(long, global = true, default_value = "")]
    repository: String,
    /// How the workspace is called
    #[arg(long, global = true, default_value = "")]
    workspace: String,
    /// The token that the Git server takes for a push
    #[arg(
        long,
        global = true,
        env = "JOURNEY_PUSH_TOKEN",
        hide_env_values = true,
        default_value = ""
    )]
    push_token: String,
    /// Where pictures go
    #[arg(long, global = true, default_value = "pictures")]
    pictures: PathBuf,
}

#[derive(Clone, Copy, Debug, Subcommand)]
enum Way {
    /// Edit, test, run, commit, push, stop and start again
    Day,
    /// Keep an editor open while things end: it says `now: <what>` and waits for a line until that was done
    Trouble,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let page = Page::open(&arguments.pictures)?;
    let journey = Journey {
        arguments: &arguments,
        page: &page,
    };
    let result = match arguments.way {
        Way::Day => journey.day(),
        Way::Trouble => journey.trouble(),
    };
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
        step("run the tests in the terminal", || self.test())?;
        step("start the sample's own server, and open it", || {
            self.serve()
        })?;
        step("commit and push", || self.push())?;
        step("stop it and start it again, as it was", || self.again())
    }

    /// An open editor outlives what carries it.
    fn trouble(&self) -> Result<()> {
        step("sign in by the link", || self.sign_in())?;
        self.page.go(&self.platform()?)?;
        self.page.wait_for_text("#state", "Running", LIFE)?;
        self.page.click("#open")?;
        let editor = Editor::loaded(self.page, "README.md")?;
        editor.open("README.md", "sample")?;
        editor.open_terminal()?;
        for (number, what) in ["leader", "server"].into_iter().enumerate() {
            let typed = format!("typed before the {what} went");
            editor.add(&typed)?;
            outside(what)?;
            step(&format!("go on after the {what} went"), || {
                // The terminal's own process is the same: it has its variables.
                editor.command("seen=$((seen + 1)); echo seen-$seen-times")?;
                editor.terminal_says(&format!("seen-{}-times", number + 1))?;
                editor.shows(&typed)?;
                editor.save()?;
                self.page.picture(&format!("after-{what}"))
            })?;
        }
        outside("stop")?;
        step("be told that it is stopped, and start it", || {
            self.page.picture("stopped-under-the-editor")?;
            let page = self.page.beside()?;
            page.go(&self.page.url())?;
            page.wait_for_text("h1", "is stopped", SOON)?;
            page.click("a[href*='/workspaces/']")?;
            page.click("#start")?;
            page.wait_for_text("#state", "Running", LIFE)?;
            page.click("#open")?;
            let editor = Editor::loaded(&page, "README.md")?;
            editor.open("README.md", "typed before the server went")?;
            page.picture("started-again")
        })
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
        // HOME is kept over stop and start.
        editor.command_says("echo kept-$((40 + 2)) > ~/kept; cat ~/kept", "kept-42")?;
        self.page.picture("tests")
    }

    fn serve(&self) -> Result<()> {
        let editor = Editor::loaded(self.page, "README.md")?;
        editor.command_says("python3 app.py &", "listening on 8080")?;
        let at = self.page.url();
        let web = at.replacen("60001-", "8080-", 1);
        let origin = web.split("/?").next().unwrap_or(&web);
        let web = self.page.beside()?;
        web.go(origin)?;
        web.wait_for_text("body", "Hello from the sample", SOON)?;
        web.picture("own-server")?;
        self.page.to_front()
    }

    fn push(&self) -> Result<()> {
        let editor = Editor::loaded(self.page, "README.md")?;
        editor.command("git config user.name Dev && git config user.email dev@example.com")?;
        editor.command_says(
            "git commit -qam Greet && git --no-pager log -1 --format=subject-is-%s",
            "subject-is-Greet",
        )?;
        editor.command("clear; git push -q origin HEAD && echo push-ended-$?")?;
        // The editor asks in the terminal's place.
        editor.answer("Username", "dev")?;
        editor.answer("Password", &self.arguments.push_token)?;
        editor.terminal_says("push-ended-0")?;
        // The credential is remembered for a while: nothing is asked again.
        editor.command_says(
            "clear; git commit -q --allow-empty -m Again && git push -q origin HEAD && echo second-push-$?",
            "second-push-0",
        )?;
        self.page.picture("pushed")?;
        let pushed = format!("{}/at-server", self.arguments.pictures.display());
        std::fs::remove_dir_all(&pushed).ok();
        let mut clone = Command::new("git");
        clone.args(["clone", "--quiet", &self.arguments.repository, &pushed]);
        run(&mut clone)?;
        let text = std::fs::read_to_string(format!("{pushed}/README.md"))?;
        std::fs::remove_dir_all(&pushed).ok();
        ensure!(
            text.contains(NEW_LINE),
            "the Git server does not have the change"
        );
        Ok(())
    }

    fn again(&self) -> Result<()> {
        // The editor stays open meanwhile, in its own tab.
        let page = self.page.beside()?;
        page.go(&self.platform()?)?;
        page.click("#stop")?;
        page.wait_for_text("#state", "Stopped", LIFE)?;
        page.picture("stopped")?;
        // Its address says so, and where it is started.
        page.go(&self.page.url())?;
        page.wait_for_text("h1", "is stopped", SOON)?;
        page.picture("stopped-address")?;
        page.click("a[href*='/workspaces/']")?;
        page.click("#start")?;
        page.wait_for_text("#state", "Running", LIFE)?;
        page.click("#open")?;
        let editor = Editor::loaded(&page, "README.md")?;
        editor.open("README.md", NEW_LINE)?;
        editor.open_terminal()?;
        editor.command_says("clear; cat ~/kept; git status -sb", "kept-42")?;
        page.picture("again")
    }

    /// The workspace's page on the server.
    fn platform(&self) -> Result<String> {
        let link = &self.arguments.sign_in_link;
        let (server, _) = link.split_once("/sign-in/").context("no sign-in link")?;
        Ok(format!("{server}/workspaces/{}", self.arguments.workspace))
    }
}

/// Lets somebody else do something to the system, and waits until it is done.
fn outside(what: &str) -> Result<()> {
    println!("now: {what}");
    let mut line = String::new();
    std::io::stdin().read_line(&mut line)?;
    ensure!(!line.is_empty(), "nobody is there any more");
    Ok(())
}

fn step(what: &str, act: impl FnOnce() -> Result<()>) -> Result<()> {
    let began = Instant::now();
    act().with_context(|| format!("cannot {what}"))?;
    println!("    {what} ({:.1} s)", began.elapsed().as_secs_f64());
    Ok(())
}
