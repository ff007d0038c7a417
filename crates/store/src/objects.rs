//! Files on a local disk or in S3 and compatible stores, behind one small set of operations.
//!
//! A write is durable when it returns: on a local disk the file and its folder are flushed.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::aws::{AmazonS3Builder, S3ConditionalPut};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ClientOptions, MultipartUpload, ObjectStore, ObjectStoreExt, PutMode, PutOptions, RetryConfig};

/// A failure of a store of files: what was tried, why it failed, and what to do.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} `{place}`: {detail}")]
pub struct ObjectsError {
    /// What was tried: read, write, list, delete.
    pub action: &'static str,
    /// URL of the object.
    pub place: String,
    /// Why, and what to do.
    pub detail: String,
}

/// Access to S3. What is not given comes from AWS's own environment variables, container or instance role.
#[derive(Clone, Debug, Default)]
pub struct S3Access {
    /// Endpoint of a compatible store.
    pub endpoint: Option<String>,
    /// Region.
    pub region: Option<String>,
    /// Access key.
    pub access_key_id: Option<String>,
    /// Secret key.
    pub secret_access_key: Option<String>,
    /// `endpoint/bucket/key` instead of `bucket.endpoint/key`.
    pub path_style: Option<bool>,
}

/// A folder or a bucket with a prefix. Cheap to clone.
#[derive(Clone)]
pub struct Objects {
    store: Arc<dyn ObjectStore>,
    prefix: Path,
    folder: Option<PathBuf>,
    url: String,
}

impl std::fmt::Debug for Objects {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Objects({})", self.url)
    }
}

/// An object as listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Path below the folder or prefix.
    pub path: String,
    /// Size in bytes.
    pub size: u64,
}

impl Objects {
    /// Opens `s3://bucket/prefix`, `file:///path` or a path. A local folder is made if it is missing.
    ///
    /// # Errors
    /// A URL that cannot be read, or a folder that cannot be made.
    pub fn open(url: &str, s3: &S3Access) -> Result<Self, ObjectsError> {
        let wrong = |detail: String| ObjectsError { action: "open", place: url.to_owned(), detail };
        if let Some(rest) = url.strip_prefix("s3://") {
            let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
            if bucket.is_empty() {
                return Err(wrong("it names no bucket; write s3://bucket/prefix".into()));
            }
            let prefix = Path::parse(prefix.trim_matches('/')).map_err(|error| wrong(error.to_string()))?;
            let store = s3_store(bucket, s3).map_err(|error| wrong(error.to_string()))?;
            return Ok(Self {
                store: Arc::new(store),
                prefix,
                folder: None,
                url: url.trim_end_matches('/').to_owned(),
            });
        }
        let path = url.strip_prefix("file://").unwrap_or(url);
        if path.is_empty() || path.contains("://") {
            return Err(wrong("use a path, file:///path or s3://bucket/prefix".into()));
        }
        let made = std::fs::create_dir_all(path).and_then(|()| std::path::absolute(path));
        let folder = made.map_err(|error| wrong(format!("{error}; choose a folder that can be written")))?;
        let store = LocalFileSystem::new_with_prefix(&folder).map_err(|error| wrong(error.to_string()))?;
        Ok(Self {
            store: Arc::new(store),
            prefix: Path::default(),
            url: folder.display().to_string(),
            folder: Some(folder),
        })
    }

    /// The same store, one folder down.
    #[must_use]
    pub fn below(&self, folder: &str) -> Self {
        Self {
            store: Arc::clone(&self.store),
            prefix: self.at(folder),
            folder: self.folder.clone(),
            url: format!("{}/{folder}", self.url),
        }
    }

    /// The whole URL of a path, for people.
    pub fn url_of(&self, path: &str) -> String {
        if path.is_empty() { self.url.clone() } else { format!("{}/{path}", self.url) }
    }

    /// Where a path lies on the local disk, if this is a local folder.
    pub fn local_path(&self, path: &str) -> Option<PathBuf> {
        Some(self.folder.as_ref()?.join(self.at(path).as_ref()))
    }

    fn at(&self, path: &str) -> Path {
        self.prefix.parts().chain(Path::from(path).parts()).collect()
    }

    fn failed(&self, action: &'static str, path: &str) -> impl FnOnce(object_store::Error) -> ObjectsError {
        let place = self.url_of(path);
        move |error| ObjectsError { action, place, detail: explain(&error) }
    }

    /// The object's bytes, or none where there is no such object.
    ///
    /// # Errors
    /// The store does not answer or refuses.
    pub async fn get(&self, path: &str) -> Result<Option<Bytes>, ObjectsError> {
        match self.store.get(&self.at(path)).await {
            Ok(found) => found.bytes().await.map(Some).map_err(self.failed("read", path)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.failed("read", path)(error)),
        }
    }

