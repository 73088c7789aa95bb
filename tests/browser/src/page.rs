//! A tab of Chromium: looking, waiting, typing, pictures.

use std::cell::Cell;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use harness::wait;
use headless_chrome::browser::tab::ModifierKey;
use headless_chrome::protocol::cdp::Page::CaptureScreenshotFormatOption;
use headless_chrome::{Browser, LaunchOptions, Tab};
use serde_json::Value;

/// Something that the page does by itself and at once.
pub(crate) const SOON: Duration = Duration::from_secs(20);
/// How long the browser may say nothing before it is given up; the longest wait of all.
const SILENCE: Duration = Duration::from_secs(600);
/// A laptop's window.
const WINDOW: (u32, u32) = (1280, 860);

/// A tab.
pub(crate) struct Page {
    /// Ends with its last tab.
    browser: Browser,
    tab: Arc<Tab>,
    pictures: PathBuf,
    taken: Rc<Cell<u32>>,
}

impl Page {
    /// Starts Chromium; pictures go to the folder.
    pub(crate) fn open(pictures: &Path) -> Result<Self> {
        std::fs::create_dir_all(pictures)?;
        let arguments = [
            // The terminal then draws text, which can be read, instead of pixels.
            "--disable-3d-apis",
            "--lang=en-US",
            "--disable-dev-shm-usage",
        ];
        let browser = Browser::new(LaunchOptions {
            path: Some("/usr/bin/chromium".into()),
            // Root runs this, on a machine for tests, and it opens nothing but our own server.
            sandbox: false,
            // The server's certificate is of its own authority, which a Chromium without a profile does not know.
            ignore_certificate_errors: true,
            window_size: Some(WINDOW),
            idle_browser_timeout: SILENCE,
            args: arguments.iter().map(OsStr::new).collect(),
            ..LaunchOptions::default()
        })
        .context("start chromium")?;
        Self::tab(browser, pictures, Rc::default())
    }

    fn tab(browser: Browser, pictures: &Path, taken: Rc<Cell<u32>>) -> Result<Self> {
        let tab = browser.new_tab()?;
        tab.set_default_timeout(SOON);
        Ok(Self {
            browser,
            tab,
            pictures: pictures.to_owned(),
            taken,
        })
    }

    /// Another tab, of the same person. An editor is not left: it would ask whether one really wants to.
    pub(crate) fn beside(&self) -> Result<Self> {
        Self::tab(self.browser.clone(), &self.pictures, Rc::clone(&self.taken))
    }

    /// Keys go to the tab in front.
    pub(crate) fn to_front(&self) -> Result<()> {
        self.tab.bring_to_front()?;
        Ok(())
    }

    pub(crate) fn go(&self, url: &str) -> Result<()> {
        self.tab.navigate_to(url)?;
        self.wait(
            "the page is there",
            SOON,
            "document.readyState !== 'loading'",
        )
    }

    pub(crate) fn url(&self) -> String {
        self.tab.get_url()
    }

    /// The value of an expression, as JSON.
    pub(crate) fn ask(&self, expression: &str) -> Result<Value> {
        let asked = format!("JSON.stringify(({expression}) ?? null)");
        let answer = self.tab.evaluate(&asked, false)?.value;
        let text = answer.as_ref().and_then(Value::as_str);
        Ok(serde_json::from_str(text.context("no answer")?)?)
    }

    /// Waits until an expression is true.
    pub(crate) fn wait(&self, what: &str, limit: Duration, expression: &str) -> Result<()> {
        let waited = wait::wait_until(what, limit, || {
            Ok(self.ask(expression)? == Value::Bool(true))
        });
        if waited.is_err() {
            self.picture("failed").ok();
            let shown = self.ask("document.body?.innerText.slice(0, 2000)");
            let shown = shown.ok().and_then(|it| Some(it.as_str()?.to_owned()));
            return waited.with_context(|| {
                format!(
                    "at {} the page shows: {}",
                    self.url(),
                    shown.unwrap_or_default()
                )
            });
        }
        Ok(())
    }

    /// Waits until a selector finds something.
    pub(crate) fn wait_for(&self, selector: &str, limit: Duration) -> Result<()> {
        let found = format!("document.querySelector({selector:?}) !== null");
        self.wait(&format!("{selector} is there"), limit, &found)
    }

    /// Waits until the text of what a selector finds has this in it.
    pub(crate) fn wait_for_text(&self, selector: &str, text: &str, limit: Duration) -> Result<()> {
        let found =
            format!("(document.querySelector({selector:?})?.innerText ?? '').includes({text:?})");
        self.wait(&format!("{selector} says {text:?}"), limit, &found)
    }

    /// Clicks in the middle of what a selector finds, as a mouse does.
    pub(crate) fn click(&self, selector: &str) -> Result<()> {
        self.wait_for(selector, SOON)?;
        // What the page does meanwhile may take the element away: again.
        wait::wait_until(&format!("{selector} can be clicked"), SOON, || {
            self.tab.find_element(selector)?.click()?;
            Ok(true)
        })
    }

    /// Makes a field's text this one.
    pub(crate) fn fill(&self, selector: &str, text: &str) -> Result<()> {
        self.click(selector)?;
        self.key("a", &[ModifierKey::Ctrl])?;
        self.write(text)
    }

    /// Types, letter by letter.
    pub(crate) fn write(&self, text: &str) -> Result<()> {
        self.tab.type_str(text)?;
        Ok(())
    }

    /// Presses a key (`Enter`, `F1`, `s`), with others held.
    pub(crate) fn key(&self, key: &str, held: &[ModifierKey]) -> Result<()> {
        self.tab.press_key_with_modifiers(key, Some(held))?;
        Ok(())
    }

    /// Takes a picture; pictures are counted, so that a folder shows them in order.
    pub(crate) fn picture(&self, name: &str) -> Result<()> {
        let number = self.taken.get() + 1;
        self.taken.set(number);
        let png = CaptureScreenshotFormatOption::Png;
        // There is nothing to see while one page takes the place of another.
        let picture = wait::wait_for("a picture can be taken", SOON, || {
            let picture = self.tab.capture_screenshot(png.clone(), None, None, true);
            Ok(Some(picture?))
        })?;
        let path = self.pictures.join(format!("{number:02}-{name}.png"));
        std::fs::write(&path, picture).with_context(|| format!("write {}", path.display()))
    }
}
