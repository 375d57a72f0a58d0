//! Content-Formats as media types and content codings (RFC 8075 §6, IANA "CoAP Content-Formats").
//!
//! A Content-Format without a registration, and one that is registered temporarily, is
//! `application/coap-payload;cf=<number>` (RFC 8075 §6.2), in both directions.

use codec_coap::ContentFormat;
use http::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue};

use crate::text;

/// The media types looked at in one `accept` header; those behind them count as not acceptable.
const MAX_ACCEPTED: usize = 32;

/// The media type of any Content-Format, with the number as its parameter `cf` (RFC 8075 §6.2).
const COAP_PAYLOAD: &str = "application/coap-payload";

/// One registration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// The number.
    pub format: ContentFormat,
    /// The media type with its parameters, as it is registered.
    pub media_type: &'static str,
    /// The content coding; none is `identity`.
    pub coding: Option<&'static str>,
}

const fn row(number: u16, media_type: &'static str, coding: Option<&'static str>) -> Row {
    Row { format: ContentFormat(number), media_type, coding }
}

/// All registrations but the temporary ones, in the order of their numbers, as of March 2026.
pub const TABLE: &[Row] = &[
    row(0, "text/plain; charset=utf-8", None),
    row(16, "application/cose; cose-type=\"cose-encrypt0\"", None),
    row(17, "application/cose; cose-type=\"cose-mac0\"", None),
    row(18, "application/cose; cose-type=\"cose-sign1\"", None),
    row(19, "application/ace+cbor", None),
    row(21, "image/gif", None),
    row(22, "image/jpeg", None),
    row(23, "image/png", None),
    row(40, "application/link-format", None),
    row(41, "application/xml", None),
    row(42, "application/octet-stream", None),
    row(47, "application/exi", None),
    row(50, "application/json", None),
    row(51, "application/json-patch+json", None),
    row(52, "application/merge-patch+json", None),
    row(60, "application/cbor", None),
    row(61, "application/cwt", None),
    row(62, "application/multipart-core", None),
    row(63, "application/cbor-seq", None),
    row(64, "application/edhoc+cbor-seq", None),
    row(65, "application/cid-edhoc+cbor-seq", None),
    row(96, "application/cose; cose-type=\"cose-encrypt\"", None),
    row(97, "application/cose; cose-type=\"cose-mac\"", None),
    row(98, "application/cose; cose-type=\"cose-sign\"", None),
    row(101, "application/cose-key", None),
    row(102, "application/cose-key-set", None),
    row(110, "application/senml+json", None),
    row(111, "application/sensml+json", None),
    row(112, "application/senml+cbor", None),
    row(113, "application/sensml+cbor", None),
    row(114, "application/senml-exi", None),
    row(115, "application/sensml-exi", None),
    row(140, "application/yang-data+cbor; id=sid", None),
    row(256, "application/coap-group+json", None),
    row(257, "application/concise-problem-details+cbor", None),
    row(258, "application/swid+cbor", None),
    row(259, "application/pkixcmp", None),
    row(260, "application/yang-sid+json", None),
    row(261, "application/ace-groupcomm+cbor", None),
    row(262, "application/ace-trl+cbor", None),
    row(263, "application/eat+cwt", None),
    row(264, "application/eat+jwt", None),
    row(265, "application/eat-bun+cbor", None),
    row(266, "application/eat-bun+json", None),
    row(267, "application/eat-ucs+cbor", None),
    row(268, "application/eat-ucs+json", None),
    row(269, "application/coap-eap", None),
    row(270, "application/suit-report+cose", None),
    row(271, "application/dots+cbor", None),
    row(272, "application/missing-blocks+cbor-seq", None),
    row(273, "application/cmw+cbor", None),
    row(274, "application/cmw+json", None),
    row(275, "application/cmw+cose", None),
    row(276, "application/cmw+jws", None),
    row(277, "application/scitt-statement+cose", None),
    row(278, "application/scitt-receipt+cose", None),
    row(279, "application/statuslist+cwt", None),
    row(280, "application/pkcs7-mime; smime-type=server-generated-key", None),
    row(281, "application/pkcs7-mime; smime-type=certs-only", None),
    row(284, "application/pkcs8", None),
    row(285, "application/csrattrs", None),
    row(286, "application/pkcs10", None),
    row(287, "application/pkix-cert", None),
    row(290, "application/aif+cbor", None),
    row(291, "application/aif+json", None),
    row(292, "application/aif+cbor;toid=CRI-local-part", None),
    row(295, "application/measured-component+cbor", None),
    row(296, "application/measured-component+json", None),
    row(297, "application/aif+cbor;toid=oscore-gname;tperm=oscore-gperm", None),
    row(298, "application/aif+json;toid=oscore-gname;tperm=oscore-gperm", None),
    row(299, "application/cose-c509-cert+cbor", None),
    row(300, "application/cose-c509+cbor", None),
    row(301, "application/cose-c509+cbor;usage=chain", None),
    row(302, "application/cose-c509-pkcs10+cbor", None),
    row(303, "application/cose-c509-crtemplate+cbor", None),
    row(304, "application/cose-c509-privkey+cbor", None),
    row(305, "application/cose-c509-pem+cbor", None),
    row(306, "application/cose-certhash+cbor", None),
    row(307, "application/cose-certhash+cbor;usage=c509", None),
    row(310, "application/senml+xml", None),
    row(311, "application/sensml+xml", None),
    row(320, "application/senml-etch+json", None),
    row(322, "application/senml-etch+cbor", None),
    row(340, "application/yang-data+cbor", None),
    row(341, "application/yang-data+cbor; id=name", None),
    row(432, "application/td+json", None),
    row(433, "application/tm+json", None),
    row(434, "application/sdf+json", None),
    row(553, "application/dns-message", None),
    row(601, "application/uccs+cbor", None),
    row(10_000, "application/vnd.ocf+cbor", None),
    row(10_001, "application/oscore", None),
    row(10_002, "application/javascript", None),
    row(10_003, "application/eat+cwt; eat_profile=\"tag:psacertified.org,2023:psa#tfm\"", None),
    row(10_004, "application/eat+cwt; eat_profile=\"tag:psacertified.org,2019:psa#legacy\"", None),
    row(10_005, "application/eat+cwt; eat_profile=2.16.840.1.113741.1.16.1", None),
    row(10_006, "application/vnd.oms.cellular-cose-content+cbor", None),
    row(10_007, "application/syslog-msg", None),
    row(10_570, "application/toc+cbor", None),
    row(10_571, "application/ce+cbor", None),
    row(10_572, "application/toc+cbor;profile=2.16.840.1.113741.1.16.1", None),
    row(10_573, "application/ce+cbor;profile=2.16.840.1.113741.1.16.1", None),
    row(11_050, "application/json", Some("deflate")),
    row(11_060, "application/cbor", Some("deflate")),
    row(11_542, "application/vnd.oma.lwm2m+tlv", None),
    row(11_543, "application/vnd.oma.lwm2m+json", None),
    row(11_544, "application/vnd.oma.lwm2m+cbor", None),
    row(12_000, "text/plain;charset=utf-8", Some("zstd")),
    row(12_041, "application/xml", Some("zstd")),
    row(12_050, "application/json", Some("zstd")),
    row(20_000, "text/css", None),
    row(20_001, "application/vnd.as207960.vas.config+jer", None),
    row(20_002, "application/vnd.as207960.vas.config+uper", None),
    row(20_003, "application/vnd.as207960.vas.tap+jer", None),
    row(20_004, "application/vnd.as207960.vas.tap+uper", None),
    row(30_000, "image/svg+xml", None),
];