    /// Parts of the object, in their order; near ones are fetched together.
    ///
    /// # Errors
    /// The store does not answer or refuses, or there is no such object or part.
    pub async fn get_ranges(&self, path: &str, ranges: &[Range<u64>]) -> Result<Vec<Bytes>, ObjectsError> {
        self.store.get_ranges(&self.at(path), ranges).await.map_err(self.failed("read", path))
    }

    /// Writes the object whole, over an older one.
    ///
    /// # Errors
    /// The store does not answer or refuses.
    pub async fn put(&self, path: &str, bytes: Bytes) -> Result<(), ObjectsError> {
        self.store.put(&self.at(path), bytes.into()).await.map_err(self.failed("write", path))?;
        self.flush(path)
    }

    /// Writes the object whole if there is none; tells whether it did. Of several at once, one does.
    ///
    /// # Errors
    /// The store does not answer or refuses.
    pub async fn create(&self, path: &str, bytes: Bytes) -> Result<bool, ObjectsError> {
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        match self.store.put_opts(&self.at(path), bytes.into(), options).await {
            Ok(_) => self.flush(path).map(|()| true),
            Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => Ok(false),
            Err(error) => Err(self.failed("write", path)(error)),
        }
    }

    /// Begins an object that is written in parts and appears when it is completed.
    ///
    /// # Errors
    /// The store does not answer or refuses.
    pub async fn upload(&self, path: &str) -> Result<Box<dyn MultipartUpload>, ObjectsError> {
        self.store.put_multipart(&self.at(path)).await.map_err(self.failed("write", path))
    }

    /// Turns a failure of an upload's part into words.
    pub fn upload_failed(&self, path: &str, error: object_store::Error) -> ObjectsError {
        self.failed("write", path)(error)
    }

    /// All objects below a folder, by path.
    ///
    /// # Errors
    /// The store does not answer or refuses.
    pub async fn list(&self, folder: &str) -> Result<Vec<Listed>, ObjectsError> {
        self.list_after(folder, None).await
    }

    /// The objects below a folder whose path sorts after `after`.
    ///
    /// # Errors
    /// The store does not answer or refuses.
    pub async fn list_after(&self, folder: &str, after: Option<&str>) -> Result<Vec<Listed>, ObjectsError> {
        let folder_path = self.at(folder);
        let found = match after {
            Some(after) => self.store.list_with_offset(Some(&folder_path), &self.at(after)),
            None => self.store.list(Some(&folder_path)),
        };
        let found: Vec<_> = found.try_collect().await.map_err(self.failed("list", folder))?;
        let skip = self.prefix.as_ref().len() + usize::from(!self.prefix.as_ref().is_empty());
        let mut listed: Vec<Listed> = found
            .into_iter()
            .filter_map(|meta| Some(Listed { path: meta.location.as_ref().get(skip..)?.to_owned(), size: meta.size }))
            .collect();
        listed.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(listed)
    }

    /// Deletes the object; one that is not there is deleted already.
    ///
    /// # Errors
    /// The store does not answer or refuses.
    pub async fn delete(&self, path: &str) -> Result<(), ObjectsError> {
        match self.store.delete(&self.at(path)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(self.failed("delete", path)(error)),
        }
    }

    /// Moves an object; tells whether it was there. On S3 this is a copy inside the store and a deletion.
    ///
    /// # Errors
    /// The store does not answer or refuses.
    pub async fn rename(&self, from: &str, to: &str) -> Result<bool, ObjectsError> {
        match self.store.rename(&self.at(from), &self.at(to)).await {
            Ok(()) => self.flush(to).map(|()| true),
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(self.failed("write", to)(error)),
        }
    }

    /// Whether the object is there.
    ///
    /// # Errors
    /// The store does not answer or refuses.
    pub async fn exists(&self, path: &str) -> Result<bool, ObjectsError> {
        match self.store.head(&self.at(path)).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(self.failed("read", path)(error)),
        }
    }

    /// Streams an object into a local file.
    ///
    /// # Errors
    /// The store does not answer or refuses, or the local disk does.
    pub async fn download(&self, path: &str, to: &std::path::Path) -> Result<(), ObjectsError> {
        use std::io::Write;
        let local = |error: std::io::Error| ObjectsError {
            action: "write",
            place: to.display().to_string(),
            detail: explain_io(&error),
        };
        let mut stream = self.store.get(&self.at(path)).await.map_err(self.failed("read", path))?.into_stream();
        let mut file = std::fs::File::create(to).map_err(local)?;
        while let Some(part) = stream.try_next().await.map_err(self.failed("read", path))? {
            file.write_all(&part).map_err(local)?;
        }
        Ok(())
    }

    /// Makes a local file and its name durable; S3 has done so when it answers.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn flush(&self, path: &str) -> Result<(), ObjectsError> {
        let Some(file) = self.local_path(path) else { return Ok(()) };
        let flushed = std::fs::File::open(&file)
            .and_then(|file| file.sync_all())
            .and_then(|()| file.parent().map_or(Ok(()), |folder| std::fs::File::open(folder)?.sync_all()));
        flushed.map_err(|error| ObjectsError { action: "write", place: self.url_of(path), detail: explain_io(&error) })
    }
}

