//! Where a service is: a URL whose password does not print.

use std::fmt;

use url::Url;

use crate::Secret;

/// A URL with its password taken out of it.
#[derive(Clone, PartialEq, Eq)]
pub struct Address {
    url: Url,
    password: Option<Secret>,
}

/// Why a text is no address. Never quotes the text, which may hold a password.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum BadAddress {
    /// No URL.
    #[error("not an address such as {example}: {reason}")]
    Url {
        /// What one looks like.
        example: String,
        /// The parser's words.
        reason: url::ParseError,
    },
    /// A URL of some other service.
    #[error("{scheme}:// is none of {known}")]
    Scheme {
        /// What it begins with.
        scheme: String,
        /// What it may begin with.
        known: String,
    },
}

impl Address {
    /// Reads a URL, or `host` or `host:port`, which gets the first of `schemes`.
    ///
    /// # Errors
    /// No URL, or one with another scheme.
    pub fn parse(text: &str, schemes: &[&str]) -> Result<Self, BadAddress> {
        let first = schemes.first().copied().unwrap_or("http");
        let whole = if text.contains("://") { text.to_owned() } else { format!("{first}://{text}") };
        let refuse = |reason| BadAddress::Url { example: format!("{first}://host"), reason };
        let mut url = Url::parse(&whole).map_err(refuse)?;
        if !schemes.contains(&url.scheme()) {
            let known = schemes.iter().map(|scheme| format!("{scheme}://")).collect::<Vec<_>>().join(", ");
            return Err(BadAddress::Scheme { scheme: url.scheme().to_owned(), known });
        }
        if url.host_str().is_none_or(str::is_empty) {
            return Err(refuse(url::ParseError::EmptyHost));
        }
        let password = url.password().map(|password| Secret::new(decode(password)));
        url.set_password(None).map_err(|()| refuse(url::ParseError::EmptyHost))?;
        Ok(Self { url, password })
    }

    /// The URL, without its password.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// The login that the URL names.
    pub fn username(&self) -> Option<String> {
        (!self.url.username().is_empty()).then(|| decode(self.url.username()))
    }

    /// The password that the URL held.
    pub fn password(&self) -> Option<&Secret> {
        self.password.as_ref()
    }
}

/// Undoes the percent-encoding of a login or password.
fn decode(text: &str) -> String {
    percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned()
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.url.fmt(f)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AMQP: &[&str] = &["amqp", "amqps"];

    #[test]
    fn hosts_become_urls_and_passwords_go() {
        assert_eq!(Address::parse("mq.example.com", AMQP).unwrap().to_string(), "amqp://mq.example.com");
        assert_eq!(Address::parse("mq:5673", AMQP).unwrap().url().port(), Some(5673));
        let full = Address::parse("amqps://ops:s%23cret@mq/v", AMQP).unwrap();
        assert_eq!(full.to_string(), "amqps://ops@mq/v");
        assert_eq!(full.password().unwrap().reveal(), "s#cret");
        assert_eq!(full.username().as_deref(), Some("ops"));
        assert!(!format!("{full:?}").contains("cret"));
    }

    #[test]
    fn a_refusal_does_not_quote_the_password() {
        for text in ["http://u:secret@h", "amqp://u:secret@h:port", "amqp://u:secret@"] {
            let error = Address::parse(text, AMQP).unwrap_err().to_string();
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