/// The registration of a Content-Format.
#[must_use]
pub fn registered(format: ContentFormat) -> Option<&'static Row> {
    let index = TABLE.binary_search_by_key(&format, |row| row.format).ok()?;
    TABLE.get(index)
}

/// Whether the format is text that a person can read in any case: `text/*`, JSON, XML and links.
#[must_use]
pub fn is_text(format: ContentFormat) -> bool {
    let Some(Row { media_type, coding: None, .. }) = registered(format) else { return false };
    let essence = media_type.split(';').next().unwrap_or_default();
    essence.starts_with("text/")
        || ["json", "xml", "link-format", "javascript"].iter().any(|kind| {
            essence.strip_suffix(kind).is_some_and(|before| before.ends_with(['/', '+']))
        })
}

/// Says in the headers of a message with content of which format that is: `content-type`, and
/// `content-encoding` where the format implies one.
pub fn set(headers: &mut HeaderMap, format: ContentFormat) {
    let (media_type, coding) = names(format);
    headers.insert(CONTENT_TYPE, media_type);
    if let Some(coding) = coding {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static(coding));
    }
}

/// Asks in the headers of a request for content of this format alone: `accept`, and
/// `accept-encoding` where the format implies one.
pub fn set_accept(headers: &mut HeaderMap, format: ContentFormat) {
    let (media_type, coding) = names(format);
    headers.insert(ACCEPT, media_type);
    if let Some(coding) = coding {
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static(coding));
    }
}

