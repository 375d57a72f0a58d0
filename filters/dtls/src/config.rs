//! The configuration: what the user writes, and what it compiles to.

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use dimpl::DtlsCertificate;
use dimpl::crypto::{Buf, CryptoProvider};
use filter_config::{Mistake, Mistakes, Seconds, Whole};
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use zeroize::{Zeroize, Zeroizing};

use crate::identity::Trust;
use crate::provider;
use crate::psk::Psks;

/// Whether clients have to show a certificate. There is no asking without insisting: dimpl ends the
/// handshake of a client that is asked and has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ClientCertificates {
    /// They are not asked for one.
    #[default]
    None,
    /// They are, and it has to be one that `trusted_ca` vouches for. A client with a pre-shared key has
    /// none and needs none.
    Required,
}

/// Keys and limits of DTLS. At least one of `psk` and `certificate` is needed. With both, a client that
/// offers DTLS 1.3 gets that, with the certificate; with any other, the first cipher suite in its list that
/// can be used decides (RFC 5246 §7.4.1.2).
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "DTLS"))]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Pre-shared keys by identity, for `TLS_PSK_WITH_AES_128_CCM_8` (RFC 6655) in DTLS 1.2. DTLS 1.3 with
    /// them is not supported. Default none.
    #[cfg_attr(feature = "schema", schemars(with = "Vec<PskConfig>"))]
    pub psk: PskList,
    /// The server's certificate in PEM, with an ECDSA key on P-256 or P-384, for the
    /// `TLS_ECDHE_ECDSA_*` cipher suites in DTLS 1.2, and for DTLS 1.3. One certificate:
    /// intermediate ones are not sent. Default none.
    pub certificate: Option<String>,
    /// Its private key in PEM, not encrypted.
    #[cfg_attr(feature = "schema", schemars(with = "Option<String>"))]
    pub private_key: Option<Secret>,
    /// Whether clients have to show a certificate: `none` (default) or `required`.
    pub client_certificates: ClientCertificates,
    /// The certificate authorities, in PEM, that vouch for clients: each client's certificate must be
    /// signed by one of them itself, because only that one is looked at of the chain a client sends.
    /// With ECDSA keys on P-256 or P-384. Needed with `client_certificates: required`.
    pub trusted_ca: Option<String>,
    /// How many handshakes may be in progress at once on each worker, counted from the cookie's return
    /// (RFC 6347 §4.2.1). While so many are, no other begins. 1 to 1000000, default 1000.
    pub max_handshakes: Option<Whole>,
    /// How long a handshake may take, and a client may send nothing that leads to one. At most `300s`,
    /// default `30s`.
    pub handshake_timeout: Option<Seconds>,
    /// When a flight of the handshake is first sent again if the client does not answer; the time
    /// doubles with each repetition (RFC 6347 §4.2.4.1). From `0.1s` to `60s`, default `1s`.
    pub retransmit_timeout: Option<Seconds>,
    /// After this time without a valid record from the client the association is closed. At most
    /// `86400s`, default `600s`.
    pub idle_timeout: Option<Seconds>,
    /// The longest datagram of a handshake that is sent, in octets; handshake messages are fragmented
    /// to fit (RFC 6347 §4.1.1). 256 to 9000, default 1200.
    pub handshake_mtu: Option<Whole>,
}

/// One pre-shared key. Has exactly one of `key` and `key_base64`.
#[derive(Debug)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(deny_unknown_fields))]
pub struct PskConfig {
    /// What the client calls itself (RFC 4279 §5.1): 1 to 256 octets of UTF-8.
    pub identity: String,
    /// The key in hexadecimal digits: 1 to 64 octets. Short keys can be guessed from one recorded
    /// handshake; 16 random octets are as strong as the cipher suite.
    #[cfg_attr(feature = "schema", schemars(with = "Option<String>"))]
    pub key: Option<Secret>,
    /// The key in Base64.
    #[cfg_attr(feature = "schema", schemars(with = "Option<String>"))]
    pub key_base64: Option<Secret>,
}

/// Text that is never printed. Anything can be read as one, because whoever reports that something
/// cannot be read prints it; what is no text is found when the configuration is compiled.
#[derive(Default)]
pub struct Secret(Option<Zeroizing<String>>);

impl Secret {
    /// A secret of this text.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(Some(Zeroizing::new(text)))
    }

    fn from_value(value: Value) -> Self {
        match value {
            Value::String(text) => Self::new(text),
            _ => Self(None),
        }
    }

    fn text(&self) -> Option<&str> {
        self.0.as_ref().map(|text| text.as_str())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Value::deserialize(deserializer).map(Self::from_value)
    }
}

