//! The private key of a node: made from the system's chance, kept in a file that is ours alone, wiped from memory once
//! it is taken over by the library, which wipes its own copy.
//!
//! The file is PKCS#8 in PEM, as other programs know it: `openssl pkey -in FILE -pubout` shows its public half.

use crate::error::{Error, Kind, Result};
use crate::key::PublicKey;
use crate::limits::KEY_FILE_BYTES_MAX;
use base64ct::{Base64, Encoding};
use rustls::crypto::aws_lc_rs::sign::any_eddsa_type;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject;
use rustls::sign::SigningKey;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use zeroize::{Zeroize, Zeroizing};

/// What stands before the 32 bytes of a private key in PKCS#8 (RFC 8410).
const PKCS8_PREFIX: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];
const BEGIN: &str = "-----BEGIN PRIVATE KEY-----\n";
const END: &str = "\n-----END PRIVATE KEY-----\n";

/// A node's private key.
pub struct Secret {
    pub(super) signing: Arc<dyn SigningKey>,
    /// Its public half.
    pub public: PublicKey,
}

impl Secret {
    /// Reads the key in `file`.
    ///
    /// # Errors
    /// It is not there, not ours alone, or no Ed25519 key.
    pub fn load(file: &Path) -> Result<Secret> {
        let what = || format!("Cannot use the private key in {}", file.display());
        let pem = read(file)?;
        let wrong = |_| {
            Error::new(Kind::Config, what())
                .why("it is not an Ed25519 key in PEM, as `rblk keygen` writes it")
                .remedy("name the right file, or make a key with `rblk keygen`")
        };
        let mut der = PrivatePkcs8KeyDer::from_pem_slice(&pem).map_err(|_| wrong(()))?;
        let secret = Secret::from_der(&der);
        der.zeroize();
        secret.ok_or_else(|| wrong(()))
    }

    /// Makes a new key and writes it to `file`, which must not exist unless it may be `replace`d: then it changes all
    /// at once.
    ///
    /// # Errors
    /// There is one already, or it cannot be written.
    pub fn create(file: &Path, replace: bool) -> Result<PublicKey> {
        let what = || format!("Cannot write the private key to {}", file.display());
        let failed = |error| Error::io(what(), error);
        let (secret, der) = fresh().map_err(failed)?;
        // A name of its own: FILE.new may be a key that is being exchanged.
        let beside = with_end(file, &format!(".{}.tmp", std::process::id()));
        // What an attempt that broke off has left, by a process of the same number.
        let _absent = std::fs::remove_file(&beside);
        write(&beside, &der[..]).map_err(|error| match error.kind() {
            ErrorKind::NotFound => failed(error)
                .remedy("make the folder, which root alone should write to; or name another file"),
            _ => failed(error),
        })?;
        // It has its name once it is whole: half a key would be in the way of the next attempt.
        let named =
            if replace { std::fs::rename(&beside, file) } else { rename_new(&beside, file) };
        named.map_err(|error| {
            let _gone = std::fs::remove_file(&beside);
            match error.kind() {
                ErrorKind::AlreadyExists => Error::new(Kind::Refused, what())
                    .why("there is a key already, and the peer may know this node by it")
                    .remedy(
                        "keep it; or add --force to replace it, or name another file with --file; then the \
                         configuration of both nodes needs the new key",
                    ),
                _ => failed(error),
            }
        })?;
        let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = File::open(folder.unwrap_or(Path::new(".")));
        folder.and_then(|folder| folder.sync_all()).map_err(failed)?;
        Ok(secret.public)
    }

    /// The key in `file`, made if there is none; true if it was.
    ///
    /// # Errors
    /// As [`Secret::load`] and [`Secret::create`].
    pub fn load_or_create(file: &Path) -> Result<(Secret, bool)> {
        let absent =
            std::fs::symlink_metadata(file).is_err_and(|error| error.kind() == ErrorKind::NotFound);
        if absent {
            Secret::create(file, false)?;
        }
        Ok((Secret::load(file)?, absent))
    }

    /// A new key that is kept nowhere.
    ///
    /// # Errors
    /// The system gives no random bytes.
    pub fn for_once() -> std::io::Result<Secret> {
        fresh().map(|(secret, _)| secret)
    }

    fn from_der(der: &PrivatePkcs8KeyDer<'_>) -> Option<Secret> {
        let signing = any_eddsa_type(der).ok()?;
        let public = PublicKey::from_spki(&signing.public_key()?)?;
        Some(Secret { signing, public })
    }
}

/// A new key, and what is to be kept of it.
fn fresh() -> std::io::Result<(Secret, Zeroizing<[u8; PKCS8_PREFIX.len() + 32]>)> {
    let mut der = Zeroizing::new([0; PKCS8_PREFIX.len() + 32]);
    der[..PKCS8_PREFIX.len()].copy_from_slice(&PKCS8_PREFIX);
    getrandom::fill(&mut der[PKCS8_PREFIX.len()..]).map_err(std::io::Error::other)?;
    let secret = Secret::from_der(&PrivatePkcs8KeyDer::from(&der[..]));
    let secret =
        secret.ok_or_else(|| std::io::Error::other("no key can be made of random bytes"))?;
    Ok((secret, der))
}