fn names(format: ContentFormat) -> (HeaderValue, Option<&'static str>) {
    match registered(format) {
        Some(row) => (HeaderValue::from_static(row.media_type), row.coding),
        None => {
            let value = HeaderValue::try_from(format!("{COAP_PAYLOAD};cf={}", format.0));
            // Digits are always legal.
            (value.unwrap_or(const { HeaderValue::from_static(COAP_PAYLOAD) }), None)
        }
    }
}

/// Content that no Content-Format stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoContentFormat;

/// The format of the content that these headers describe; none if there is no `content-type`.
///
/// # Errors
/// [`NoContentFormat`] for a media type, a parameter or a `content-encoding` without a
/// registration.
pub fn of(headers: &HeaderMap) -> Result<Option<ContentFormat>, NoContentFormat> {
    let Some(media_type) = headers.get(CONTENT_TYPE) else { return Ok(None) };
    let media_type = media_type.to_str().map_err(|_| NoContentFormat)?;
    let mut codings = headers.get_all(CONTENT_ENCODING).iter();
    let coding = match (codings.next(), codings.next()) {
        (None, _) => None,
        (Some(coding), None) => Some(coding.to_str().map_err(|_| NoContentFormat)?.trim()),
        (Some(_), Some(_)) => return Err(NoContentFormat),
    };
    find(media_type, coding.unwrap_or("identity")).map(Some).ok_or(NoContentFormat)
}

/// The Content-Format of a media type and a content coding, whatever the case of names, the white
/// space, the quotes and the order of parameters. `charset=utf-8` counts only where it is
/// registered, and `text/plain` needs none.
#[must_use]
pub fn find(media_type: &str, coding: &str) -> Option<ContentFormat> {
    let coding = (!coding.eq_ignore_ascii_case("identity")).then_some(coding);
    let (essence, _) = parts(media_type);
    if essence.eq_ignore_ascii_case(COAP_PAYLOAD) {
        let number = match (parameters(media_type).next(), parameters(media_type).count(), coding) {
            (Some((name, value)), 1, None) if name.eq_ignore_ascii_case("cf") => value,
            _ => return None,
        };
        let number = number.trim_matches('"');
        let is_decimal = number.bytes().all(|byte| byte.is_ascii_digit());
        return is_decimal.then(|| number.parse().ok()).flatten().map(ContentFormat);
    }
    let candidates = || {
        TABLE.iter().filter(move |row| {
            parts(row.media_type).0.eq_ignore_ascii_case(essence)
                && match (row.coding, coding) {
                    (None, None) => true,
                    (Some(one), Some(other)) => one.eq_ignore_ascii_case(other),
                    _ => false,
                }
        })
    };
    let exact = candidates().find(|row| {
        parameters(row.media_type).count() == parameters(media_type).count()
            && parameters(row.media_type)
                .all(|one| parameters(media_type).any(|other| same(one, other)))
    });
    let loose = || {
        // What is left are all UTF-8 of which the registration does not say so, and ASCII, which is
        // UTF-8 too.
        let mut only_utf8 = parameters(media_type).all(|(name, value)| {
            name.eq_ignore_ascii_case("charset") && {
                ["utf-8", "us-ascii"].iter().any(|&charset| eq_ignore_case(value, charset))
            }
        });
        only_utf8 &= parameters(media_type).count() <= 1;
        candidates().find(|row| {
            only_utf8
                && parameters(row.media_type).all(|(name, _)| name.eq_ignore_ascii_case("charset"))
        })
    };
    exact.or_else(loose).map(|row| row.format)
}

/// A media type without its parameters, and these.
fn parts(media_type: &str) -> (&str, &str) {
    match media_type.split_once(';') {
        Some((essence, parameters)) => (essence.trim(), parameters),
        None => (media_type.trim(), ""),
    }
}

/// The parameters of a media type, or of a media range up to its weight.
fn parameters(media_type: &str) -> impl Iterator<Item = (&str, &str)> {
    text::split(parts(media_type).1, b';')
        .filter(|parameter| !parameter.is_empty())
        .map(|parameter| text::parameter(parameter).unwrap_or((parameter, "")))
        .take_while(|(name, _)| !is_weight(name))
}

