//! What every request passes before anything is done for it, and the headers of every answer.
use crate::{
    limit::{Limiter, Rate},
    problem::Problem,
};
use axum::{
    extract::{ConnectInfo, Request, State},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::Semaphore;

/// Bytes of a URL: a key of 1024 bytes, each as %XX, and room for the rest.
const URL_BYTES_MAX: usize = 4096;

/// Files of the dashboard come this much easier than answers of the API: they cost the ring nothing, and each visitor
/// needs several. Else a classroom behind one address could not open the page.
const FILES_FACTOR: u32 = 16;

/// Headers of every answer. No Cross-Origin-Opener-Policy: over plain HTTP it is ignored with an error on the browser's
/// console, and there is no session that an opener could reach.
const HEADERS: [(HeaderName, &str); 6] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'self'; form-action 'none'; \
         frame-ancestors 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (HeaderName::from_static("permissions-policy"), "camera=(), geolocation=(), microphone=()"),
];

/// The address a request is counted under.
#[derive(Clone, Copy, Debug)]
pub struct Visitor(pub IpAddr);

/// See the module.
pub struct Guard {
    answers: Limiter,
    files: Limiter,
    /// Path below which the API is.
    api: String,
    trusted_hops: usize,
    at_once: Semaphore,
    timeout: Duration,
}

impl Guard {
    /// `base_path` begins and ends with `/`; `rate`: of answers of the API; `trusted_hops`: proxies in front that append
    /// to X-Forwarded-For; `at_once`: requests under way; `timeout`: for each.
    pub fn new(base_path: &str, rate: Rate, trusted_hops: usize, at_once: usize, timeout: Duration) -> Guard {
        let [per_second, burst] = [rate.per_second, rate.burst].map(|rate| rate.saturating_mul(FILES_FACTOR));
        let limiter = |rate| Limiter::new(rate, Instant::now());
        let (answers, files) = (limiter(rate), limiter(Rate { per_second, burst }));
        let (api, at_once) = (format!("{base_path}api/"), Semaphore::new(at_once));
        Guard { answers, files, api, trusted_hops, at_once, timeout }
    }

    fn check(&self, request: &Request, visitor: IpAddr) -> Result<(), Problem> {
        let is_api = request.uri().path().starts_with(&self.api);
        let limiter = if is_api { &self.answers } else { &self.files };
        if let Err(wait) = limiter.take(visitor, Instant::now()) {
            metrics::counter!("chord_gateway_rate_limited_total").increment(1);
            let detail = "too many requests from this address; wait as long as Retry-After says";
            return Err(Problem::new(StatusCode::TOO_MANY_REQUESTS, detail).retry_after(wait));
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let detail =
                "this gateway only shows a ring; use GET or HEAD, and chordctl or a client library to change keys";
            return Err(Problem::new(StatusCode::METHOD_NOT_ALLOWED, detail));
        }
        if has_body(request.headers()) {
            return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "requests here have no body; send none"));
        }
        let url = request.uri().path_and_query().map_or(0, |url| url.as_str().len());
        if url > URL_BYTES_MAX {
            let detail = format!("the URL has {url} bytes; it may have {URL_BYTES_MAX}");
            return Err(Problem::new(StatusCode::URI_TOO_LONG, detail));
        }
        Ok(())
    }
}

fn has_body(headers: &HeaderMap) -> bool {
    let length = headers.get(header::CONTENT_LENGTH);
    headers.contains_key(header::TRANSFER_ENCODING) || length.is_some_and(|length| length.as_bytes() != b"0")
}

/// The middleware.
pub async fn guard(State(guard): State<Arc<Guard>>, mut request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>();
    let peer = peer.map_or(IpAddr::from([0, 0, 0, 0]), |ConnectInfo(peer)| peer.ip());
    let visitor = client_address(request.headers(), peer, guard.trusted_hops);
    request.extensions_mut().insert(Visitor(visitor));
    let mut response = match guard.check(&request, visitor) {
        Err(problem) => problem.into_response(),
        Ok(()) => match guard.at_once.try_acquire() {
            Err(_) => {
                let detail = "too many requests are under way; try again in a second";
                let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail);
                problem.retry_after(Duration::from_secs(1)).into_response()
            }
            Ok(_permit) => match tokio::time::timeout(guard.timeout, next.run(request)).await {
                Ok(response) => response,
                Err(_) => {
                    let detail = "no answer was found in time; try again";
                    Problem::new(StatusCode::GATEWAY_TIMEOUT, detail).into_response()
                }
            },
        },
    };
    let status = response.status();
    let headers = response.headers_mut();
    if status == StatusCode::METHOD_NOT_ALLOWED {
        headers.insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
    }
    if status == StatusCode::PAYLOAD_TOO_LARGE {
        // What follows on this connection is the body nobody wants to read.
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    metrics::counter!("chord_gateway_requests_total", "code" => status.as_u16().to_string()).increment(1);
    response
}