/// The content of a key's file, if nobody else can read it.
fn read(file: &Path) -> Result<Zeroizing<Vec<u8>>> {
    let what = || format!("Cannot use the private key in {}", file.display());
    let failed = |error| {
        Error::io(what(), error)
            .remedy("make a key with `rblk keygen`, or correct `key-file` in [net]")
    };
    // A FIFO must not hold us.
    let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let opened = OpenOptions::new().read(true).custom_flags(flags).open(file).map_err(failed)?;
    let about = opened.metadata().map_err(failed)?;
    let refused = |why: String, remedy: String| {
        Err(Error::new(Kind::Refused, what()).why(why).remedy(remedy))
    };
    let us = rustix::process::geteuid().as_raw();
    let place = file.display();
    if !about.is_file() || about.len() > KEY_FILE_BYTES_MAX {
        return refused(
            "it is not a small regular file".to_owned(),
            "name the file that `rblk keygen` has written".to_owned(),
        );
    }
    if about.uid() != us {
        return refused(
            format!("it belongs to user {}, and this is user {us}", about.uid()),
            format!("run `chown {us} {place}`"),
        );
    }
    if about.mode() & 0o077 != 0 {
        return refused(
            format!("others than its owner may use it (mode {:04o})", about.mode() & 0o7777),
            format!("run `chmod 0600 {place}`, and make a new key if somebody may have read it"),
        );
    }
    // Of its full size at once: a vector that grows would leave copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(KEY_FILE_BYTES_MAX as usize + 1));
    opened.take(KEY_FILE_BYTES_MAX).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

fn write(file: &Path, der: &[u8]) -> std::io::Result<()> {
    let mut text = Zeroizing::new([0; 64]);
    let coded = Base64::encode(der, &mut text[..]).map_err(std::io::Error::other)?;
    let mut out = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file)?;
    let written = [BEGIN, coded, END].iter().try_for_each(|part| out.write_all(part.as_bytes()));
    written.and_then(|()| out.sync_all()).inspect_err(|_| {
        // Half a key is none.
        let _gone = std::fs::remove_file(file);
    })
}

/// Renames, unless there is something with the new name.
fn rename_new(from: &Path, to: &Path) -> std::io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // The file system does not know how.
        Err(rustix::io::Errno::INVAL) => match std::fs::symlink_metadata(to) {
            Ok(_) => Err(ErrorKind::AlreadyExists.into()),
            Err(_) => std::fs::rename(from, to),
        },
        done => done.map_err(Into::into),
    }
}

fn with_end(file: &Path, end: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(end);
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_key_is_written_once_and_read_back() {
        let dir = tempfile::tempdir().expect("dir");
        let file = dir.path().join("x.key");
        let public = Secret::create(&file, false).expect("made");
        assert_eq!(std::fs::metadata(&file).expect("there").mode() & 0o7777, 0o600);
        assert_eq!(Secret::load(&file).map(|secret| secret.public).ok(), Some(public));
        let again = Secret::create(&file, false).expect_err("it is there");
        assert_eq!(again.kind(), Kind::Refused);
        assert_eq!(Secret::load(&file).map(|secret| secret.public).ok(), Some(public));
        let other = Secret::create(&file, true).expect("replaced");
        assert_ne!(other, public);
        assert_eq!(Secret::load(&file).map(|secret| secret.public).ok(), Some(other));
        assert_eq!(std::fs::read_dir(dir.path()).expect("listed").count(), 1);
    }

    #[test]
    fn a_key_that_others_may_read_is_refused() {
        let dir = tempfile::tempdir().expect("dir");
        let file = dir.path().join("x.key");
        Secret::create(&file, false).expect("made");
        for mode in [0o640, 0o604, 0o660, 0o601] {
            let mode = std::fs::Permissions::from_mode(mode);
            std::fs::set_permissions(&file, mode).expect("set");
            let error = Secret::load(&file).err().expect("open to others").to_string();
            assert!(error.contains("chmod 0600"), "{error}");
        }
        let mode = std::fs::Permissions::from_mode(0o400);
        std::fs::set_permissions(&file, mode).expect("set");
        assert!(Secret::load(&file).is_ok(), "ours alone, and not to be written");
    }

    #[test]
    fn nonsense_is_no_key() {
        let dir = tempfile::tempdir().expect("dir");
        let file = dir.path().join("x.key");
        let absent = Secret::load(&file).err().expect("absent").to_string();
        assert!(absent.contains("rblk keygen"), "{absent}");
        Secret::create(&file, false).expect("made");
        let good = std::fs::read_to_string(&file).expect("read");
        let long = "x".repeat(KEY_FILE_BYTES_MAX as usize + 1);
        for bad in ["", "x", &good.replace("MC4", "MC5"), &good[..60], &long] {
            std::fs::write(&file, bad).expect("written");
            assert!(Secret::load(&file).is_err(), "{bad}");
        }
        assert!(Secret::load(dir.path()).is_err());
    }
}