/// The pre-shared keys, and what is wrong with the list. Reading it never fails, for the reason
/// that [`Secret`] gives.
#[derive(Debug, Default)]
pub struct PskList {
    entries: Vec<PskConfig>,
    mistakes: Vec<(String, String)>,
}

impl From<Vec<PskConfig>> for PskList {
    fn from(entries: Vec<PskConfig>) -> Self {
        Self { entries, mistakes: Vec::new() }
    }
}

impl<'de> Deserialize<'de> for PskList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut list = Self::default();
        let Value::Array(values) = Value::deserialize(deserializer)? else {
            list.mistakes.push((String::new(), "is not a list".to_owned()));
            return Ok(list);
        };
        for (index, value) in values.into_iter().enumerate() {
            let mut psk = PskConfig { identity: String::new(), key: None, key_base64: None };
            let Value::Object(fields) = value else {
                list.mistakes.push((format!("[{index}]"), "is not an object".to_owned()));
                continue;
            };
            for (name, value) in fields {
                match (name.as_str(), value) {
                    ("identity", Value::String(text)) => psk.identity = text,
                    ("identity", _) => list
                        .mistakes
                        .push((format!("[{index}].identity"), "is not a string".to_owned())),
                    ("key", value) => psk.key = Some(Secret::from_value(value)),
                    ("key_base64", value) => psk.key_base64 = Some(Secret::from_value(value)),
                    (name, _) => list.mistakes.push((
                        format!("[{index}]"),
                        format!(
                            "unknown field `{name}`, expected `identity`, `key` or `key_base64`"
                        ),
                    )),
                }
            }
            list.entries.push(psk);
        }
        Ok(list)
    }
}

/// The configuration as it is used.
#[derive(Debug)]
pub struct Settings {
    pub(crate) dimpl: Arc<dimpl::Config>,
    pub(crate) psks: Arc<Psks>,
    pub(crate) certificate: Option<DtlsCertificate>,
    /// Whom to believe clients' certificates; `None` where they are not asked for one.
    pub(crate) trust: Option<Trust>,
    pub(crate) max_handshakes: usize,
    pub(crate) handshake_timeout: Duration,
    pub(crate) idle_timeout: Duration,
}

impl Settings {
    /// Checks a configuration that was read at `path`, such as `dtls`. `None` only after a mistake.
    #[must_use]
    pub fn compile(config: Config, path: &str, mistakes: &mut Mistakes) -> Option<Self> {
        let mut checks = Checks { path, mistakes, failed: false };
        let psks = Arc::new(checks.psks(&config.psk));
        let certificate = checks.certificate(config.certificate.as_deref(), config.private_key);
        let required = config.client_certificates == ClientCertificates::Required;
        if psks.is_empty() && certificate.is_none() && !checks.failed {
            checks.mistake("", "must have psk or certificate");
        }
        if required && certificate.is_none() {
            checks.mistake("client_certificates", "has a meaning only with certificate");
        }
        let trust = match (required, config.trusted_ca) {
            (true, Some(pem)) => checks.trust(&pem),
            (true, None) => {
                checks.mistake("trusted_ca", "must be there with client_certificates: required");
                None
            }
            (false, Some(_)) => {
                checks
                    .mistake("trusted_ca", "has a meaning only with client_certificates: required");
                None
            }
            (false, None) => None,
        };
        let max_handshakes =
            checks.whole("max_handshakes", config.max_handshakes, 1..=1_000_000, 1000);
        let mtu = checks.whole("handshake_mtu", config.handshake_mtu, 256..=9000, 1200);
        let seconds = Duration::from_secs;
        let tenth = Duration::from_millis(100);
        let handshake_timeout = checks.seconds(
            "handshake_timeout",
            config.handshake_timeout,
            tenth..=seconds(300),
            seconds(30),
        );
        let retransmit_timeout = checks.seconds(
            "retransmit_timeout",
            config.retransmit_timeout,
            tenth..=seconds(60),
            seconds(1),
        );
        let idle_timeout = checks.seconds(
            "idle_timeout",
            config.idle_timeout,
            tenth..=seconds(86_400),
            seconds(600),
        );

        let mut dimpl = dimpl::Config::builder()
            .with_crypto_provider(provider::provider())
            .mtu(mtu)
            .max_queue_rx(MAX_RECEIVED)
            .max_queue_tx(MAX_FLIGHT)
            .use_server_cookie(true)
            .require_client_certificate(trust.is_some())
            .flight_start_rto(retransmit_timeout)
            .handshake_timeout(handshake_timeout);
        if !psks.is_empty() {
            dimpl = dimpl.with_psk_server(None, Arc::<Psks>::clone(&psks));
        }
        let dimpl = match dimpl.build() {
            Ok(dimpl) => Arc::new(dimpl),
            Err(error) => {
                checks.mistake("", error.to_string());
                return None;
            }
        };
        (!checks.failed).then_some(Self {
            dimpl,
            psks,
            certificate,
            trust,
            max_handshakes,
            handshake_timeout,
            idle_timeout,
        })
    }
}

