//! Who a server is: its private key, a certificate of it, and the token that its clients must have.
//!
//! Knows no network. Only the key and the token are stored; a certificate is made anew from the key
//! each time, and what clients pin is the key. Invariant: a state directory has one identity for as
//! long as its file is not removed.

use std::fmt;
use std::path::{Path, PathBuf};

use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, PublicKeyData};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use serde::{Deserialize, Serialize};

use super::hex;
use super::secret::{Pin, Token};
use crate::private_file::{self, BY_OTHERS, PrivateFileError};

/// The version of the file's shape.
const FORMAT: u32 = 1;

/// A server has no identity.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// Its file cannot be used or must not be believed.
    #[error("the server's key: {0}")]
    File(#[from] PrivateFileError),
    /// Its file makes no sense.
    #[error(
        "{path} is damaged: {reason}; remove it, and the next server makes a new key, which workers that still run do not know"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it; nothing of what it holds.
        reason: String,
    },
    /// A key cannot be made.
    #[error("cannot make a key for the server: {0}")]
    NotMade(String),
}

/// A private key, a self-signed certificate of it, and a token.
pub struct Identity {
    key: PrivatePkcs8KeyDer<'static>,
    certificate: CertificateDer<'static>,
    pin: Pin,
    token: Token,
}

/// As it is stored: PKCS#8 in DER as hexadecimal digits, and the token.
#[derive(Serialize, Deserialize)]
struct Stored {
    format: u32,
    key: String,
    token: Token,
}

impl Identity {
    /// Where it is kept.
    pub fn file(state_dir: &Path) -> PathBuf {
        state_dir.join("server.key.json")
    }

    /// The identity of the server of this state directory, which must exist; a new one when it has
    /// none yet.
    ///
    /// # Errors
    /// When it cannot be read or written, is not this user's alone, or is damaged. Nothing is changed
    /// then.
    pub fn load_or_create(state_dir: &Path) -> Result<Self, IdentityError> {
        let path = Self::file(state_dir);
        if let Some(bytes) = private_file::read(&path, BY_OTHERS)? {
            return Self::from_file(&path, &bytes);
        }
        let fresh = Self::generate()?;
        if private_file::create(&path, &fresh.to_file())? {
            return Ok(fresh);
        }
        // Another server was faster.
        match private_file::read(&path, BY_OTHERS)? {
            Some(bytes) => Self::from_file(&path, &bytes),
            None => {
                Err(IdentityError::NotMade(format!("{} comes and goes; try again", path.display())))
            }
        }
    }

    /// A new one, which is nowhere stored.
    ///
    /// # Errors
    /// When the operating system has no randomness.
    pub fn generate() -> Result<Self, IdentityError> {
        let not_made = |error: rcgen::Error| IdentityError::NotMade(error.to_string());
        let pair = KeyPair::generate().map_err(not_made)?;
        let token = Token::random().map_err(|error| IdentityError::NotMade(error.to_string()))?;
        Self::new(&pair, token).map_err(not_made)
    }

    fn new(pair: &KeyPair, token: Token) -> Result<Self, rcgen::Error> {
        // Valid from 1975 to 4096; our clients look at the key only.
        let mut params = CertificateParams::default();
        let mut name = DistinguishedName::new();
        name.push(DnType::CommonName, "torc");
        params.distinguished_name = name;
        let certificate = params.self_signed(pair)?.der().clone();
        let pin = Pin::of_key(&pair.subject_public_key_info());
        Ok(Self { key: pair.serialize_der().into(), certificate, pin, token })
    }

    fn from_file(path: &Path, bytes: &[u8]) -> Result<Self, IdentityError> {
        let damaged = |reason: String| IdentityError::Damaged { path: path.to_path_buf(), reason };
        // The parser's own words may repeat what it read.
        let stored: Stored = serde_json::from_slice(bytes).map_err(|error| {
            damaged(format!("line {}, column {} is unreadable", error.line(), error.column()))
        })?;
        if stored.format != FORMAT {
            return Err(damaged(format!("its format is {}, not {FORMAT}", stored.format)));
        }
        let key = hex::decode(&stored.key).ok_or_else(|| damaged("the key is no text".into()))?;
        let pair = KeyPair::try_from(&PrivatePkcs8KeyDer::from(key))
            .map_err(|error| damaged(error.to_string()))?;
        Self::new(&pair, stored.token).map_err(|error| damaged(error.to_string()))
    }

