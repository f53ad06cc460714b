//! As much of HTTP as a scrape needs: one request in, one answer out, then the connection ends. Knows no socket.

use crate::limits::METRICS_REQUEST_BYTES_MAX;

/// Header lines of a request: Prometheus sends about ten, a browser twenty.
const HEADERS_MAX: usize = 64;

/// What the client wants.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Asked {
    /// The metrics; with `body` false, only the head of the answer.
    Metrics { body: bool },
    /// Something else, which gets this status.
    Refused(&'static str),
}

/// What `received` asks for; `None` while the request is not complete.
pub(super) fn asked(received: &[u8]) -> Option<Asked> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(received) {
        Err(httparse::Error::TooManyHeaders) => {
            Some(Asked::Refused("431 Request Header Fields Too Large"))
        }
        Err(_) => Some(Asked::Refused("400 Bad Request")),
        Ok(httparse::Status::Partial) if received.len() >= METRICS_REQUEST_BYTES_MAX => {
            Some(Asked::Refused("431 Request Header Fields Too Large"))
        }
        Ok(httparse::Status::Partial) => None,
        Ok(httparse::Status::Complete(_)) => {
            let path = request.path.unwrap_or_default();
            let path = path.split_once('?').map_or(path, |(path, _)| path);
            Some(match (request.method, path) {
                (Some("GET"), "/metrics") => Asked::Metrics { body: true },
                (Some("HEAD"), "/metrics") => Asked::Metrics { body: false },
                (Some("GET" | "HEAD"), _) => Asked::Refused("404 Not Found"),
                _ => Asked::Refused("405 Method Not Allowed"),
            })
        }
    }
}

/// The head of an answer with `length` bytes of `content` after it.
pub(super) fn head(status: &str, content: &str, length: usize) -> String {
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: {content}\r\nContent-Length: {length}\r\nAllow: GET, HEAD\r\n\
         X-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_the_metrics_are_served() {
        let ask = |text: &str| asked(text.as_bytes());
        let metrics = Some(Asked::Metrics { body: true });
        assert_eq!(ask("GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n"), metrics);
        assert_eq!(ask("GET /metrics?x=y HTTP/1.0\r\n\r\n"), metrics);
        assert_eq!(ask("HEAD /metrics HTTP/1.1\r\n\r\n"), Some(Asked::Metrics { body: false }));
        assert_eq!(ask("GET /metrics HTTP/1.1\r\nHost: a\r\n"), None);
        assert_eq!(ask("GET / HTTP/1.1\r\n\r\n"), Some(Asked::Refused("404 Not Found")));
        let refused = |text: &str| match ask(text) {
            Some(Asked::Refused(status)) => status,
            other => panic!("{text}: {other:?}"),
        };
        assert_eq!(refused("POST /metrics HTTP/1.1\r\n\r\n"), "405 Method Not Allowed");
        assert!(refused("\x16\x03\x01\x02").starts_with("400"));
        let many = "a: b\r\n".repeat(HEADERS_MAX + 1);
        assert!(refused(&format!("GET /metrics HTTP/1.1\r\n{many}\r\n")).starts_with("431"));
        let long = format!("GET /{} ", "x".repeat(METRICS_REQUEST_BYTES_MAX));
        assert!(refused(&long).starts_with("431"));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = asked(&bytes);
        }
    }
}