/// How many datagrams of a handshake are held until those before them arrive.
const MAX_RECEIVED: usize = 16;
/// How many datagrams one of our flights may have.
const MAX_FLIGHT: usize = 64;

struct Checks<'a> {
    path: &'a str,
    mistakes: &'a mut Mistakes,
    failed: bool,
}

impl Checks<'_> {
    fn mistake(&mut self, field: &str, what: impl Into<String>) {
        self.failed = true;
        let separator = if self.path.is_empty() || field.is_empty() { "" } else { "." };
        self.mistakes.push(Mistake::new(format!("{}{separator}{field}", self.path), what));
    }

    fn whole(
        &mut self,
        field: &str,
        n: Option<Whole>,
        range: RangeInclusive<u64>,
        default: usize,
    ) -> usize {
        let Some(Whole(n)) = n else { return default };
        if !range.contains(&n) {
            let (least, most) = (range.start(), range.end());
            self.mistake(field, format!("must be from {least} to {most} (got {n})"));
        }
        usize::try_from(n).unwrap_or(usize::MAX)
    }

    fn seconds(
        &mut self,
        field: &str,
        time: Option<Seconds>,
        range: RangeInclusive<Duration>,
        default: Duration,
    ) -> Duration {
        let Some(Seconds(time)) = time else { return default };
        if range.contains(&time) {
            return time;
        }
        let (least, most) = (range.start(), range.end());
        self.mistake(field, format!("must be from {least:?} to {most:?} (got {time:?})"));
        default
    }

    fn psks(&mut self, list: &PskList) -> Psks {
        for (place, what) in &list.mistakes {
            self.mistake(&format!("psk{place}"), what);
        }
        let mut psks = Psks::default();
        for (index, psk) in list.entries.iter().enumerate() {
            let path = format!("psk[{index}]");
            if psk.identity.is_empty() || psk.identity.len() > 256 {
                let what = format!("must have 1 to 256 octets (got {})", psk.identity.len());
                self.mistake(&format!("{path}.identity"), what);
            }
            let (field, key) = match (&psk.key, &psk.key_base64) {
                (Some(key), None) => ("key", key.text().and_then(hexadecimal)),
                (None, Some(key)) => {
                    ("key_base64", key.text().and_then(|text| BASE64.decode(text).ok()))
                }
                _ => {
                    self.mistake(&path, "must have exactly one of key and key_base64");
                    continue;
                }
            };
            let field = format!("{path}.{field}");
            match key.map(Zeroizing::new) {
                None if field.ends_with("key") => {
                    self.mistake(&field, "must be a string of pairs of hexadecimal digits");
                }
                None => self.mistake(&field, "must be a string in Base64 with padding"),
                Some(key) if !(1..=64).contains(&key.len()) => {
                    let what = format!("must have 1 to 64 octets (got {})", key.len());
                    self.mistake(&field, what);
                }
                Some(key) => {
                    if !psks.insert(&psk.identity, key) {
                        let what = format!("is there twice (got {:?})", psk.identity);
                        self.mistake(&format!("{path}.identity"), what);
                    }
                }
            }
        }
        psks
    }

    fn certificate(&mut self, pem: Option<&str>, key: Option<Secret>) -> Option<DtlsCertificate> {
        let (pem, key) = match (pem, key) {
            (None, None) => return None,
            (Some(pem), Some(key)) => (pem, key),
            (Some(_), None) => {
                self.mistake("private_key", "must be there with certificate");
                return None;
            }
            (None, Some(_)) => {
                self.mistake("certificate", "must be there with private_key");
                return None;
            }
        };
        let mut certificates = self.certificates("certificate", pem)?;
        if certificates.len() > 1 {
            self.mistake(
                "certificate",
                format!(
                    "must be one certificate, because no other is sent (got {})",
                    certificates.len()
                ),
            );
        }
        let key = key.text().map(|pem| PrivateKeyDer::from_pem_slice(pem.as_bytes()));
        let Some(Ok(mut key)) = key else {
            self.mistake("private_key", "must be a private key in PEM that is not encrypted");
            return None;
        };
        let certificate = DtlsCertificate {
            certificate: certificates.pop()?.to_vec(),
            private_key: key.secret_der().to_vec(),
        };
        key.zeroize();
        match pair(&dimpl::crypto::rust_crypto::default_provider(), &certificate) {
            Ok(()) => Some(certificate),
            Err((field, what)) => {
                self.mistake(field, what);
                None
            }
        }
    }

    fn trust(&mut self, pem: &str) -> Option<Trust> {
        let certificates = self.certificates("trusted_ca", pem)?;
        let mut trust = Trust::default();
        for (index, certificate) in certificates.iter().enumerate() {
            if let Err(error) = trust.add(certificate) {
                self.mistake("trusted_ca", format!("certificate {}: {error}", index + 1));
            }
        }
        Some(trust)
    }

    fn certificates(&mut self, field: &str, pem: &str) -> Option<Vec<CertificateDer<'static>>> {
        let read: Result<Vec<_>, pem::Error> =
            CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
        match read {
            Ok(certificates) if certificates.is_empty() => {
                self.mistake(field, "has no certificate in PEM");
                None
            }
            Ok(certificates) => Some(certificates),
            Err(error) => {
                self.mistake(field, format!("is not PEM: {error}"));
                None
            }
        }
    }
}