fn same(one: (&str, &str), other: (&str, &str)) -> bool {
    one.0.eq_ignore_ascii_case(other.0)
        && if one.0.eq_ignore_ascii_case("charset") {
            eq_ignore_case(other.1, one.1)
        } else {
            text::unquoted(one.1).eq(text::unquoted(other.1))
        }
}

fn eq_ignore_case(value: &str, plain: &str) -> bool {
    text::unquoted(value)
        .map(|byte| byte.to_ascii_lowercase())
        .eq(text::unquoted(plain).map(|byte| byte.to_ascii_lowercase()))
}

/// What an HTTP client accepts, in terms of CoAP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accept {
    /// Anything, or more than one Content-Format can say: no Accept option.
    Any,
    /// The format it likes best: the Accept option.
    Format(ContentFormat),
    /// Nothing that has a Content-Format.
    Nothing,
}

/// What the `accept` headers of a request ask for (RFC 9110 §12.5.1).
///
/// The Accept option is a demand, not a wish: a server that cannot meet it answers 4.06 (RFC 7252
/// §5.10.4). So where a range such as `*/*` or `text/*` is acceptable too, there is none; otherwise
/// it is the format of the highest quality, of several the first. Of more than 32 media types the
/// first 32 count.
#[must_use]
pub fn accept(headers: &HeaderMap) -> Accept {
    let mut best: Option<(u16, ContentFormat)> = None;
    let mut named = false;
    let values = headers.get_all(ACCEPT).iter();
    let ranges = values.flat_map(|value| text::split(value.to_str().unwrap_or_default(), b','));
    for range in ranges.filter(|range| !range.is_empty()).take(MAX_ACCEPTED) {
        named = true;
        let quality = weight(range);
        if quality == 0 {
            continue;
        }
        if parts(range).0.ends_with("/*") {
            return Accept::Any;
        }
        if let Some(format) = find(range, "identity")
            && best.is_none_or(|(highest, _)| quality > highest)
        {
            best = Some((quality, format));
        }
    }
    match best {
        Some((_, format)) => Accept::Format(format),
        None if named => Accept::Nothing,
        None => Accept::Any,
    }
}

/// The weight of a media range in thousandths (RFC 9110 §12.4.2). One that is malformed is zero.
fn weight(range: &str) -> u16 {
    let mut parameters = text::split(parts(range).1, b';').filter_map(text::parameter);
    parameters.find(|(name, _)| is_weight(name)).map_or(1000, |(_, value)| thousandths(value))
}

fn is_weight(name: &str) -> bool {
    name.eq_ignore_ascii_case("q")
}

