//! A real browser without a screen: Chromium, steered by its driver over the WebDriver protocol (W3C).

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::{free_port, wire};

const START_TIMEOUT: Duration = Duration::from_secs(60);
/// Of one command to the browser, a script that waits included.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(60);
const START_ATTEMPTS: usize = 3;
const PAUSE: Duration = Duration::from_millis(50);

/// Runs the driver until its stdin closes, which happens when the test drops it or dies. A driver that is told to end may leave
/// its browser behind: whatever works in the folder ends, too, and the folder goes last.
const KEEPER: &str = r#"
"$@" </dev/null >"$FOLDER/log" 2>&1 &
pid=$!
read -r _ignored
kill -TERM "$pid" 2>/dev/null
wait "$pid"
for _ in $(seq 100); do
  left=$(grep -slF -e "$FOLDER/" /proc/[0-9]*/cmdline)
  [ -n "$left" ] || break
  for process in $left; do
    process=${process#/proc/}
    kill -KILL "${process%/cmdline}" 2>/dev/null
  done
  sleep 0.05
done
rm -rf "$FOLDER"
"#;

/// A browser with one page. It ends when this is dropped.
#[derive(Debug)]
pub struct Browser {
    keeper: Child,
    folder: PathBuf,
    address: String,
    session: String,
}

impl Browser {
    /// Starts one with an empty profile.
    ///
    /// # Panics
    /// Where there is no Chromium or no driver for it, saying what to install, or where they do not start, with the log.
    pub fn start() -> Self {
        let (driver, chromium) = (find(&["chromedriver"]), find(&["chromium", "chromium-browser", "google-chrome"]));
        let mut log = String::new();
        for _ in 0..START_ATTEMPTS {
            let folder = tempfile::Builder::new().prefix("tessera-browser-").tempdir().expect("a folder").keep();
            // The port may have been taken in between.
            match Self::try_start(&driver, &chromium, &folder) {
                Ok(browser) => return browser,
                Err(said) => log = said,
            }
        }
        panic!("{} did not start: {log}", driver.display());
    }

    fn try_start(driver: &Path, chromium: &Path, folder: &Path) -> Result<Self, String> {
        let port = free_port();
        let mut keeper = Command::new("sh");
        keeper.args(["-c", KEEPER, "keeper"]).arg(driver).arg(format!("--port={port}"));
        keeper.env("FOLDER", folder).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let keeper = keeper.spawn().expect("sh");
        let (address, session) = (format!("127.0.0.1:{port}"), String::new());
        let mut this = Self { keeper, folder: folder.to_owned(), address, session };
        let profile = format!("--user-data-dir={}", folder.join("profile").display());
        let arguments =
            ["--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync", profile.as_str()];
        let wanted = json!({ "capabilities": { "alwaysMatch": {
            "goog:loggingPrefs": { "browser": "ALL" },
            // Tests make certificates of their own.
            "acceptInsecureCerts": true,
            "goog:chromeOptions": { "binary": chromium, "args": arguments },
        } } });
        let began = Instant::now();
        while began.elapsed() < START_TIMEOUT {
            match wire::post_within(&this.address, "/session", "", &wanted.to_string(), COMMAND_TIMEOUT) {
                Ok((200, answer)) => {
                    let answer: Value = serde_json::from_str(&answer).map_err(|error| error.to_string())?;
                    this.session = answer["value"]["sessionId"].as_str().unwrap_or_default().to_owned();
                    return Ok(this);
                }
                Ok((_, said)) => return Err(said),
                // It does not listen yet.
                Err(_) => std::thread::sleep(PAUSE),
            }
        }
        Err(std::fs::read_to_string(folder.join("log")).unwrap_or_default())
    }

    /// Where it keeps what it must remember.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Makes the page so many CSS pixels wide and high, as on a phone or a desk.
    pub fn resize(&self, width: u32, height: u32) {
        let metrics = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.command("goog/cdp/execute", &json!({ "cmd": "Emulation.setDeviceMetricsOverride", "params": metrics }));
    }

    /// Opens an address afresh, also where only its fragment differs.
    pub fn open(&self, url: &str) {
        self.command("url", &json!({ "url": "about:blank" }));
        self.command("url", &json!({ "url": url }));
    }

    /// Runs the body of a function in the page and gives what it returns; a promise is waited for. `arguments` are its
    /// `arguments`.
    ///
    /// # Panics
    /// With what was thrown.
    pub fn run(&self, script: &str, arguments: &[Value]) -> Value {
        self.command("execute/sync", &json!({ "script": script, "args": arguments }))
    }

    /// Waits until an expression is true, asking again and again.
    ///
    /// # Panics
    /// After a minute, with what the page shows and has complained about.
    pub fn wait_until(&self, expression: &str) {
        let began = Instant::now();
        while self.run(&format!("return Boolean({expression})"), &[]) != Value::Bool(true) {
            if began.elapsed() > COMMAND_TIMEOUT {
                let page = self.run("return location.href + '\\n' + document.body.innerText", &[]);
                panic!("`{expression}` stays untrue: {page}\n{:?}", self.complaints());
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// Presses the first button or link that is not disabled and whose text begins so, as soon as it is there.
    pub fn press(&self, text: &str) {
        let found = "[...document.querySelectorAll('button, a, summary')].find((one) => \
                     !one.disabled && one.textContent.trim().startsWith(TEXT))";
        let found = found.replace("TEXT", &json!(text).to_string());
        self.wait_until(&found);
        self.run(&format!("({found}).click()"), &[]);
    }

    /// What the browser has written into its console since the last call: errors of scripts, refused resources, and
    /// requests that were answered with an error.
    pub fn complaints(&self) -> Vec<String> {
        let entries = self.command("se/log", &json!({ "type": "browser" }));
        let text = |entry: &Value| entry["message"].as_str().unwrap_or_default().to_owned();
        entries.as_array().map(|entries| entries.iter().map(text).collect()).unwrap_or_default()
    }

    fn command(&self, name: &str, body: &Value) -> Value {
        let path = format!("/session/{}/{name}", self.session);
        let answered = wire::post_within(&self.address, &path, "", &body.to_string(), COMMAND_TIMEOUT);
        let (status, text) = answered.expect("the browser's driver answers");
        let mut answer: Value = serde_json::from_str(&text).unwrap_or_default();
        assert_eq!(status, 200, "{name}: {}", answer["value"]["message"].as_str().unwrap_or(&text));
        answer["value"].take()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}

fn find(names: &[&str]) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let found = names.iter().flat_map(|name| folders.iter().map(move |folder| folder.join(name)));
    let found = found.into_iter().find(|path| path.is_file());
    found.unwrap_or_else(|| {
        panic!("no `{}` here; install it: apt-get install -y chromium chromium-driver", names.join("`, `"))
    })
}
