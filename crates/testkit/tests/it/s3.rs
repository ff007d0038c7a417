//! The S3 server, through the client that the workspace uses.

use std::sync::Arc;

use futures::future::join_all;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload, RetryConfig};
use tessera_testkit::s3::{self, Fault, FaultKind, S3};

fn client(server: &S3, secret_key: &str) -> AmazonS3 {
    AmazonS3Builder::new()
        .with_endpoint(&server.endpoint)
        .with_bucket_name(&server.bucket)
        .with_access_key_id(&server.access_key)
        .with_secret_access_key(secret_key)
        .with_region("us-east-1")
        .with_allow_http(true)
        .with_retry(RetryConfig { max_retries: 0, ..RetryConfig::default() })
        .build()
        .unwrap()
}

fn create() -> PutOptions {
    PutOptions { mode: PutMode::Create, ..PutOptions::default() }
}

#[tokio::test]
async fn of_many_creators_one_wins() {
    let server = s3::start();
    let store = Arc::new(client(&server, &server.secret_key));
    for round in 0..20 {
        let path = Path::from(format!("race/{round}"));
        let tries = (0..8u8).map(|n| {
            let (store, path) = (store.clone(), path.clone());
            async move { store.put_opts(&path, PutPayload::from(vec![n; 1000]), create()).await.map(|_| n) }
        });
        let results = join_all(tries).await;
        let winners: Vec<u8> = results.iter().filter_map(|result| result.as_ref().ok().copied()).collect();
        assert_eq!(winners.len(), 1, "{results:?}");
        assert!(
            results.iter().flat_map(|result| result.as_ref().err()).all(|e| matches!(e, Error::AlreadyExists { .. }))
        );
        let kept = store.get(&path).await.unwrap().bytes().await.unwrap();
        assert_eq!(kept, vec![winners[0]; 1000]);
    }
}

#[tokio::test]
async fn of_many_updaters_one_wins() {
    let server = s3::start();
    let store = Arc::new(client(&server, &server.secret_key));
    let path = Path::from("state.json");
    let first = store.put(&path, PutPayload::from("0")).await.unwrap();
    let tries = (1..8).map(|n| {
        let (store, path, version) = (store.clone(), path.clone(), first.clone().into());
        let options = PutOptions { mode: PutMode::Update(version), ..PutOptions::default() };
        async move { store.put_opts(&path, PutPayload::from(n.to_string()), options).await }
    });
    let results = join_all(tries).await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1, "{results:?}");
}

#[tokio::test]
async fn a_large_object_goes_up_in_parts() {
    let server = s3::start();
    let store = client(&server, &server.secret_key);
    let path = Path::from("large/a b=c.bin");
    let mut upload = store.put_multipart(&path).await.unwrap();
    for n in 0..3u8 {
        upload.put_part(PutPayload::from(vec![n; 5 << 20])).await.unwrap();
    }
    upload.complete().await.unwrap();
    assert_eq!(store.head(&path).await.unwrap().size, 15 << 20);
    let tail = store.get_range(&path, (10 << 20) - 1..(10 << 20) + 1).await.unwrap();
    assert_eq!(&tail[..], [1, 2]);
}

#[tokio::test]
async fn a_wrong_key_is_refused() {
    let server = s3::start();
    let error = client(&server, "wrong").put(&Path::from("x"), PutPayload::from("x")).await.unwrap_err();
    assert!(matches!(error, Error::PermissionDenied { .. }), "{error:?}");
}

#[tokio::test]
async fn faults_come_and_go() {
    let server = s3::start();
    let store = client(&server, &server.secret_key);
    let put = async |path: &str| store.put(&Path::from(path), PutPayload::from("x")).await;

    server.set_fault(Fault::new(FaultKind::DenyWrites).on("/raw/"));
    assert!(matches!(put("raw/a").await, Err(Error::PermissionDenied { .. })));
    put("state/a").await.unwrap();
    store.get(&Path::from("state/a")).await.unwrap();

    server.set_fault(Fault::new(FaultKind::SlowDown).after(1).times(2));
    put("raw/b").await.unwrap();
    assert!(put("raw/c").await.is_err() && put("raw/c").await.is_err());
    put("raw/c").await.unwrap();

    server.set_fault(Fault::new(FaultKind::LoseReply).times(1));
    assert!(put("raw/d").await.is_err());
    store.get(&Path::from("raw/d")).await.unwrap();

    server.set_fault(Fault::new(FaultKind::Fail));
    assert!(store.get(&Path::from("raw/d")).await.is_err());
    server.clear_fault();
    put("raw/a").await.unwrap();
}
