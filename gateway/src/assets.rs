//! The dashboard's files, embedded when this was built.
use crate::problem::Problem;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, Uri, header};

/// A file of the dashboard.
#[derive(Debug)]
pub struct Asset {
    /// Below the base path, without a leading `/`.
    pub path: &'static str,
    /// Of the bytes.
    pub hash: &'static str,
    pub bytes: &'static [u8],
    /// When that is smaller.
    pub gzip: Option<&'static [u8]>,
}

/// All, by path; none when the dashboard was not built before.
pub const EMBEDDED: &[Asset] = include!(concat!(env!("OUT_DIR"), "/assets.rs"));

/// What is shown when there is none.
const PLACEHOLDER: &str = "<!doctype html>
<html lang=\"en\"><head><meta charset=\"utf-8\"><title>chord-gateway</title></head><body>
<h1>chord-gateway</h1>
<p>This binary was built without the dashboard. To have it: in <code>gateway/dashboard</code> run
<code>npm ci &amp;&amp; npm run build</code>, then build <code>chord-gateway</code> again.</p>
<p>The API works: <a href=\"api/v1/ring\">the ring</a>, <a href=\"api/v1/stats\">its figures</a>,
<a href=\"api/v1/events\">events</a>, <a href=\"api/v1/openapi.json\">OpenAPI</a>.</p>
</body></html>
";

/// The files, with the page made for a base path.
pub struct Assets {
    files: &'static [Asset],
    index: Bytes,
    index_tag: String,
}

impl Assets {
    /// `base_path` begins and ends with `/`.
    pub fn new(files: &'static [Asset], base_path: &str) -> Assets {
        let index = files.iter().find(|file| file.path == "index.html");
        let html = index.map_or(PLACEHOLDER.into(), |file| String::from_utf8_lossy(file.bytes));
        let hash = index.map_or("placeholder", |file| file.hash);
        // The page differs between base paths, and so must its tag; `/` and `"` cannot stand for themselves there.
        let index_tag = format!("\"{hash}{}\"", base_path.replace('/', "~"));
        Assets { files, index: with_base(&html, base_path).into(), index_tag }
    }

    /// The answer for a path below the base path. Paths that are no files are the page's own routes.
    pub fn answer(&self, uri: &Uri, headers: &HeaderMap) -> Response {
        let path = uri.path().trim_start_matches('/');
        let found = self.files.binary_search_by_key(&path, |file| file.path).ok();
        match found.and_then(|place| self.files.get(place)).filter(|file| file.path != "index.html") {
            Some(file) => self.file(file, headers),
            None if path.rsplit('/').next().is_some_and(|name| name.contains('.') && name != "index.html") => {
                Problem::new(StatusCode::NOT_FOUND, "there is no such file in the dashboard").into_response()
            }
            None => answer(headers, &self.index_tag, "no-cache", "text/html; charset=utf-8", self.index.clone()),
        }
    }

    fn file(&self, file: &Asset, headers: &HeaderMap) -> Response {
        // The build puts a hash into the names below assets/.
        let cache = if file.path.starts_with("assets/") {
            "public, max-age=31536000, immutable"
        } else {
            "public, max-age=300"
        };
        let kind = content_type(file.path);
        let gzip = file.gzip.filter(|_| accepts_gzip(headers));
        let (tag, bytes) = match gzip {
            Some(bytes) => (format!("\"{}-gz\"", file.hash), bytes),
            None => (format!("\"{}\"", file.hash), file.bytes),
        };
        let mut response = answer(headers, &tag, cache, kind, Bytes::from_static(bytes));
        if file.gzip.is_some() {
            response.headers_mut().insert(header::VARY, HeaderValue::from_static("accept-encoding"));
        }
        if gzip.is_some() && response.status() == StatusCode::OK {
            response.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        response
    }
}

fn answer(headers: &HeaderMap, tag: &str, cache: &'static str, kind: &'static str, bytes: Bytes) -> Response {
    let wanted = headers.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok()).unwrap_or("");
    let is_known = wanted.split(',').map(|tag| tag.trim().trim_start_matches("W/")).any(|known| known == tag);
    let common = [(header::ETAG, tag), (header::CACHE_CONTROL, cache)];
    match is_known {
        true => (StatusCode::NOT_MODIFIED, common).into_response(),
        false => (common, [(header::CONTENT_TYPE, kind)], bytes).into_response(),
    }
}