fn hexadecimal(text: &str) -> Option<Vec<u8>> {
    let digit = |octet: u8| char::from(octet).to_digit(16).and_then(|n| u8::try_from(n).ok());
    let pairs = text.as_bytes().chunks(2);
    pairs
        .map(|pair| match pair {
            [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
            _ => None,
        })
        .collect()
}

/// Checks that a certificate and a private key can be used, and belong together. The error has the
/// field that is to blame.
fn pair(
    provider: &CryptoProvider,
    certificate: &DtlsCertificate,
) -> Result<(), (&'static str, String)> {
    let key = provider.key_provider.load_private_key(&certificate.private_key);
    let Ok(mut key) = key else {
        return Err(("private_key", "must be an ECDSA key on P-256 or P-384".to_owned()));
    };
    let message = b"proof of possession";
    let mut signature = Buf::new();
    if let Err(error) = key.sign(message, key.hash_algorithm(), &mut signature) {
        return Err(("private_key", error.to_string()));
    }
    let verified = provider.signature_verification.verify_signature(
        &certificate.certificate,
        message,
        &signature,
        key.hash_algorithm(),
        key.algorithm(),
    );
    match verified {
        Ok(()) => Ok(()),
        Err(dimpl::CryptoError::SignatureVerificationFailed { .. }) => {
            Err(("private_key", "is not the one of certificate".to_owned()))
        }
        Err(error) => Err(("certificate", format!("cannot be used: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Outer {
        dtls: Config,
    }

    fn mistakes(json: &str) -> Vec<String> {
        let (outer, mut mistakes) = filter_config::read::<Outer>(json.as_bytes());
        let settings = Settings::compile(outer.dtls, "dtls", &mut mistakes);
        assert_eq!(settings.is_some(), mistakes.is_empty());
        mistakes.into_list().iter().map(ToString::to_string).collect()
    }

    const CERTIFICATE: &str = include_str!("../tests/certs/server.pem");
    const KEY: &str = include_str!("../tests/certs/server.key");
    const OTHER: &str = include_str!("../tests/certs/client.key");

    fn with_certificate(certificate: &str, key: &str, more: &str) -> Vec<String> {
        let json = |text: &str| Value::String(text.to_owned()).to_string();
        let (certificate, key) = (json(certificate), json(key));
        mistakes(&format!(
            r#"{{"dtls": {{"certificate": {certificate}, "private_key": {key}{more}}}}}"#
        ))
    }

    #[test]
    fn good_configurations_are_taken() {
        assert!(mistakes(r#"{"dtls": {"psk": [{"identity": "a", "key": "00ff"}]}}"#).is_empty());
        assert!(
            mistakes(r#"{"dtls": {"psk": [{"identity": "a", "key_base64": "AP8="}]}}"#).is_empty()
        );
        assert!(with_certificate(CERTIFICATE, KEY, r#", "idle_timeout": "60s""#).is_empty());
    }

    #[test]
    fn mistakes_have_their_place_and_show_no_secret() {
        let found = mistakes(
            r#"{"dtls": {
                "psk": [
                    {"identity": "a", "key": "5ec3e7"},
                    {"identity": "a", "key": "5ec3e7"},
                    {"identity": "", "key": "5ec3e7x"},
                    {"identity": 5, "key": 5337},
                    {"key_base64": "5ec3e7", "identity": "b"},
                    {"identity": "c", "key": "5ec3e7", "key_base64": "5ec3e7"},
                    {"identity": "d"},
                    {"identity": "e", "key": "", "kye": "5ec3e7"},
                    "5ec3e7"
                ],
                "private_key": ["5ec3e7"],
                "max_handshakes": 0,
                "handshake_timeout": "0s"
            }}"#,
        );
        assert_eq!(
            found,
            [
                "dtls.psk[3].identity: is not a string",
                "dtls.psk[7]: unknown field `kye`, expected `identity`, `key` or `key_base64`",
                "dtls.psk[8]: is not an object",
                "dtls.psk[1].identity: is there twice (got \"a\")",
                "dtls.psk[2].identity: must have 1 to 256 octets (got 0)",
                "dtls.psk[2].key: must be a string of pairs of hexadecimal digits",
                "dtls.psk[3].identity: must have 1 to 256 octets (got 0)",
                "dtls.psk[3].key: must be a string of pairs of hexadecimal digits",
                "dtls.psk[4].key_base64: must be a string in Base64 with padding",
                "dtls.psk[5]: must have exactly one of key and key_base64",
                "dtls.psk[6]: must have exactly one of key and key_base64",
                "dtls.psk[7].key: must have 1 to 64 octets (got 0)",
                "dtls.certificate: must be there with private_key",
                "dtls.max_handshakes: must be from 1 to 1000000 (got 0)",
                "dtls.handshake_timeout: must be from 100ms to 300s (got 0ns)",
            ]
        );
        let found = mistakes(r#"{"dtls": {"psk": {"identity": "a", "key": "5ec3e7"}}}"#);
        assert_eq!(found, ["dtls.psk: is not a list"]);
    }

    #[test]
    fn nothing_to_show_is_a_mistake() {
        assert_eq!(mistakes(r#"{"dtls": {}}"#), ["dtls: must have psk or certificate"]);
    }

    #[test]
    fn a_certificate_and_its_key_are_checked() {
        assert_eq!(
            with_certificate(CERTIFICATE, OTHER, ""),
            ["dtls.private_key: is not the one of certificate"]
        );
        assert_eq!(with_certificate("x", KEY, ""), ["dtls.certificate: has no certificate in PEM"]);
        let junk = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let found = with_certificate(junk, KEY, "");
        assert!(found[0].starts_with("dtls.certificate: cannot be used: "), "{found:?}");
        assert_eq!(
            with_certificate(CERTIFICATE, "x", ""),
            ["dtls.private_key: must be a private key in PEM that is not encrypted"]
        );
        assert_eq!(
            with_certificate(&CERTIFICATE.repeat(2), KEY, ""),
            ["dtls.certificate: must be one certificate, because no other is sent (got 2)"]
        );
        let junk = Value::String(junk.to_owned());
        let ca = format!(r#", "client_certificates": "required", "trusted_ca": {junk}"#);
        let found = with_certificate(CERTIFICATE, KEY, &ca);
        assert!(found[0].starts_with("dtls.trusted_ca: certificate 1: "), "{found:?}");
        assert_eq!(
            with_certificate(CERTIFICATE, KEY, r#", "client_certificates": "required""#),
            ["dtls.trusted_ca: must be there with client_certificates: required"]
        );
        assert_eq!(
            with_certificate(CERTIFICATE, KEY, r#", "trusted_ca": """#),
            ["dtls.trusted_ca: has a meaning only with client_certificates: required"]
        );
    }

    #[test]
    fn debug_output_shows_no_secret() {
        let json = r#"{"dtls": {"psk": [{"identity": "a", "key": "5ec3e7"}]}}"#;
        let (outer, mut mistakes) = filter_config::read::<Outer>(json.as_bytes());
        let config = format!("{outer:?}");
        let settings = Settings::compile(outer.dtls, "dtls", &mut mistakes).expect("good");
        let debug = format!("{config}{settings:?}");
        assert!(!debug.contains("5ec3e7"), "{debug}");
        // 5ec3e7 as octets.
        assert!(!debug.contains("94, 195, 231"), "{debug}");
    }
}
