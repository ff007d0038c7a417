//! Who asks: `tessera token`, and the people of the demo.

use std::sync::Arc;

use serde_json::Value;
use tessera_kernel::SystemClock;
use tessera_service::Keys;
use tessera_tessera::roles::{DEMO, ROLES};
use tessera_tessera::settings::{self, Flags};
use tessera_testkit::ScratchDir;
use tessera_testkit::bin::{Finished, Process};

use crate::tessera;

fn token(arguments: &[&str]) -> Finished {
    Process::tessera(tessera(), ["token"].iter().chain(arguments)).wait()
}

#[test]
fn a_printed_token_is_one_of_the_folder_s_key() {
    let scratch = ScratchDir::new();
    let data = scratch.file("data");
    let arguments = ["--role", "fan,door", "--subject", "ana", "--ttl", "2h", "--data", data.to_str().unwrap()];
    // A folder that was mistyped is not made: no service would take the token.
    let refused = token(&arguments);
    assert_eq!((refused.code(), refused.stdout.as_str(), refused.stderr.lines().count()), (Some(2), "", 1));
    assert!(refused.stderr.contains("there is no data in `") && refused.stderr.contains("--new"), "{refused:?}");
    assert!(!data.exists());
    let made = token(&[&arguments[..], &["--new"]].concat());
    assert_eq!((made.code(), made.stderr.as_str()), (Some(0), ""), "{made:?}");
    let finished = token(&arguments);
    assert_eq!((finished.code(), finished.stderr.as_str()), (Some(0), ""), "{finished:?}");
    let keys = Keys::open(&data, Arc::new(SystemClock)).unwrap();
    let identity = keys.verify(finished.stdout.trim_end()).unwrap();
    assert_eq!(&*identity.subject, "ana");
    assert!(identity.is("fan") && identity.is("door") && !identity.is("organiser"));
    let left = identity.expires_at.since(tessera_kernel::Clock::now(&SystemClock)).as_secs();
    assert!((3_600..=7_200).contains(&left), "{left}");
}

#[test]
fn a_token_for_nobody_or_for_ever_is_refused() {
    let scratch = ScratchDir::new();
    let data = scratch.file("data");
    let data = data.to_str().unwrap();
    for (arguments, expected) in [
        (["--role", "fan", "--subject", "", "--data", data], "'--subject <NAME>': it has 0 bytes: give 1 to 128"),
        (["--role", "king", "--subject", "ana", "--data", data], "organiser"),
        (["--role", "fan", "--subject", "ana", "--ttl", "9999d"], "366d"),
    ] {
        let finished = token(&arguments);
        assert_eq!((finished.code(), finished.stdout.as_str()), (Some(2), ""), "{finished:?}");
        assert!(finished.stderr.contains(expected), "{finished:?}");
    }
}

#[tokio::test]
async fn only_the_demo_signs_people_in() {
    let scratch = ScratchDir::new();
    let client = tessera_service::client::build().unwrap();
    for (folder, demo) in [("plain", false), ("demo", true)] {
        let flags = Flags { data: Some(scratch.file(folder)), listen: Some("127.0.0.1:0".into()), ..Flags::default() };
        let config = settings::load(&flags, []).unwrap();
        let roles: Vec<_> = ROLES.iter().copied().chain(demo.then_some(DEMO)).collect();
        let running = tessera_tessera::up::start(&config, &roles).await.unwrap();
        let sign_in = async |body: &'static str| {
            let url = format!("http://{}/demo/sign-in", running.address());
            let asked = client.post(url).header("content-type", "application/json").body(body).send().await.unwrap();
            let (status, text) = (asked.status().as_u16(), asked.text().await.unwrap());
            (status, serde_json::from_str::<Value>(&text).unwrap())
        };
        let (status, answer) = sign_in(r#"{"as":"organiser"}"#).await;
        if demo {
            assert_eq!(
                (status, &answer["subject"], &answer["roles"][0]),
                (200, &"demo-organiser".into(), &"organiser".into())
            );
            let keys = Keys::open(&scratch.file(folder), Arc::new(SystemClock)).unwrap();
            let identity = keys.verify(answer["token"].as_str().unwrap()).unwrap();
            assert!(identity.is("organiser") && !identity.is("fan"));
            assert_eq!(sign_in(r#"{"as":"fan","name":"Ada"}"#).await.1["subject"], "demo-fan-ada");
            let (status, refused) = sign_in(r#"{"as":"admin"}"#).await;
            assert!(status == 400 && refused["detail"].as_str().unwrap().contains("organiser"), "{refused}");
        } else {
            assert_eq!((status, &answer["code"]), (404, &"service.route_not_found".into()));
        }
        assert!(running.stop().await);
    }
}