fn accepts_gzip(headers: &HeaderMap) -> bool {
    let accepted = headers.get(header::ACCEPT_ENCODING).and_then(|value| value.to_str().ok()).unwrap_or("");
    accepted.split(',').any(|coding| {
        let (name, weight) = coding.split_once(';').unwrap_or((coding, ""));
        name.trim().eq_ignore_ascii_case("gzip") && !matches!(weight.trim(), "q=0" | "q=0.0" | "q=0.00" | "q=0.000")
    })
}

/// The page with `<base href>` set, so that its relative URLs work on every one of its routes.
fn with_base(html: &str, base_path: &str) -> String {
    let base = format!("<base href=\"{base_path}\">");
    if let Some(start) = html.find("<base ")
        && let Some(length) = html[start..].find('>')
    {
        return format!("{}{base}{}", &html[..start], &html[start + length + 1..]);
    }
    html.replacen("<head>", &format!("<head>{base}"), 1)
}

fn content_type(path: &str) -> &'static str {
    match path.rsplit('.').next().unwrap_or("") {
        "html" => "text/html; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "json" | "map" => "application/json",
        "webmanifest" => "application/manifest+json",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "ico" => "image/x-icon",
        "woff2" => "font/woff2",
        "txt" => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILES: &[Asset] = &[
        Asset { path: "assets/app-1.js", hash: "aa", bytes: b"let one = 1;", gzip: Some(b"small") },
        Asset { path: "favicon.svg", hash: "bb", bytes: b"<svg/>", gzip: None },
        Asset { path: "index.html", hash: "cc", bytes: b"<head><base href=\"/\" /></head>", gzip: None },
    ];

    async fn get(path: &str, pairs: &[(header::HeaderName, &'static str)]) -> (Response, String) {
        let headers = pairs.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value))).collect();
        let response = Assets::new(FILES, "/ring/").answer(&path.parse().expect("a path"), &headers);
        let (head, body) = response.into_parts();
        let bytes = axum::body::to_bytes(body, 1 << 20).await.expect("a body");
        (Response::from_parts(head, Default::default()), String::from_utf8_lossy(&bytes).into_owned())
    }

    #[tokio::test]
    async fn files_are_found_and_the_rest_is_the_page_below_its_base() {
        let (file, text) = get("/assets/app-1.js", &[]).await;
        assert_eq!((file.status(), text.as_str()), (StatusCode::OK, "let one = 1;"));
        assert_eq!(file.headers()[header::CACHE_CONTROL], "public, max-age=31536000, immutable");
        for path in ["/", "/index.html", "/nodes/abc", "/lookup"] {
            let (page, text) = get(path, &[]).await;
            assert_eq!(
                (page.status(), text.as_str()),
                (StatusCode::OK, "<head><base href=\"/ring/\"></head>"),
                "{path}"
            );
            assert_eq!(page.headers()[header::CACHE_CONTROL], "no-cache");
        }
        assert_eq!(get("/assets/app-2.js", &[]).await.0.status(), StatusCode::NOT_FOUND);
    }

    #[tokio::test]
    async fn gzip_and_tags_save_what_can_be_saved() {
        let (file, text) = get("/assets/app-1.js", &[(header::ACCEPT_ENCODING, "br, gzip;q=0.8")]).await;
        assert_eq!(
            (text.as_str(), &file.headers()[header::CONTENT_ENCODING]),
            ("small", &"gzip".parse().expect("header"))
        );
        let (plain, _) = get("/assets/app-1.js", &[(header::ACCEPT_ENCODING, "gzip;q=0")]).await;
        assert!(!plain.headers().contains_key(header::CONTENT_ENCODING));
        assert_ne!(file.headers()[header::ETAG], plain.headers()[header::ETAG]);
        let (known, text) = get("/favicon.svg", &[(header::IF_NONE_MATCH, "\"x\", W/\"bb\"")]).await;
        assert_eq!((known.status(), text.as_str()), (StatusCode::NOT_MODIFIED, ""));
    }

    #[test]
    fn without_a_dashboard_the_page_says_how_to_build_it() {
        let assets = Assets::new(&[], "/");
        let page = String::from_utf8_lossy(&assets.index).into_owned();
        assert!(page.contains("npm run build") && page.contains("<base href=\"/\">"), "{page}");
    }
}