fn thousandths(value: &str) -> u16 {
    let (whole, fraction) = value.split_once('.').unwrap_or((value, ""));
    if fraction.len() > 3 || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return 0;
    }
    match whole {
        "1" => 1000,
        "0" => format!("{fraction:0<3}").parse().unwrap_or(0),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(list: &[(&'static str, &'static str)]) -> HeaderMap {
        list.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn the_table_is_the_registry() {
        assert!(TABLE.is_sorted_by_key(|row| row.format.0));
        for row in TABLE.iter().filter(|row| row.coding.is_none()) {
            assert_eq!(coap_numbers::content_format::to_str(row.format.0), Some(row.media_type));
        }
        // What the codec names is named the same.
        for number in 0..=u16::MAX {
            if let Some(name) = ContentFormat(number).media_type() {
                assert_eq!(find(name, "identity"), Some(ContentFormat(number)), "{name}");
            }
        }
    }

    #[test]
    fn every_content_format_survives_the_way_to_http_and_back() {
        for number in 0..=u16::MAX {
            let mut headers = HeaderMap::new();
            set(&mut headers, ContentFormat(number));
            assert_eq!(of(&headers), Ok(Some(ContentFormat(number))), "{headers:?}");
        }
    }

    #[test]
    fn a_media_type_is_found_however_it_is_written() {
        for (media_type, coding, number) in [
            ("text/plain; charset=utf-8", "identity", 0),
            ("Text/Plain ;Charset=\"UTF-8\"", "identity", 0),
            ("text/plain", "identity", 0),
            ("text/plain;charset=us-ascii", "IDENTITY", 0),
            ("text/plain", "zstd", 12_000),
            ("application/cose;cose-type=cose-mac0", "identity", 17),
            ("APPLICATION/COSE; COSE-TYPE=\"cose-m\\ac0\";", "identity", 17),
            ("application/json; charset=utf-8", "identity", 50),
            ("application/json", "Deflate", 11_050),
            ("application/cbor", "deflate", 11_060),
            ("application/yang-data+cbor", "identity", 340),
            ("application/yang-data+cbor;id=sid", "identity", 140),
            ("application/aif+json;tperm=oscore-gperm; toid=oscore-gname", "identity", 298),
            ("application/coap-payload;cf=65000", "identity", 65_000),
            ("application/coap-payload; CF=\"0\"", "identity", 0),
        ] {
            assert_eq!(find(media_type, coding), Some(ContentFormat(number)), "{media_type}");
        }
        for (media_type, coding) in [
            ("text/html", "identity"),
            ("text/plain;charset=iso-8859-1", "identity"),
            ("text/plain;format=flowed", "identity"),
            ("application/cose", "identity"),
            ("application/cose;cose-type=COSE-MAC0", "identity"),
            ("application/json", "gzip"),
            ("application/cbor", "zstd"),
            ("application/coap-payload", "identity"),
            ("application/coap-payload;cf=65536", "identity"),
            ("application/coap-payload;cf=+1", "identity"),
            ("application/coap-payload;cf=", "identity"),
            ("application/coap-payload;cf=1;cf=2", "identity"),
            ("application/coap-payload;cf=50", "deflate"),
            ("", "identity"),
            (";;;", "identity"),
        ] {
            assert_eq!(find(media_type, coding), None, "{media_type}");
        }
    }

    #[test]
    fn content_is_of_the_format_that_its_headers_say() {
        assert_eq!(of(&headers(&[])), Ok(None));
        assert_eq!(of(&headers(&[("content-encoding", "gzip")])), Ok(None));
        let deflated = [("content-type", "application/json"), ("content-encoding", "deflate")];
        assert_eq!(of(&headers(&deflated)), Ok(Some(ContentFormat(11_050))));
        let twice = [deflated[0], deflated[1], deflated[1]];
        let mut map = headers(&twice[..2]);
        map.append(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        assert_eq!(of(&map), Err(NoContentFormat));
    }

    #[test]
    fn the_accept_option_is_what_the_client_likes_best() {
        let accept = |value: &'static str| accept(&headers(&[("accept", value)]));
        let format = |number| Accept::Format(ContentFormat(number));
        for (value, expected) in [
            ("application/json", format(50)),
            ("application/json;q=0.5, application/cbor", format(60)),
            ("application/json, application/cbor", format(50)),
            ("application/json;q=0.1,application/cbor;q=0.12;ext=1", format(60)),
            ("text/html, application/xml;q=0.9", format(41)),
            ("application/cose;cose-type=\"cose-mac\";q=1", format(97)),
            ("application/coap-payload;cf=65000", format(65_000)),
            ("text/html,application/xml;q=0.9,*/*;q=0.8", Accept::Any),
            ("*/*", Accept::Any),
            ("text/*", Accept::Any),
            ("", Accept::Any),
            ("text/html", Accept::Nothing),
            ("application/json;q=0", Accept::Nothing),
            ("application/json;q=2, */*;q=0.0", Accept::Nothing),
            ("application/json;q=0.1234", Accept::Nothing),
        ] {
            assert_eq!(accept(value), expected, "{value}");
        }
        assert_eq!(super::accept(&HeaderMap::new()), Accept::Any);
    }

    #[test]
    fn a_long_accept_header_is_not_read_to_its_end() {
        let long = format!("{}application/json", "text/html,".repeat(MAX_ACCEPTED));
        let mut map = HeaderMap::new();
        map.insert(ACCEPT, long.parse().unwrap());
        assert_eq!(accept(&map), Accept::Nothing);
        map.insert(ACCEPT, long.replacen("text/html,", "", 1).parse().unwrap());
        assert_eq!(accept(&map), Accept::Format(ContentFormat::JSON));
    }

    #[test]
    fn text_is_what_can_be_read() {
        for number in [0, 40, 41, 50, 110, 310, 432, 20_000, 30_000] {
            assert!(is_text(ContentFormat(number)), "{number}");
        }
        for number in [1, 21, 42, 47, 60, 112, 11_050, 12_000, 65_000] {
            assert!(!is_text(ContentFormat(number)), "{number}");
        }
    }
}
