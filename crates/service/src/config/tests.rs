//! Layers, provenance, refusals.

use std::path::Path;

use super::*;

#[derive(Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Shop {
    listen: String,
    limit: u32,
    open: bool,
    tags: Vec<String>,
    webhook: Secret,
    database: String,
    endpoint: Option<String>,
    retries: Option<u32>,
}

impl Default for Shop {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:1".into(),
            limit: 5,
            open: false,
            tags: vec![],
            webhook: Secret::default(),
            database: "sqlite:shop.db".into(),
            endpoint: None,
            retries: None,
        }
    }
}

impl Section for Shop {
    const NAME: &'static str = "shop";
    const SECRETS: &'static [&'static str] = &["webhook"];
}

fn load(file: Option<&str>, variables: &[(&str, &str)]) -> Result<Config, Error> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tessera.toml");
    if let Some(text) = file {
        std::fs::write(&path, text).unwrap();
    }
    Loader::new()
        .section::<Shop>()
        .alias("SHOP_ENDPOINT", "shop.endpoint")
        .file(file.map(|_| path))
        .environment(variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())))
        .flag("shop.listen", "--listen", None::<String>)
        .load()
}

fn refusal(file: Option<&str>, variables: &[(&str, &str)]) -> String {
    let message = load(file, variables).err().expect("refused").to_string();
    assert!(!message.contains('\n'), "one line: {message}");
    message
}

#[test]
fn later_layers_win_and_say_where_they_are_from() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.toml");
    std::fs::write(&path, "[shop]\nlisten = 'file:1'\nlimit = 7\nopen = true\n").unwrap();
    let config = Loader::new()
        .section::<Shop>()
        .file(Some(path.clone()))
        .environment([("TESSERA__SHOP__LIMIT".to_owned(), "8".to_owned()), ("HOME".to_owned(), "/".to_owned())])
        .flag("shop.listen", "--listen", Some("flag:1"))
        .load()
        .unwrap();
    let shop: Shop = config.get().unwrap();
    assert_eq!((shop.listen.as_str(), shop.limit, shop.open), ("flag:1", 8, true));
    assert_eq!(config.origin("shop.listen"), Origin::Flag("--listen"));
    assert_eq!(config.origin("shop.limit"), Origin::Environment("TESSERA__SHOP__LIMIT".into()));
    assert_eq!(config.origin("shop.open"), Origin::File(path));
    assert_eq!(config.origin("shop.tags"), Origin::Code);
}

#[test]
fn environment_text_takes_the_type_of_its_field() {
    let shop: Shop = load(
        None,
        &[
            ("TESSERA__SHOP__LISTEN", "8080"),
            ("TESSERA__SHOP__OPEN", "true"),
            ("TESSERA__SHOP__TAGS", "a, b"),
            ("TESSERA__SHOP__RETRIES", "3"),
            ("SHOP_ENDPOINT", "http://alias"),
        ],
    )
    .unwrap()
    .get()
    .unwrap();
    assert_eq!((shop.listen.as_str(), shop.open, shop.retries), ("8080", true, Some(3)));
    assert_eq!(shop.tags, ["a", "b"]);
    assert_eq!(shop.endpoint.as_deref(), Some("http://alias"));
}

#[test]
fn our_own_spelling_wins_over_an_alias() {
    let config = load(None, &[("TESSERA__SHOP__ENDPOINT", "http://ours"), ("SHOP_ENDPOINT", "http://alias")]).unwrap();
    assert_eq!(config.get::<Shop>().unwrap().endpoint.as_deref(), Some("http://ours"));
}

#[test]
fn unknown_keys_are_refused_with_the_nearest_known_one() {
    let message = refusal(Some("[shop]\nlimt = 3\n"), &[]);
    assert!(message.contains("there is no setting `shop.limt`; did you mean `shop.limit`?"), "{message}");
    let message = refusal(None, &[("TESSERA__SHOP__LISTNE", "x")]);
    assert!(message.contains("environment TESSERA__SHOP__LISTNE: there is no setting `shop.listne`"), "{message}");
    assert!(message.contains("did you mean `shop.listen`?"), "{message}");
    let message = refusal(Some("[bakery]\ncroissants = 3\n"), &[]);
    assert!(message.contains("`bakery.croissants`; `tessera config print` lists them all"), "{message}");
    let message = refusal(Some("limit = 3\n"), &[]);
    assert!(message.contains("no setting `limit`; did you mean `shop.limit`?"), "{message}");
    refusal(Some("[shop]\nlisten = { a = 1 }\n"), &[]);
}

#[test]
fn bad_values_name_their_setting_and_origin() {
    let message = refusal(None, &[("TESSERA__SHOP__LIMIT", "many")]);
    assert!(message.contains("environment TESSERA__SHOP__LIMIT: setting `shop.limit` cannot be \"many\""), "{message}");
    assert!(message.contains("invalid type: string \"many\", expected u32"), "{message}");
    let message = refusal(None, &[("TESSERA__SHOP__LIMIT", "-1")]);
    assert!(message.contains("invalid value: integer `-1`, expected u32"), "{message}");
    let message = refusal(Some("[shop]\nlimit = -1\n"), &[]);
    assert!(message.contains("setting `shop.limit` cannot be -1"), "{message}");
    let message = refusal(Some("[shop]\nlimit = = 1\n"), &[]);
    assert!(message.contains("line 2 is not TOML"), "{message}");
    let missing = Loader::new().section::<Shop>().file(Some(Path::new("/nowhere/t.toml").to_owned())).load();
    assert!(missing.err().unwrap().to_string().contains("`/nowhere/t.toml`: cannot be read"));
}

#[test]
fn print_stars_secrets_and_reads_back() {
    let variables = [
        ("TESSERA__SHOP__WEBHOOK", "https://hooks.example/T0/abcdef"),
        ("TESSERA__SHOP__DATABASE", "postgres://me:hunter2@db/shop?x=1"),
    ];
    let printed = load(None, &variables).unwrap().print();
    assert!(!printed.contains("abcdef") && !printed.contains("hunter2"), "{printed}");
    assert!(printed.contains(r#"webhook = "***""#), "{printed}");
    assert!(printed.contains(r#"database = "postgres://me:***@db/shop?x=1""#), "{printed}");
    assert!(printed.contains("# environment TESSERA__SHOP__DATABASE"), "{printed}");
    assert!(printed.contains("# endpoint is not set"), "{printed}");
    load(Some(&printed), &[]).unwrap();
}

#[test]
fn a_refused_secret_is_not_shown() {
    let message = refusal(Some("[shop]\nwebhook = [\"abcdef\"]\n"), &[]);
    assert!(message.contains("`shop.webhook`") && !message.contains("abcdef"), "{message}");
}
