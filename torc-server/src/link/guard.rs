//! Who may ask: the check of every request's token and protocol, before anything of it is read but its
//! head.
//!
//! Knows no question and no answer. Invariant: who has no token learns nothing, not even which version
//! it speaks to.

use std::str::FromStr;

use axum::Json;
use axum::http::header::{AUTHORIZATION, CONNECTION, CONTENT_LENGTH, UPGRADE};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use torc_core::wire::{ErrorReport, PROTOCOL};

use super::secret::Token;

/// The header in which each side says its protocol, a decimal number.
pub(super) const PROTOCOL_HEADER: HeaderName = HeaderName::from_static("torc-protocol");
/// What stands before the token (RFC 6750 section 2.1).
pub(super) const SCHEME: &str = "Bearer ";

/// Why a request is not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It has no token, or another.
    Stranger,
    /// It speaks another protocol, or none.
    OtherProtocol(Option<u32>),
    /// Its body is longer than what a body may have, in bytes.
    TooLong(u64, usize),
}

/// Checks a request's head. `longest` is what a body may have, in bytes.
pub(super) fn check(token: &Token, longest: usize, headers: &HeaderMap) -> Result<(), Refusal> {
    let offered = headers.get(AUTHORIZATION).map(HeaderValue::as_bytes);
    let offered = offered.and_then(|value| value.strip_prefix(SCHEME.as_bytes()));
    if !offered.is_some_and(|offered| token.is(offered)) {
        return Err(Refusal::Stranger);
    }
    match protocol(headers) {
        Some(PROTOCOL) => {}
        other => return Err(Refusal::OtherProtocol(other)),
    }
    match number(headers, &CONTENT_LENGTH) {
        Some(length) if length > longest as u64 => Err(Refusal::TooLong(length, longest)),
        _ => Ok(()),
    }
}

fn number<T: FromStr>(headers: &HeaderMap, name: &HeaderName) -> Option<T> {
    headers.get(name)?.to_str().ok()?.parse().ok()
}

/// The protocol that the other side says it speaks.
pub(super) fn protocol(headers: &HeaderMap) -> Option<u32> {
    number(headers, &PROTOCOL_HEADER)
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let close = (CONNECTION, HeaderValue::from_static("close"));
        match self {
            Self::Stranger => {
                let error = "the token is missing or not this server's".to_owned();
                (StatusCode::UNAUTHORIZED, [close], Json(ErrorReport { error })).into_response()
            }
            Self::TooLong(length, longest) => {
                let error = format!(
                    "the request has {length} bytes, more than the {longest} that this server takes"
                );
                let status = StatusCode::PAYLOAD_TOO_LARGE;
                (status, [close], Json(ErrorReport { error })).into_response()
            }
            Self::OtherProtocol(theirs) => {
                let theirs = theirs.map_or_else(|| "none".to_owned(), |theirs| theirs.to_string());
                let error = format!(
                    "this server speaks protocol {PROTOCOL}, the client {theirs}; use the same version of torc"
                );
                let headers = [
                    (CONNECTION, HeaderValue::from_static("close, upgrade")),
                    // A 426 must name what would do (RFC 9110 section 15.5.22).
                    (UPGRADE, HeaderValue::from_static("torc")),
                    (PROTOCOL_HEADER, HeaderValue::from(PROTOCOL)),
                ];
                (StatusCode::UPGRADE_REQUIRED, headers, Json(ErrorReport { error })).into_response()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_needs_the_token_and_the_protocol() {
        let token = Token::random().expect("there is randomness");
        let check = |authorization: &str, protocol: &str, expected: Result<(), Refusal>| {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_LENGTH, HeaderValue::from(9));
            let value = |text: &str| HeaderValue::from_str(text).expect("a value");
            headers.insert(AUTHORIZATION, value(authorization));
            headers.insert(PROTOCOL_HEADER, value(protocol));
            assert_eq!(check(&token, 9, &headers), expected, "{protocol}");
        };
        let right = format!("Bearer {}", token.reveal());
        let own = PROTOCOL.to_string();
        check(&right, &own, Ok(()));
        check(&right, "0", Err(Refusal::OtherProtocol(Some(0))));
        check(&right, "one", Err(Refusal::OtherProtocol(None)));
        check(token.reveal(), &own, Err(Refusal::Stranger));
        check("Bearer ", &own, Err(Refusal::Stranger));
        check("Bearer 0", &own, Err(Refusal::Stranger));
        check(&format!("{right} "), &own, Err(Refusal::Stranger));
        check("", "0", Err(Refusal::Stranger));
        let mut headers = HeaderMap::new();
        assert_eq!(super::check(&token, 9, &headers), Err(Refusal::Stranger));
        headers.insert(AUTHORIZATION, HeaderValue::from_str(&right).expect("a value"));
        headers.insert(PROTOCOL_HEADER, HeaderValue::from(PROTOCOL));
        headers.insert(CONTENT_LENGTH, HeaderValue::from(10));
        assert_eq!(super::check(&token, 9, &headers), Err(Refusal::TooLong(10, 9)));
    }
}