fn s3_store(bucket: &str, s3: &S3Access) -> Result<impl ObjectStore + use<>, object_store::Error> {
    let mut builder = AmazonS3Builder::from_env()
        .with_bucket_name(bucket)
        .with_conditional_put(S3ConditionalPut::ETagMatch)
        .with_retry(RetryConfig {
            max_retries: 5,
            retry_timeout: std::time::Duration::from_secs(60),
            ..Default::default()
        });
    if let Some(endpoint) = &s3.endpoint {
        builder = builder.with_endpoint(endpoint).with_allow_http(endpoint.starts_with("http://"));
    }
    builder = builder.with_virtual_hosted_style_request(!s3.path_style.unwrap_or(s3.endpoint.is_some()));
    if let Some(region) = &s3.region {
        builder = builder.with_region(region);
    }
    if let (Some(id), Some(secret)) = (&s3.access_key_id, &s3.secret_access_key) {
        builder = builder.with_access_key_id(id).with_secret_access_key(secret);
    }
    let allow_http = s3.endpoint.as_ref().is_some_and(|endpoint| endpoint.starts_with("http://"));
    builder = builder.with_client_options(ClientOptions::new().with_allow_http(allow_http));
    builder.build()
}

fn explain(error: &object_store::Error) -> String {
    use std::error::Error;
    let mut source: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(cause) = source {
        if let Some(io) = cause.downcast_ref::<std::io::Error>() {
            if matches!(io.kind(), std::io::ErrorKind::ConnectionRefused | std::io::ErrorKind::TimedOut) {
                return format!("{io}; check that the store runs, and its endpoint");
            }
            return explain_io(io);
        }
        source = cause.source();
    }
    let text = error.to_string();
    let hint = if text.contains("SignatureDoesNotMatch") || text.contains("InvalidAccessKeyId") {
        "; check the access key and the secret"
    } else if text.contains("AccessDenied") || text.contains("403") {
        "; check the keys and that the policy allows GetObject, PutObject, DeleteObject and ListBucket"
    } else if text.contains("NoSuchBucket") {
        "; make the bucket first, or correct its name"
    } else {
        ""
    };
    let text: String = text.chars().take(400).collect();
    format!("{text}{hint}")
}

fn explain_io(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::StorageFull => "the disk is full; free room or choose another destination".into(),
        std::io::ErrorKind::PermissionDenied => "permission denied; choose a folder that can be written".into(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch() -> (tempfile::TempDir, Objects) {
        let folder = tempfile::tempdir().unwrap();
        let objects = Objects::open(folder.path().to_str().unwrap(), &S3Access::default()).unwrap();
        (folder, objects)
    }

    #[tokio::test]
    async fn one_of_two_creates() {
        let (_folder, objects) = scratch();
        assert!(objects.create("a/1", Bytes::from_static(b"x")).await.unwrap());
        assert!(!objects.create("a/1", Bytes::from_static(b"y")).await.unwrap());
        assert_eq!(objects.get("a/1").await.unwrap().unwrap(), "x");
    }

    #[tokio::test]
    async fn paths_are_relative_wherever_the_prefix_is() {
        let (_folder, objects) = scratch();
        let below = objects.below("data=1/set");
        below.put("r/f", Bytes::from_static(b"x")).await.unwrap();
        assert_eq!(below.list("r").await.unwrap(), [Listed { path: "r/f".into(), size: 1 }]);
        assert_eq!(objects.list("").await.unwrap()[0].path, "data=1/set/r/f");
        assert!(below.rename("r/f", "s/g").await.unwrap());
        assert!(!below.rename("r/f", "s/g").await.unwrap());
        assert!(below.local_path("s/g").unwrap().is_file());
        below.delete("s/g").await.unwrap();
        below.delete("s/g").await.unwrap();
        assert!(!below.exists("s/g").await.unwrap());
    }

    #[test]
    fn wrong_urls_say_what_to_write() {
        for url in ["s3://", "ftp://x/y", "", "/dev/null/x"] {
            let error = Objects::open(url, &S3Access::default()).unwrap_err().to_string();
            assert!(error.contains("bucket") || error.contains("path") || error.contains("folder"), "{error}");
        }
    }
}
