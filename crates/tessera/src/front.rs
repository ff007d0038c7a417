//! The gateway in front of `tessera up`: its addresses, its certificate and its config.
//!
//! Everything is served through it, with and without TLS; the products' own port is for this machine. The config is a file in the
//! data folder, to look at and to begin an own one from.

use std::fs::{self, File, TryLockError};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::Context;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SanType};
use tessera_gateway::tls::read_pair;
use tessera_kernel::Clock;
use tessera_service::config::Config;
use tessera_service::http;
use tessera_service::run::{self, Front};
use time::OffsetDateTime;
use tokio::net::TcpListener;

use crate::settings::Up;
use crate::up::Failure;

/// How long a certificate is good; browsers take none that is good for much longer.
const CERTIFICATE_DAYS: u32 = 397;
/// A certificate is made anew at the first start after so many days.
const RENEWED_AFTER: time::Duration = time::Duration::days(330);

/// Takes the addresses that the settings say, or says which setting to change. Gives the products' own port, and where the
/// gateway is to listen; it opens these two itself.
pub async fn open(config: &Config) -> Result<(TcpListener, Front), Failure> {
    let (http, up): (http::Config, Up) = (config.get()?, config.get()?);
    let plain = run::bind(&http.listen).await?;
    let plain_at = plain.local_addr().context("the address of the bound port")?;
    // With port 0 everything is on free ports.
    let asked: Option<u16> = http.listen.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
    let beside = |host: IpAddr, ports: [(u16, u16); 2]| {
        let port = ports.into_iter().find(|(plain, _)| Some(*plain) == asked).map_or(0, |(_, port)| port);
        SocketAddr::new(host, port).to_string()
    };
    let https = up.https.unwrap_or_else(|| beside(plain_at.ip(), [(8080, 8443), (80, 443)]));
    let https = run::bind_for(Up::HTTPS, Up::HTTPS_REMEDY, &https).await?;
    let https_at = https.local_addr().context("the address of the bound port")?;
    let direct = up.direct.unwrap_or_else(|| beside([127, 0, 0, 1].into(), [(8080, 8081), (80, 8081)]));
    let direct = run::bind_for(Up::DIRECT, Up::DIRECT_REMEDY, &direct).await?;
    Ok((direct, Front { http: plain_at, https: https_at }))
}

/// The gateway's config in the data folder. While this is held no other process puts other addresses into it, which the gateway would
/// follow.
#[derive(Debug)]
pub struct Served {
    /// Where it lies.
    pub path: PathBuf,
    /// Locked, shared with processes that serve by the same words.
    _held: File,
}

/// Writes the gateway's config and, where there is none, a certificate signed by itself.
pub fn prepare(front: Front, data: &Path, clock: &dyn Clock) -> Result<Served, Failure> {
    let folder = data.join("gateway");
    fs::create_dir_all(&folder).with_context(|| format!("the folder {}", folder.display()))?;
    certify(&folder, clock)?;
    let text =
        include_str!("front.yaml").replace("HTTPS", &front.https.to_string()).replace("HTTP", &front.http.to_string());
    serve_by(folder.join("up.yaml"), &text)
}

fn serve_by(path: PathBuf, text: &str) -> Result<Served, Failure> {
    let of_file = || format!("the file {}", path.display());
    let held = File::options().write(true).create(true).truncate(false).open(&path).with_context(of_file)?;
    // Nobody writes while it is locked. Who has it for writing is done at once.
    match held.try_lock() {
        Ok(()) => {
            fs::write(&path, text).with_context(of_file)?;
            held.unlock().with_context(of_file)?;
        }
        Err(TryLockError::WouldBlock) => {}
        Err(TryLockError::Error(error)) => return Err(anyhow::Error::new(error).context(of_file()).into()),
    }
    held.lock_shared().with_context(of_file)?;
    if fs::read_to_string(&path).with_context(of_file)? != text {
        let line = format!(
            "another process serves by {} on other addresses; stop that one, or give this one another folder with --data",
            path.display()
        );
        return Err(Failure::Usage(line));
    }
    Ok(Served { path, _held: held })
}

/// A certificate for this machine, made once and kept for as long as it is good. Where a start was cut short between the two
/// files they do not go together, and the next one makes them anew.
fn certify(folder: &Path, clock: &dyn Clock) -> anyhow::Result<()> {
    let now = OffsetDateTime::from_unix_timestamp(clock.now().micros().div_euclid(1_000_000))?;
    let (certificate, key) = (folder.join("certificate.pem"), folder.join("key.pem"));
    let made_at = fs::metadata(&certificate).and_then(|data| data.modified()).map(OffsetDateTime::from);
    if made_at.is_ok_and(|at| now - at < RENEWED_AFTER) && read_pair(&certificate, &key).is_ok() {
        return Ok(());
    }
    let mut params = CertificateParams::new(vec!["localhost".to_owned()])?;
    for ip in [IpAddr::from([127, 0, 0, 1]), "::1".parse()?] {
        params.subject_alt_names.push(SanType::IpAddress(ip));
    }
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "Tessera on this machine");
    params.not_before = now - time::Duration::days(1);
    params.not_after = now + time::Duration::days(CERTIFICATE_DAYS.into());
    let pair = KeyPair::generate()?;
    let made = params.self_signed(&pair)?;
    write_secret(&key, &pair.serialize_pem()).with_context(|| format!("the file {}", key.display()))?;
    fs::write(&certificate, made.pem()).with_context(|| format!("the file {}", certificate.display()))
}

/// Readable by its owner only.
fn write_secret(path: &Path, text: &str) -> std::io::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let _ = fs::remove_file(path);
    fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?.write_all(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use tessera_kernel::SystemClock;

    use super::*;

    #[test]
    fn the_file_of_a_process_that_serves_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("up.yaml");
        let serve = |text: &str| serve_by(path.clone(), text);
        let written = || fs::read_to_string(&path).unwrap();
        drop(serve("an older and longer one").unwrap());
        let (first, second) = (serve("one").unwrap(), serve("one").unwrap());
        assert!(first.path == second.path && written() == "one");
        for left in [Some(first), None] {
            let Err(Failure::Usage(line)) = serve("another") else { panic!("it was written") };
            assert!(line.contains("up.yaml") && line.contains("--data"), "{line}");
            assert_eq!(written(), "one");
            drop(left);
        }
        drop(second);
        serve("another").unwrap();
        assert_eq!(written(), "another");
    }

    fn is_good(folder: &Path) -> bool {
        read_pair(&folder.join("certificate.pem"), &folder.join("key.pem")).is_ok()
    }

    #[test]
    fn a_start_that_was_cut_short_is_made_good_by_the_next_one() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        certify(folder, &SystemClock).unwrap();
        let [certificate, key] = ["certificate.pem", "key.pem"].map(|name| folder.join(name));
        let kept = fs::read(&certificate).unwrap();
        certify(folder, &SystemClock).unwrap();
        assert_eq!(fs::read(&certificate).unwrap(), kept, "a good one stays");
        // Each state that a crash may leave: one of the two is not there, is half written, or is of another time.
        for file in [&certificate, &key] {
            let whole = fs::read(file).unwrap();
            fs::remove_file(file).unwrap();
            certify(folder, &SystemClock).unwrap();
            assert!(is_good(folder), "{} was missing", file.display());
            for left in [&[][..], &whole[..whole.len() / 2], &whole] {
                fs::write(file, left).unwrap();
                certify(folder, &SystemClock).unwrap();
                assert!(is_good(folder), "{} was {} bytes of another", file.display(), left.len());
            }
        }
    }
}