    fn to_file(&self) -> Vec<u8> {
        let key = hex::encode(self.key.secret_pkcs8_der());
        let stored = Stored { format: FORMAT, key, token: self.token.clone() };
        serde_json::to_vec_pretty(&stored).expect("numbers and text serialize")
    }

    /// What clients know the key by.
    pub fn pin(&self) -> Pin {
        self.pin
    }

    /// What clients must know.
    pub fn token(&self) -> &Token {
        &self.token
    }

    pub(super) fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    pub(super) fn key(&self) -> PrivatePkcs8KeyDer<'static> {
        self.key.clone_key()
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("pin", &self.pin).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().expect("a folder")
    }

    #[test]
    fn an_identity_lasts_and_is_private() {
        let folder = folder();
        let first = Identity::load_or_create(folder.path()).expect("is made");
        let second = Identity::load_or_create(folder.path()).expect("is read");
        assert_eq!((first.pin, &first.token), (second.pin, &second.token));
        let file = Identity::file(folder.path());
        let mode = file.metadata().expect("exists").permissions().mode();
        assert_eq!(mode & 0o7777, 0o600);
        let other = Identity::generate().expect("is made");
        assert_ne!(other.pin, first.pin);
        assert_ne!(other.token, first.token);
    }

    #[test]
    fn those_who_come_at_once_get_the_same() {
        let folder = folder();
        let pins: Vec<Pin> = std::thread::scope(|scope| {
            let load = || Identity::load_or_create(folder.path()).expect("is made or read").pin;
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(load)).collect();
            threads.into_iter().map(|thread| thread.join().expect("ends")).collect()
        });
        assert!(pins.iter().all(|pin| *pin == pins[0]), "{pins:?}");
    }

    #[test]
    fn nothing_secret_shows() {
        let identity = Identity::generate().expect("is made");
        let shown = format!("{identity:?}");
        assert!(!shown.contains(identity.token.reveal()), "{shown}");
        let key = hex::encode(identity.key.secret_pkcs8_der());
        assert!(!shown.contains(&key) && shown.contains(&identity.pin.to_string()), "{shown}");
    }

    #[test]
    fn a_damaged_file_is_told_and_kept() {
        #[track_caller]
        fn check(content: &str, expected: &str) {
            let folder = folder();
            let file = Identity::file(folder.path());
            private_file::create(&file, content.as_bytes()).expect("is written");
            let error = Identity::load_or_create(folder.path()).expect_err("is damaged");
            let text = error.to_string();
            assert!(matches!(error, IdentityError::Damaged { .. }), "{text}");
            assert!(text.contains(expected) && text.contains("remove it"), "{text}");
            assert!(!text.contains("c0ffee"), "{text}");
            assert_eq!(std::fs::read(&file).expect("is there"), content.as_bytes());
        }
        let token = "0".repeat(64);
        check("", "line 1, column 0");
        check("c0ffee", "line 1, column 1");
        check(r#"{"format": "c0ffee"}"#, "line 1");
        check(r#"{"format": 1, "key": "00", "token": "c0ffee"}"#, "line 1");
        check(&format!(r#"{{"format": 2, "key": "00", "token": "{token}"}}"#), "format is 2");
        check(&format!(r#"{{"format": 1, "key": "c0ffee!", "token": "{token}"}}"#), "no text");
        check(&format!(r#"{{"format": 1, "key": "c0ffee", "token": "{token}"}}"#), "");
    }

    #[test]
    fn a_file_that_others_can_read_is_refused() {
        let folder = folder();
        Identity::load_or_create(folder.path()).expect("is made");
        let file = Identity::file(folder.path());
        let permissions = std::fs::Permissions::from_mode(0o640);
        std::fs::set_permissions(&file, permissions).expect("is changed");
        let error = Identity::load_or_create(folder.path()).expect_err("is exposed").to_string();
        assert!(error.contains("(mode 0640)") && error.contains("chmod 600"), "{error}");
    }
}