/// Who really asks: the entry of X-Forwarded-For that the outermost trusted proxy appended. Entries left of it are
/// whatever the visitor wrote. Without proxies, or when the header is not as they would leave it: the peer.
pub fn client_address(headers: &HeaderMap, peer: IpAddr, trusted_hops: usize) -> IpAddr {
    if trusted_hops == 0 {
        return peer;
    }
    let values = headers.get_all("x-forwarded-for").iter();
    let entries: Vec<&str> =
        values.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(',')).collect();
    let entry = entries.len().checked_sub(trusted_hops).and_then(|place| entries.get(place));
    entry.and_then(|entry| parse_address(entry.trim())).unwrap_or(peer)
}

/// `1.2.3.4`, `1.2.3.4:5678`, `2001:db8::1`, `[2001:db8::1]` or `[2001:db8::1]:5678`.
fn parse_address(text: &str) -> Option<IpAddr> {
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    bare.parse().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()))
}

/// Whether a page of `origin` may open a WebSocket at `host`: its own page, or one of `allowed`.
/// Callers that are no browsers send no Origin; they could send any.
pub fn is_origin_allowed(headers: &HeaderMap, allowed: &[String]) -> bool {
    let Some(origin) = headers.get(header::ORIGIN) else { return true };
    let Ok(origin) = origin.to_str() else { return false };
    if allowed.iter().any(|allowed| allowed.eq_ignore_ascii_case(origin)) {
        return true;
    }
    let Some((scheme, host)) = origin.split_once("://") else { return false };
    let default_port = match scheme.to_ascii_lowercase().as_str() {
        "http" => ":80",
        "https" => ":443",
        _ => return false,
    };
    let own = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or("");
    let bare = |host: &str| host.strip_suffix(default_port).unwrap_or(host).to_ascii_lowercase();
    !own.is_empty() && bare(host) == bare(own)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), HeaderValue::from_str(value).expect("a header"))
        };
        pairs.iter().map(pair).collect()
    }

    #[test]
    fn only_what_trusted_proxies_appended_is_believed() {
        let peer = IpAddr::from([10, 0, 0, 1]);
        let forged = headers(&[("x-forwarded-for", "6.6.6.6, 192.0.2.7, 10.0.0.9")]);
        let address = |hops| client_address(&forged, peer, hops).to_string();
        assert_eq!(address(0), "10.0.0.1");
        assert_eq!(address(1), "10.0.0.9");
        assert_eq!(address(2), "192.0.2.7");
        assert_eq!(address(4), "10.0.0.1", "fewer entries than proxies: it came another way");
        for (text, expected) in [("192.0.2.7:80", "192.0.2.7"), ("[2001:db8::1]:443", "2001:db8::1"), ("x", "10.0.0.1")]
        {
            let one = headers(&[("x-forwarded-for", text)]);
            assert_eq!(client_address(&one, peer, 1).to_string(), expected, "{text}");
        }
        let mut two = headers(&[("x-forwarded-for", "6.6.6.6")]);
        two.append("x-forwarded-for", HeaderValue::from_static("192.0.2.7"));
        assert_eq!(client_address(&two, peer, 1).to_string(), "192.0.2.7", "repeated headers are one list");
    }

    #[test]
    fn only_the_gateways_own_pages_may_open_a_socket() {
        let listed = ["https://ops.example".to_owned()];
        for (origin, host, expected) in [
            ("http://ring.example", "ring.example", true),
            ("https://ring.example", "ring.example:443", true),
            ("http://RING.example:8080", "ring.example:8080", true),
            ("https://ops.example", "ring.example", true),
            ("http://ring.example:81", "ring.example", false),
            ("https://evil.example", "ring.example", false),
            ("http://ring.example.evil.example", "ring.example", false),
            ("null", "ring.example", false),
            ("file://ring.example", "ring.example", false),
            ("http://", "", false),
        ] {
            let sent = headers(&[("origin", origin), ("host", host)]);
            assert_eq!(is_origin_allowed(&sent, &listed), expected, "{origin} at {host}");
        }
        assert!(is_origin_allowed(&headers(&[("host", "ring.example")]), &[]));
    }
}
