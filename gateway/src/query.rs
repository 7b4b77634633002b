//! Query strings and path parameters, taken apart strictly: what is not understood is refused by name.
use crate::{problem::Problem, schema::COUNT_MAX};
use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use chord::{id::Id, settings::KEY_BYTES_MAX};
use chord_proto::v1::lookup_path_request::Target;
use percent_encoding::percent_decode_str;

/// With its padding or without.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// `name=value` pairs of a query string, each name at most once and one of those allowed.
#[derive(Debug, PartialEq, Eq)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// From what follows the `?`.
    ///
    /// # Errors
    /// 400 that names the parameter.
    pub fn parse(text: Option<&str>, allowed: &[&str]) -> Result<Query, Problem> {
        let mut pairs: Vec<(String, String)> = Vec::new();
        for pair in text.unwrap_or("").split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = decode("a parameter's name", name)?;
            if !allowed.contains(&name.as_str()) {
                let known = if allowed.is_empty() { "none".to_owned() } else { allowed.join(", ") };
                let shown: String = name.chars().take(64).collect();
                return Err(Problem::bad(format!("unknown query parameter `{shown}`; known here: {known}")));
            }
            if pairs.iter().any(|(other, _)| *other == name) {
                return Err(Problem::bad(format!("query parameter `{name}` is given twice; give it once")));
            }
            let value = decode(&format!("`{name}`"), value)?;
            pairs.push((name, value));
        }
        Ok(Query(pairs))
    }

    /// The value of a parameter.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    /// A whole number; `default` without it.
    ///
    /// # Errors
    /// 400 when it is none.
    pub fn number(&self, name: &str, default: u64) -> Result<u64, Problem> {
        let Some(value) = self.get(name) else { return Ok(default) };
        let all_digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
        let number = value.parse().ok().filter(|number| all_digits && *number <= COUNT_MAX);
        number.ok_or_else(|| Problem::bad(format!("`{name}` must be a whole number from 0 to {COUNT_MAX}")))
    }
}

fn decode(what: &str, text: &str) -> Result<String, Problem> {
    let spaced = text.replace('+', " ");
    let mut rest = spaced.as_bytes();
    while let Some(place) = rest.iter().position(|byte| *byte == b'%') {
        match rest.get(place + 1..place + 3) {
            Some(digits) if digits.iter().all(u8::is_ascii_hexdigit) => rest = &rest[place + 3..],
            _ => return Err(Problem::bad(format!("{what}: a % must be followed by two hexadecimal digits"))),
        }
    }
    let decoded = percent_decode_str(&spaced).decode_utf8();
    let decoded = decoded.map_err(|_| Problem::bad(format!("{what} is not UTF-8; for other bytes use keyBase64")))?;
    Ok(decoded.into_owned())
}

/// An id: 40 hexadecimal digits.
///
/// # Errors
/// 400 that names `what`.
pub fn id(what: &str, text: &str) -> Result<Id, Problem> {
    let hex = text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let id = Id::from_hex(text).filter(|_| hex);
    id.ok_or_else(|| Problem::bad(format!("`{what}` must be 40 hexadecimal digits")))
}

/// What to look up: `key`, `keyBase64` or `id`; and the key as text if it is one.
///
/// # Errors
/// 400 unless exactly one is given and has the right shape.
pub fn target(query: &Query) -> Result<(Target, Option<String>), Problem> {
    let (key, target) = match (query.get("key"), query.get("keyBase64"), query.get("id")) {
        (Some(key), None, None) => (key.as_bytes().to_vec(), Some(key.to_owned())),
        (None, Some(text), None) => {
            // A `+` of the standard alphabet arrives as a space.
            let text = text.replace([' ', '-'], "+").replace('_', "/");
            let bytes = BASE64.decode(text);
            let bytes = bytes.map_err(|_| Problem::bad("`keyBase64` must be base64, standard or URL-safe"))?;
            let text = String::from_utf8(bytes.clone()).ok();
            (bytes, text)
        }
        (None, None, Some(text)) => {
            return Ok((Target::Id(id("id", text)?.to_bytes().to_vec().into()), None));
        }
        _ => return Err(Problem::bad("give exactly one of `key`, `keyBase64` and `id`")),
    };
    if !(1..=KEY_BYTES_MAX).contains(&key.len()) {
        let length = key.len();
        return Err(Problem::bad(format!("the key has {length} bytes; it must have 1 to {KEY_BYTES_MAX}")));
    }
    Ok((Target::Key(key.into()), target))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOKUP: &[&str] = &["key", "keyBase64", "id", "from"];

    fn target_of(text: &str) -> Result<(Target, Option<String>), Problem> {
        target(&Query::parse(Some(text), LOOKUP)?)
    }

    #[test]
    fn keys_come_as_text_or_base64() {
        let key = |bytes: &'static [u8]| Target::Key(bytes.into());
        assert_eq!(target_of("key=a%20b"), Ok((key(b"a b"), Some("a b".into()))));
        assert_eq!(target_of("key=a+b"), Ok((key(b"a b"), Some("a b".into()))));
        assert_eq!(target_of("key=%E2%82%AC"), Ok((key("€".as_bytes()), Some("€".into()))));
        assert_eq!(target_of("keyBase64=AP8="), Ok((key(b"\x00\xff"), None)));
        assert_eq!(target_of("keyBase64=-_8"), target_of("keyBase64=%2B%2F8%3D"));
        let hex = "00".repeat(19) + "0A";
        assert!(matches!(target_of(&format!("id={hex}")), Ok((Target::Id(id), None)) if id[19] == 10));
    }

    #[test]
    fn anything_else_is_refused_by_name() {
        let (long, long64) = ("k".repeat(1025), "A".repeat(1400));
        for (query, needle) in [
            ("", "exactly one of"),
            ("key=a&id=b", "exactly one of"),
            ("key=", "0 bytes"),
            (&format!("key={long}") as &str, "1025 bytes"),
            (&format!("keyBase64={long64}"), "1050 bytes"),
            ("keyBase64=!", "base64"),
            ("keyBase64=AAAA=", "base64"),
            ("keyBase64=AB", "base64"),
            ("key=%ff", "not UTF-8"),
            ("key=%f", "two hexadecimal digits"),
            ("key=%", "two hexadecimal digits"),
            ("key=a&key=b", "given twice"),
            ("id=12", "40 hexadecimal digits"),
            (&format!("id={}", "+f".repeat(20)), "40 hexadecimal digits"),
            (&format!("id={}", "%2Bf".repeat(20)), "40 hexadecimal digits"),
            ("kee=a", "`kee`"),
            ("key=a&verbose", "`verbose`"),
        ] {
            let problem = target_of(query).expect_err(query);
            assert!(problem.status == 400 && problem.detail.contains(needle), "{query}: {}", problem.detail);
        }
    }

    #[test]
    fn numbers_have_digits_only() {
        let number = |text: &str| Query::parse(Some(text), &["since"])?.number("since", 7);
        assert_eq!(number(""), Ok(7));
        assert_eq!(number("since=12"), Ok(12));
        for bad in ["since=", "since=-1", "since=%2B1", "since=1.5", "since=9007199254740992"] {
            assert!(number(bad).expect_err(bad).detail.contains("whole number"), "{bad}");
        }
    }
}
