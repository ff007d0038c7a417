//! The floor: pages over HTTP, several in flight, JSON into Arrow by a schema known beforehand, Parquet with zstd.
//! Nothing else: no retries, no inference, no manifest, no checksum, no flush to the disk.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, ensure};
use arrow_array::RecordBatch;
use arrow_array::cast::AsArray;
use arrow_json::ReaderBuilder;
use arrow_schema::{DataType, Field, Fields, Schema, TimeUnit};
use bytes::Bytes;
use clap::Parser;
use futures::{StreamExt, TryStreamExt};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use tokio::sync::mpsc;

/// Batches that wait for the writer.
const QUEUE: usize = 4;
/// The writer's row groups: the same as those of `tessera ingest`.
const ROW_GROUP_BYTES: usize = 24 << 20;

/// Reads all pages of an API into one Parquet file
#[derive(Parser, Debug)]
struct Options {
    /// URL of the rows, without its query
    #[arg(long)]
    url: String,
    /// The file to write
    #[arg(long)]
    out: PathBuf,
    /// Requests in flight
    #[arg(long, default_value_t = 8)]
    concurrency: usize,
}

#[derive(serde::Deserialize)]
struct Counts {
    total_pages: u64,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let client = client()?;
    let first = fetch(&client, &options.url, 1).await?;
    let pages = serde_json::from_slice::<Counts>(&first).context("the first page")?.total_pages;
    let (batches, received) = mpsc::channel(QUEUE);
    let out = options.out.clone();
    let writer = tokio::task::spawn_blocking(move || write(&out, received));
    let read = futures::stream::iter(2..=pages)
        .map(|page| {
            let (client, url) = (client.clone(), options.url.clone());
            async move { tokio::spawn(async move { fetch_and_decode(&client, &url, page).await }).await? }
        })
        .buffer_unordered(options.concurrency);
    let first = futures::stream::once(async move { tokio::task::spawn_blocking(move || decode(&first)).await? });
    let sent = first.chain(read).try_for_each(|batch| {
        let batches = &batches;
        async move { batches.send(batch).await.context("the writer stopped") }
    });
    let sent = sent.await;
    drop(batches);
    writer.await??;
    sent
}

#[expect(clippy::disallowed_methods, reason = "the floor takes the client as it comes")]
fn client() -> anyhow::Result<reqwest::Client> {
    Ok(reqwest::Client::builder().build()?)
}

async fn fetch(client: &reqwest::Client, url: &str, page: u64) -> anyhow::Result<Bytes> {
    let answer = client.get(format!("{url}?page={page}&per_page=1000")).send().await?;
    Ok(answer.error_for_status()?.bytes().await?)
}

async fn fetch_and_decode(client: &reqwest::Client, url: &str, page: u64) -> anyhow::Result<RecordBatch> {
    let body = fetch(client, url, page).await?;
    tokio::task::spawn_blocking(move || decode(&body)).await?
}

/// The whole answer is decoded as one record that holds the list of rows; the list's items are the batch.
fn decode(body: &[u8]) -> anyhow::Result<RecordBatch> {
    let rows = DataType::List(Arc::new(Field::new_list_field(DataType::Struct(row_fields()), true)));
    let answer = Arc::new(Schema::new(vec![Field::new("data", rows, true)]));
    let mut decoder = ReaderBuilder::new(answer).with_batch_size(1).build_decoder()?;
    let taken = decoder.decode(body)?;
    ensure!(taken == body.len(), "the answer goes on after {taken} of {} bytes", body.len());
    let answer = decoder.flush()?.context("an empty answer")?;
    Ok(RecordBatch::from(answer.column(0).as_list::<i32>().values().as_struct()))
}

fn write(path: &std::path::Path, mut batches: mpsc::Receiver<RecordBatch>) -> anyhow::Result<()> {
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(1)?))
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_max_row_group_bytes(Some(ROW_GROUP_BYTES))
        .build();
    let schema = Arc::new(Schema::new(row_fields()));
    let mut writer = ArrowWriter::try_new(File::create(path)?, schema, Some(properties))?;
    while let Some(batch) = batches.blocking_recv() {
        writer.write(&batch)?;
    }
    writer.close()?;
    Ok(())
}

fn row_fields() -> Fields {
    let text = |name: &str| Field::new(name, DataType::Utf8, true);
    let float = |name: &str| Field::new(name, DataType::Float64, true);
    let int = |name: &str| Field::new(name, DataType::Int64, true);
    let time = |name: &str| Field::new(name, DataType::Timestamp(TimeUnit::Microsecond, Some("+00:00".into())), true);
    let customer = Fields::from(vec![text("name"), text("email"), float("lat"), float("lon")]);
    Fields::from(vec![
        int("id"),
        text("ref"),
        text("status"),
        text("country"),
        int("quantity"),
        float("price"),
        float("discount"),
        Field::new("gift", DataType::Boolean, true),
        time("created_at"),
        time("shipped_at"),
        text("note"),
        Field::new("customer", DataType::Struct(customer), true),
    ])
}
