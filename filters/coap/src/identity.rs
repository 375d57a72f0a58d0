//! Who a client of DTLS proved to be, as headers of its requests.

use bridge::text::encode;
use bridge::{HeaderMap, HeaderName, HeaderValue};
use dtls::Identity;

/// Longer lists of names are cut off.
const MAX_VALUE: usize = 2048;

/// | header | value |
/// |---|---|
/// | `x-coap-psk-identity` | the identity of the pre-shared key |
/// | `x-coap-client-subject` | the subject of the client's certificate (RFC 4514) |
/// | `x-coap-client-uri-san`, `x-coap-client-dns-san` | its names, separated by commas |
/// | `x-coap-client-sha256` | the digest of the certificate, in hexadecimal digits |
///
/// All but the visible ASCII characters other than `%` and `,` is percent-encoded.
#[must_use]
pub fn headers(identity: &Identity) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let mut insert = |name: &'static str, values: &[String]| {
        let mut text = String::new();
        for value in values {
            let value = encode(value);
            if text.len() + value.len() >= MAX_VALUE {
                break;
            }
            if !text.is_empty() {
                text.push(',');
            }
            text.push_str(&value);
        }
        if let Ok(value) = HeaderValue::try_from(text)
            && !value.is_empty()
        {
            headers.insert(HeaderName::from_static(name), value);
        }
    };
    match identity {
        Identity::Anonymous => {}
        Identity::Psk(identity) => insert("x-coap-psk-identity", &[identity.to_string()]),
        Identity::Certificate(certificate) => {
            insert("x-coap-client-subject", std::slice::from_ref(&certificate.subject));
            insert("x-coap-client-uri-san", &certificate.uris);
            insert("x-coap-client-dns-san", &certificate.dns_names);
            let digits: String =
                certificate.sha256.iter().map(|octet| format!("{octet:02x}")).collect();
            insert("x-coap-client-sha256", &[digits]);
        }
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_becomes_plain_header_values() {
        assert!(headers(&Identity::Anonymous).is_empty());
        let psk = headers(&Identity::Psk("a,b\r\n".into()));
        assert_eq!(psk.get("x-coap-psk-identity").unwrap(), "a%2Cb%0D%0A");
        let certificate = dtls::CertificateIdentity {
            subject: "CN=device,O=Example".to_owned(),
            uris: vec!["urn:a".to_owned(), "urn:b,c".to_owned()],
            dns_names: Vec::new(),
            sha256: [0xab; 32],
        };
        let certificate = headers(&Identity::Certificate(Box::new(certificate)));
        assert_eq!(certificate.get("x-coap-client-subject").unwrap(), "CN=device%2CO=Example");
        assert_eq!(certificate.get("x-coap-client-uri-san").unwrap(), "urn:a,urn:b%2Cc");
        assert_eq!(certificate.get("x-coap-client-dns-san"), None);
        assert_eq!(certificate.get("x-coap-client-sha256").unwrap().len(), 64);
    }
}
