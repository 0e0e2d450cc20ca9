//! The two words that make a connection safe: the pin, by which a client knows its server, and the
//! token, by which a server knows its clients.
//!
//! Invariant: a token is shown by nothing that formats values; only a file and a request carry it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::hex;

/// Bytes of randomness in a token.
const TOKEN_BYTES: usize = 32;

/// The SHA-256 of a server's public key, as its certificate states it (SubjectPublicKeyInfo, RFC 5280
/// section 4.1.2.7). Written as 64 hexadecimal digits. Not a secret.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Pin([u8; 32]);

/// A text is no pin or token. It does not repeat the text, which may be a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is not 64 hexadecimal digits")]
pub struct NotAKey;

impl Pin {
    /// The pin of the key with this SubjectPublicKeyInfo in DER.
    pub(crate) fn of_key(public_key_info: &[u8]) -> Self {
        Self(Sha256::digest(public_key_info).into())
    }
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(&self.0))
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pin({self})")
    }
}

impl FromStr for Pin {
    type Err = NotAKey;

    fn from_str(text: &str) -> Result<Self, NotAKey> {
        let bytes = hex::decode(text).ok_or(NotAKey)?;
        bytes.try_into().map(Self).map_err(|_| NotAKey)
    }
}

impl TryFrom<String> for Pin {
    type Error = NotAKey;

    fn try_from(text: String) -> Result<Self, NotAKey> {
        text.parse()
    }
}

impl From<Pin> for String {
    fn from(pin: Pin) -> Self {
        pin.to_string()
    }
}

/// 256 random bits as 64 hexadecimal digits. Whoever has them may do everything that a server's user
/// may. Comparing takes the same time wherever two differ.
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Token(String);

impl Token {
    /// A new one.
    ///
    /// # Errors
    /// When the operating system has no randomness.
    pub(crate) fn random() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; TOKEN_BYTES];
        getrandom::fill(&mut bytes)?;
        Ok(Self(hex::encode(&bytes)))
    }

    /// Whether somebody offers this very token.
    pub(crate) fn is(&self, offered: &[u8]) -> bool {
        // Of two digests an attacker can steer neither, so how far they agree tells nothing.
        let (own, offered) = (Sha256::digest(&self.0), Sha256::digest(offered));
        let difference = own.iter().zip(offered).fold(0, |sum, (one, other)| sum | (one ^ other));
        std::hint::black_box(difference) == 0
    }

    /// The token itself, for a request or a file.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl PartialEq for Token {
    fn eq(&self, other: &Self) -> bool {
        self.is(other.0.as_bytes())
    }
}

impl Eq for Token {}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(hidden)")
    }
}

impl TryFrom<String> for Token {
    type Error = NotAKey;

    fn try_from(text: String) -> Result<Self, NotAKey> {
        match hex::decode(&text) {
            Some(bytes) if bytes.len() == TOKEN_BYTES => Ok(Self(text)),
            _ => Err(NotAKey),
        }
    }
}

impl From<Token> for String {
    fn from(token: Token) -> Self {
        token.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_knows_itself_and_does_not_show() {
        let token = Token::random().expect("there is randomness");
        let text = token.reveal().to_owned();
        assert!(token.is(text.as_bytes()));
        assert!(!token.is(&text.as_bytes()[1..]));
        assert!(!token.is(b""));
        assert!(!token.is(Token::random().expect("more randomness").reveal().as_bytes()));
        assert!(!format!("{token:?}").contains(&text));
        let written = serde_json::to_string(&token).expect("is written");
        let read: Token = serde_json::from_str(&written).expect("is read");
        assert_eq!(read, token);
    }

    #[test]
    fn what_is_no_pin_or_token_is_refused_without_repeating_it() {
        for text in ["", "12", &"0".repeat(63), &"0".repeat(66), &"x".repeat(64)] {
            let json = serde_json::to_string(text).expect("is text");
            let token = serde_json::from_str::<Token>(&json).expect_err("is no token").to_string();
            let pin = serde_json::from_str::<Pin>(&json).expect_err("is no pin").to_string();
            for error in [token, pin] {
                assert!(error.contains("not 64 hexadecimal digits"), "{error}");
                assert!(text.is_empty() || !error.contains(&format!("\"{text}\"")), "{error}");
            }
        }
    }
}
