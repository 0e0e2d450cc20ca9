//! Text of the operating system, such as a variable of the environment: bytes, which need not be UTF-8.
//!
//! As JSON it is a string, or `{"b64": "…"}` where it is no UTF-8 (RFC 4648, section 4). Invariant: what is read is what
//! was written, byte by byte.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Such a text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OsText(OsString);

impl OsText {
    /// As it is in UTF-8, if it is.
    pub fn as_str(&self) -> Option<&str> {
        self.0.to_str()
    }
}

impl AsRef<OsStr> for OsText {
    fn as_ref(&self) -> &OsStr {
        &self.0
    }
}

impl From<OsText> for OsString {
    fn from(text: OsText) -> Self {
        text.0
    }
}

impl From<OsString> for OsText {
    fn from(text: OsString) -> Self {
        Self(text)
    }
}

impl From<String> for OsText {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl From<&str> for OsText {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Written {
    Text(String),
    Bytes { b64: String },
}

impl Serialize for OsText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.to_str() {
            Some(text) => serializer.serialize_str(text),
            None => Written::Bytes { b64: encoded(self.0.as_bytes()) }.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for OsText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Written::deserialize(deserializer)? {
            Written::Text(text) => Ok(Self(text.into())),
            Written::Bytes { b64 } => decoded(&b64)
                .map(|bytes| Self(OsString::from_vec(bytes)))
                .ok_or_else(|| serde::de::Error::custom("`b64` is no base64")),
        }
    }
}

fn encoded(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let word = (0..3).fold(0, |word, at| word << 8 | u32::from(*chunk.get(at).unwrap_or(&0)));
        for at in 0..4 {
            let digit = (word >> (18 - 6 * at)) & 63;
            let is_there = at <= chunk.len();
            text.push(if is_there { char::from(ALPHABET[digit as usize]) } else { '=' });
        }
    }
    text
}

/// The bytes, if that is how they are written.
fn decoded(text: &str) -> Option<Vec<u8>> {
    let digits = text.strip_suffix("==").or_else(|| text.strip_suffix('=')).unwrap_or(text);
    if !text.len().is_multiple_of(4) {
        return None;
    }
    let mut bytes = Vec::with_capacity(digits.len() * 3 / 4);
    let (mut word, mut bits) = (0_u32, 0);
    for digit in digits.bytes() {
        let value = ALPHABET.iter().position(|known| *known == digit)?;
        word = word << 6 | u32::try_from(value).ok()?;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push(u8::try_from(word >> bits & 0xff).ok()?);
        }
    }
    // What is left over is nothing.
    (word & ((1 << bits) - 1) == 0).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn text_is_text_and_other_bytes_are_base64() {
        #[track_caller]
        fn check(bytes: &[u8], json: &str) {
            let text = OsText::from(OsString::from_vec(bytes.to_vec()));
            assert_eq!(serde_json::to_string(&text).expect("JSON"), json);
            assert_eq!(serde_json::from_str::<OsText>(json).expect("it is read"), text);
        }
        check(b"", r#""""#);
        check("café".as_bytes(), r#""café""#);
        check(b"\xff", r#"{"b64":"/w=="}"#);
        check(b"caf\xe9", r#"{"b64":"Y2Fm6Q=="}"#);
        check(b"\xe9\xe9", r#"{"b64":"6ek="}"#);
        check(b"\xfb\xef\xff", r#"{"b64":"++//"}"#);
        for wrong in [r#"{"b64":"Y2F"}"#, r#"{"b64":"Y!=="}"#, r#"{"b64":"/x=="}"#, "7", "{}"] {
            assert!(serde_json::from_str::<OsText>(wrong).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn what_is_read_is_what_was_written(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            prop_assert_eq!(decoded(&encoded(&bytes)), Some(bytes.clone()));
            let text = OsText::from(OsString::from_vec(bytes));
            let json = serde_json::to_vec(&text).expect("JSON");
            prop_assert_eq!(serde_json::from_slice::<OsText>(&json).expect("it is read"), text);
        }
    }
}
