//! Accounts over the real binary: the command line, and the pages to sign up and in, in a real browser.

use std::path::Path;
use std::process::Stdio;

use serde_json::{Value, json};
use tessera_testkit::bin::{Process, tessera_command};
use tessera_testkit::{Browser, ScratchDir, free_port, rsa_key};

use crate::tessera;

const PASSWORD: &str = "four small green owls";
/// Types into a field as a person does.
const TYPE: &str = "const field = document.querySelector(arguments[0]);
    field.value = arguments[1];
    field.dispatchEvent(new Event('input', { bubbles: true }));";
/// Sends a request from the page and gives `[status, body]`.
const ASK: &str = "const [method, path, body] = arguments;
    const { token } = JSON.parse(localStorage.getItem('tessera.session'));
    const headers = { authorization: `Bearer ${token}`, 'content-type': 'application/json' };
    return fetch(path, { method, headers, body: body === null ? undefined : JSON.stringify(body) })
      .then(async (answer) => [answer.status, await answer.json()]);";
const PHONE: (u32, u32) = (390, 844);

struct Desk {
    browser: Browser,
    base: String,
    scratch: ScratchDir,
    _process: Process,
}

/// `tessera up` with these settings, and its address.
fn serve(listen: &str, data: &Path, settings: &[(&str, &str)]) -> (Process, String) {
    let mut command = tessera_command(tessera());
    command.args(["up", "--listen", listen, "--data"]).arg(data).envs(settings.iter().copied());
    let process = Process::spawn(&mut command);
    let line = process.wait_for("/metrics");
    let base = line.split_whitespace().last().unwrap().trim_end_matches("/metrics").to_owned();
    (process, base)
}

impl Desk {
    fn start() -> Self {
        Self::start_with(ScratchDir::new(), &[])
    }

    fn start_with(scratch: ScratchDir, settings: &[(&str, &str)]) -> Self {
        let (process, base) = serve("127.0.0.1:0", &scratch.file("data"), settings);
        Self { browser: Browser::start(), base, scratch, _process: process }
    }

    fn open(&self, page: &str) {
        self.browser.open(&format!("{}/console/#/{page}", self.base));
        self.browser.wait_until("document.querySelector('h1') && !document.querySelector('.loading')");
    }

    fn fill(&self, fields: &[(&str, &str)]) {
        for (field, text) in fields {
            self.browser.wait_until(&format!("document.querySelector({})", json!(field)));
            self.browser.run(TYPE, &[Value::from(*field), Value::from(*text)]);
        }
    }

    /// Presses the button of the form.
    fn submit(&self, form_with: &str) {
        self.browser.run("document.querySelector(arguments[0]).form.requestSubmit()", &[form_with.into()]);
    }

    fn says(&self, text: &str) {
        self.browser.wait_until(&format!("document.body.innerText.includes({})", json!(text)));
    }

    fn ask(&self, method: &str, path: &str, body: Value) -> (u64, Value) {
        let answer = self.browser.run(ASK, &[method.into(), path.into(), body]);
        (answer[0].as_u64().unwrap(), answer[1].clone())
    }

    fn fits(&self) {
        let fits = self.browser.run("return document.documentElement.scrollWidth <= innerWidth", &[]);
        assert_eq!(fits, json!(true), "the page is wider than the phone");
    }
}

