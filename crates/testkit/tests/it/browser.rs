//! The browser runs scripts, waits, presses and tells what went wrong.

use serde_json::json;
use tessera_testkit::Browser;

#[test]
fn it_runs_scripts_presses_buttons_and_tells_of_errors() {
    let browser = Browser::start();
    browser.resize(390, 844);
    browser
        .open("data:text/html,<title>A</title><button onclick='document.title = this.textContent'>Press me</button>");
    assert_eq!(browser.run("return [innerWidth, arguments[0] + 1]", &[json!(1)]), json!([390, 2]));
    browser.press("Press");
    browser.wait_until("document.title === 'Press me'");
    assert_eq!(browser.run("return new Promise((done) => setTimeout(() => done('later'), 5))", &[]), json!("later"));
    assert!(browser.complaints().is_empty());
    browser.run("console.error('that went wrong')", &[]);
    assert!(browser.complaints().iter().any(|text| text.contains("that went wrong")));
}

#[test]
fn nothing_of_it_is_left_when_it_is_dropped() {
    let browser = Browser::start();
    let folder = browser.folder().to_owned();
    let working = || {
        let processes = std::fs::read_dir("/proc").unwrap().flatten();
        let lines = processes.filter_map(|process| std::fs::read_to_string(process.path().join("cmdline")).ok());
        lines.filter(|line| line.contains(folder.to_str().unwrap())).count()
    };
    assert!(working() > 0 && folder.is_dir());
    drop(browser);
    assert_eq!(working(), 0);
    assert!(!folder.exists());
}
