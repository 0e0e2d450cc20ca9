//! Text of the operating system, which need not be UTF-8.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use serde::{Deserialize, Serialize};

/// A name or a value of the environment: a string, or where it is no UTF-8 its bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(untagged)]
pub enum OsText {
    /// As it is.
    Text(String),
    /// What is no UTF-8.
    Bytes {
        /// Its bytes in base64 (RFC 4648, section 4).
        b64: String,
    },
}

impl OsText {
    /// As the operating system takes it. `None`: it is no base64.
    pub fn to_os_string(&self) -> Option<OsString> {
        match self {
            Self::Text(text) => Some(text.into()),
            Self::Bytes { b64 } => decoded(b64).map(OsString::from_vec),
        }
    }
}

impl From<&str> for OsText {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

fn decoded(text: &str) -> Option<Vec<u8>> {
    let digits = text.strip_suffix("==").or_else(|| text.strip_suffix('=')).unwrap_or(text);
    let (mut bytes, mut word, mut bits) = (Vec::new(), 0_u16, 0);
    for digit in digits.bytes() {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        word = (word << 6 | u16::from(value)) & 0x3fff;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push((word >> bits & 0xff) as u8);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_taken_from_base64() {
        let bytes = |json: &str| {
            let text: OsText = serde_json::from_str(json).expect("it is read");
            text.to_os_string().map(OsStringExt::into_vec)
        };
        assert_eq!(bytes(r#""b64""#), Some(b"b64".to_vec()));
        assert_eq!(bytes(r#"{"b64": "Y2Fm6Q=="}"#), Some(b"caf\xe9".to_vec()));
        assert_eq!(bytes(r#"{"b64": "++//6ek="}"#), Some(b"\xfb\xef\xff\xe9\xe9".to_vec()));
        assert_eq!(bytes(r#"{"b64": "!"}"#), None);
    }
}