/// Runs the binary with a line on its standard input.
fn with_input(arguments: &[&str], input: &str) -> (Option<i32>, String, String) {
    use std::io::Write;
    let mut command = tessera_command(tessera());
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn somebody_signs_up_and_in_and_out() {
    let desk = Desk::start();
    desk.browser.resize(PHONE.0, PHONE.1);
    desk.open("sign-in");
    desk.says("With an account");
    desk.fits();
    desk.browser.press("No account yet? Sign up");
    desk.says("What to call you");
    desk.fits();
    // What is wrong is said, and what was typed stays.
    desk.fill(&[("#login", "grace@example.com"), ("#name", "Grace <b>H</b>"), ("#password", "short")]);
    desk.submit("#password");
    desk.says("at least 10");
    desk.fits();
    desk.fill(&[("#password", PASSWORD)]);
    desk.submit("#password");
    desk.browser.wait_until("JSON.parse(localStorage.getItem('tessera.session'))?.account");
    desk.browser.wait_until("document.getElementById('person').textContent.includes('Grace <b>H</b>')");
    let (status, me) = desk.ask("GET", "/accounts/me", Value::Null);
    assert_eq!((status, &me["login"], &me["roles"]), (200, &json!("grace@example.com"), &json!(["fan", "rider"])));
    let seen = desk.browser.run("return document.cookie + Object.values(localStorage).join('')", &[]);
    assert!(!seen.as_str().unwrap().contains("tsr_"), "no script sees the refresh token: {seen}");

    // A token that is over is replaced without a word, also after a restart of the page.
    let old = desk.browser.run(
        "const session = JSON.parse(localStorage.getItem('tessera.session'));
         localStorage.setItem('tessera.session', JSON.stringify({ ...session, token: 'over', until: 0 }));
         return session.token",
        &[],
    );
    desk.open("account");
    desk.browser.wait_until("JSON.parse(localStorage.getItem('tessera.session')).token !== 'over'");
    assert_ne!(desk.browser.run("return JSON.parse(localStorage.getItem('tessera.session')).token", &[]), old);
    desk.says("Another password");
    desk.fits();

    // Another password.
    desk.fill(&[("#current", "not the password"), ("#next", "nine tall blue herons")]);
    desk.submit("#next");
    desk.says("do not belong together");
    desk.fill(&[("#current", PASSWORD), ("#next", "nine tall blue herons")]);
    desk.submit("#next");
    desk.says("Your password is changed");

    desk.browser.press("Sign out");
    desk.browser.wait_until("localStorage.getItem('tessera.session') === null");
    let refused = desk.browser.run(
        "return fetch('/accounts/refresh', { method: 'POST', headers: { 'content-type': 'application/json' }, body: '{}' })
           .then((answer) => answer.status)",
        &[],
    );
    assert_eq!(refused, json!(401));

    // In again: the old password does not, the new one does, and leads back.
    desk.open("sign-in?back=%23%2Ftickets%2Forders");
    desk.fill(&[("#login", "Grace@Example.com"), ("#password", PASSWORD)]);
    desk.submit("#password");
    desk.says("do not belong together");
    desk.fill(&[("#password", "nine tall blue herons")]);
    desk.submit("#password");
    desk.browser.wait_until("location.hash === '#/tickets/orders'");
    // What the server refused is told by the pages, and advice on forms is no fault.
    let is_fault = |text: &String| !text.contains("Failed to load resource") && !text.contains("[DOM]");
    let faults: Vec<String> = desk.browser.complaints().into_iter().filter(is_fault).collect();
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn the_first_admin_is_made_at_the_command_line_and_grants_roles() {
    let desk = Desk::start();
    let data = desk.scratch.file("data");
    let data = data.to_str().unwrap();
    let (code, _, complaint) = with_input(&["accounts", "create-admin", "root-ada", "--data", data], "\n");
    assert!(code == Some(2) && complaint.contains("a password is needed"), "{complaint}");
    let (code, _, complaint) = with_input(&["accounts", "create-admin", "root-ada", "--data", data], "password123\n");
    assert!(code == Some(2) && complaint.contains("tried first"), "{complaint}");
    let (code, told, complaint) =
        with_input(&["accounts", "create-admin", "Root-Ada", "--data", data], &format!("{PASSWORD}\n"));
    assert!(
        code == Some(0) && told.starts_with("root-ada (user_") && told.ends_with(" is an admin\n"),
        "{told}{complaint}"
    );
    let (code, _, complaint) =
        with_input(&["accounts", "create-admin", "root-ada", "--data", data], &format!("{PASSWORD}\n"));
    assert!(code == Some(2) && complaint.contains("is taken"), "{complaint}");

    desk.open("sign-in");
    desk.fill(&[("#login", "root-ada"), ("#password", PASSWORD)]);
    desk.submit("#password");
    desk.browser.wait_until("JSON.parse(localStorage.getItem('tessera.session'))?.account");
    let (status, users) = desk.ask("GET", "/accounts/users", Value::Null);
    assert_eq!((status, &users["items"][0]["roles"]), (200, &json!(["admin"])));
    // The same token opens the other products, who verify it themselves.
    assert_eq!(desk.ask("GET", "/drivers", Value::Null).0, 200);
    let (_, made) = desk.ask("POST", "/accounts/sign-up", json!({ "login": "bob", "password": "six round red kites" }));
    assert_eq!(made, json!({ "next": "sign_in" }));
    let (code, told, _) = with_input(&["accounts", "grant", "bob", "--role", "organiser", "--data", data], "");
    assert_eq!((code, told.as_str()), (Some(0), "bob is fan, organiser, rider, from the next access token on\n"));
    let (code, _, complaint) = with_input(&["accounts", "grant", "nobody", "--role", "fan", "--data", data], "");
    assert!(code == Some(2) && complaint.contains("`nobody`; check the name"), "{complaint}");
    // A folder that was mistyped is not made.
    let elsewhere = desk.scratch.file("dta");
    let elsewhere = elsewhere.to_str().unwrap();
    for arguments in [
        &["accounts", "create-admin", "root-eve"][..],
        &["accounts", "grant", "bob", "--role", "fan"],
        &["accounts", "set-password", "bob"],
        &["accounts", "keys", "list"],
        &["accounts", "keys", "rotate"],
        &["accounts", "keys", "revoke", "x"],
    ] {
        let (code, _, complaint) = with_input(&[arguments, &["--data", elsewhere]].concat(), "six round red kites\n");
        assert!(code == Some(2) && complaint.contains("there is no data in `"), "{complaint}");
    }
    assert!(!std::path::Path::new(elsewhere).exists());
    // Before the first start it is asked for.
    let new = ["accounts", "create-admin", "root-eve", "--new", "--data", elsewhere];
    let (code, told, complaint) = with_input(&new, &format!("{PASSWORD}\n"));
    assert!(code == Some(0) && told.ends_with(" is an admin\n"), "{told}{complaint}");
    let (code, _, complaint) = with_input(&["accounts", "create-admin", "a b", "--data", data], "");
    assert!(code == Some(2) && complaint.contains("`a b`: give an email address"), "{complaint}");
    let (code, told, complaint) =
        with_input(&["accounts", "set-password", "Bob", "--data", data], "nine tall blue herons\n");
    assert!(code == Some(0) && told.starts_with("bob (user_"), "{told}{complaint}");
    let (code, _, complaint) = with_input(&["accounts", "set-password", "bob", "--data", data], "bob\n");
    assert!(code == Some(2) && complaint.contains("at least 10"), "{complaint}");
    let again = json!({ "login": "bob", "password": "nine tall blue herons" });
    assert_eq!(desk.ask("POST", "/accounts/sign-in", again).0, 200);

    // A key that is revoked takes its tokens along, in a process that runs.
    let (code, keys, _) = with_input(&["accounts", "keys", "rotate", "--data", data], "");
    assert_eq!((code, keys.lines().count()), (Some(0), 3), "{keys}");
    assert!(keys.lines().nth(1).unwrap().contains(" next "), "{keys}");
    let signs = keys.lines().nth(2).unwrap().split_whitespace().next().unwrap().to_owned();
    let (code, keys, _) = with_input(&["accounts", "keys", "revoke", &signs, "--data", data], "");
    assert!(code == Some(0) && !keys.contains(&signs), "{keys}");
    desk.browser.wait_until(
        "fetch('/accounts/me', { headers: { authorization: `Bearer ${JSON.parse(localStorage.getItem('tessera.session')).token}` } })
           .then((answer) => { window.refused = answer.status === 401; }) && window.refused",
    );
    let (code, _, complaint) = with_input(&["accounts", "keys", "revoke", &signs, "--data", data], "");
    assert!(code == Some(2) && complaint.contains("keys list"), "{complaint}");
}

/// Accounts of one installation are the issuer of another, which has none.
#[test]
fn somebody_signs_in_at_another_issuer() {
    let scratch = ScratchDir::new();
    let pem = scratch.file("token.pem");
    std::fs::write(&pem, rsa_key().0).unwrap();
    let mut desk = Desk::start_with(scratch, &[("TESSERA__ACCOUNTS__RS256_KEY", pem.to_str().unwrap())]);
    let (home, there) = (desk.base.clone(), format!("127.0.0.1:{}", free_port()));
    let data = desk.scratch.file("data");
    let create = ["accounts", "create-admin", "root-ada", "--data", data.to_str().unwrap()];
    assert_eq!(with_input(&create, &format!("{PASSWORD}\n")).0, Some(0));
    let (_, keys, _) = with_input(&["accounts", "keys", "list", "--data", data.to_str().unwrap()], "");
    assert!(keys.lines().nth(1).unwrap().contains(" RS256  signs "), "{keys}");
    desk.open("sign-in");
    desk.fill(&[("#login", "root-ada"), ("#password", PASSWORD)]);
    desk.submit("#password");
    desk.browser.wait_until("JSON.parse(localStorage.getItem('tessera.session'))?.account");
    let grace = json!({ "login": "grace", "name": "Grace H", "password": PASSWORD });
    assert_eq!(desk.ask("POST", "/accounts/sign-up", grace).0, 202);
    let client =
        json!({ "name": "The other one", "public": true, "redirect_uris": [format!("http://{there}/console/")] });
    let (_, client) = desk.ask("POST", "/accounts/clients", client);
    desk.open("account");
    desk.browser.press("Sign out");
    desk.browser.wait_until("localStorage.getItem('tessera.session') === null");

    let settings = [
        ("TESSERA__IDENTITY__ISSUER", home.as_str()),
        ("TESSERA__IDENTITY__CLIENT_ID", client["id"].as_str().unwrap()),
        ("TESSERA__ACCOUNTS__ENABLED", "false"),
    ];
    let (_other, base) = serve(&there, &desk.scratch.file("other"), &settings);
    desk.base = base;
    desk.browser.resize(PHONE.0, PHONE.1);
    let host = home.trim_start_matches("http://");
    let begin = || {
        desk.open("sign-in?back=%23%2Faccount");
        desk.says(&format!("At {host}"));
        desk.fits();
        let own = desk.browser.run("return document.body.innerText.includes('With an account')", &[]);
        assert_eq!(own, json!(false), "there are no accounts here");
        desk.browser.press(&format!("Sign in at {host}"));
        desk.says("The other one asks who you are");
    };
    begin();
    desk.says("Sign in first");
    desk.browser.press("Sign in");
    desk.fill(&[("#login", "grace"), ("#password", PASSWORD)]);
    desk.submit("#password");
    desk.says("Go on as Grace H");
    desk.browser.press("Go on as Grace H");
    desk.says(&format!("Signed in at {host}, where your account is"));
    desk.fits();
    let is_there = format!("return location.href === '{}/console/#/account'", desk.base);
    assert_eq!(desk.browser.run(&is_there, &[]), json!(true));
    desk.browser.wait_until("document.getElementById('person').textContent.includes('Grace H')");
    let session = desk.browser.run("return JSON.parse(localStorage.getItem('tessera.session'))", &[]);
    assert_eq!((&session["issuer"], &session["roles"]), (&json!(home), &json!(["fan", "rider"])));
    assert_eq!(desk.ask("GET", "/orders", Value::Null).0, 200);
    assert_eq!(desk.ask("GET", "/drivers", Value::Null).0, 403);
    let seen = desk.browser.run("return document.cookie + Object.values(localStorage).join('')", &[]);
    assert!(!seen.as_str().unwrap().contains("tsr_"), "no script sees the refresh token: {seen}");

    // A token that is over is replaced, also after a restart of the page.
    desk.browser.run(
        "const session = JSON.parse(localStorage.getItem('tessera.session'));
         localStorage.setItem('tessera.session', JSON.stringify({ ...session, token: 'over', until: 0 }))",
        &[],
    );
    desk.browser.run("location.reload()", &[]);
    desk.browser
        .wait_until("!['over', undefined].includes(JSON.parse(localStorage.getItem('tessera.session'))?.token)");
    desk.says("Grace H");
    assert_eq!(desk.ask("GET", "/orders", Value::Null).0, 200);
    desk.browser.press("Sign out");
    desk.browser.wait_until("localStorage.getItem('tessera.session') === null");
    let refresh = "return fetch('/console/sign-in/refresh', { method: 'POST' }).then((answer) => answer.json())";
    assert_eq!(desk.browser.run(refresh, &[])["code"], "console.session_over");

    // Who does not agree comes back without; what somebody else has begun is not gone on with.
    begin();
    desk.says("Go on as Grace H");
    desk.browser.run("[...document.querySelectorAll('button')].find((one) => one.innerText === 'No').click()", &[]);
    desk.says("access_denied");
    // Grace is signed in there; a program that asks for a new sign-in has one.
    let id = client["id"].as_str().unwrap();
    desk.browser.open(&format!(
        "{home}/oauth/authorize?client_id={id}&redirect_uri=http://{there}/console/&response_type=code&code_challenge={}\
         &code_challenge_method=S256&prompt=login",
        "A".repeat(43)
    ));
    desk.says("Sign in again");
    desk.fits();
    desk.browser.run("document.querySelector('.empty a.button').click()", &[]);
    desk.fill(&[("#login", "grace"), ("#password", PASSWORD)]);
    desk.submit("#password");
    desk.says("Go on as Grace H");
    desk.browser.open(&format!("{}/console/?code=theirs&state=theirs", desk.base));
    desk.says("was not begun in this window");
    let nobody = desk.browser.run("return localStorage.getItem('tessera.session')", &[]);
    assert_eq!(nobody, Value::Null);
}
