//! Who a client is, and who vouches for that.

use std::fmt;
use std::time::Duration;

use p256::ecdsa::signature::hazmat::PrehashVerifier;
use rustls_pki_types::{
    AlgorithmIdentifier, CertificateDer, InvalidSignature, SignatureVerificationAlgorithm,
    TrustAnchor, UnixTime, alg_id,
};
use sha2::{Digest, Sha256, Sha384};
use webpki::{EndEntityCert, KeyUsage};
use x509_cert::Certificate;
use x509_cert::der::Decode;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{KeyUsage as KeyUsageBits, SubjectAltName};

/// The most names of one kind that are taken from a certificate.
const MAX_NAMES: usize = 16;

/// Who a client proved to be. All text comes from the configuration or from a certificate that a
/// trusted authority signed; it may have any character.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// Nobody: the server showed a certificate and asked for none.
    Anonymous,
    /// Who has the pre-shared key of this identity.
    Psk(Box<str>),
    /// Who has the private key of this certificate.
    Certificate(Box<CertificateIdentity>),
}

/// What a client's certificate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateIdentity {
    /// The subject (RFC 5280 §4.1.2.6), written as in RFC 4514; may be empty.
    pub subject: String,
    /// The first 16 uniformResourceIdentifiers among the subject's alternative names (RFC 5280
    /// §4.2.1.6), such as SPIFFE IDs.
    pub uris: Vec<String>,
    /// The first 16 dNSNames among them.
    pub dns_names: Vec<String>,
    /// The SHA-256 digest of the certificate in DER.
    pub sha256: [u8; 32],
}

/// Why a client's certificate is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    Malformed,
    UnknownCa,
    Expired,
    NotYetValid,
    /// Its (extended) key usage does not allow to authenticate a client (RFC 5280 §4.2.1.12).
    Usage,
    Other,
}

impl Refusal {
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Malformed => "certificate_malformed",
            Self::UnknownCa => "certificate_unknown_ca",
            Self::Expired => "certificate_expired",
            Self::NotYetValid => "certificate_not_yet_valid",
            Self::Usage => "certificate_usage",
            Self::Other => "certificate_invalid",
        }
    }

    /// The alert's description (RFC 5246 §7.2).
    pub(crate) fn alert(self) -> u8 {
        match self {
            Self::Malformed | Self::Other => 42,
            Self::Usage => 43,
            Self::Expired | Self::NotYetValid => 45,
            Self::UnknownCa => 48,
        }
    }
}

/// The authorities that vouch for clients.
#[derive(Default)]
pub(crate) struct Trust(Vec<TrustAnchor<'static>>);

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Trust").field(&self.0.len()).finish()
    }
}

impl Trust {
    pub(crate) fn add(&mut self, certificate: &CertificateDer<'_>) -> Result<(), webpki::Error> {
        self.0.push(webpki::anchor_from_trusted_cert(certificate)?.to_owned());
        Ok(())
    }

    /// Checks a client's certificate at a time since the Unix epoch.
    pub(crate) fn verify(&self, der: &[u8], now: Duration) -> Result<CertificateIdentity, Refusal> {
        let identity = read(der)?;
        let certificate = CertificateDer::from(der);
        let certificate = EndEntityCert::try_from(&certificate).map_err(refusal)?;
        let now = UnixTime::since_unix_epoch(now);
        certificate
            .verify_for_usage(ALGORITHMS, &self.0, &[], now, KeyUsage::client_auth(), None, None)
            .map_err(refusal)?;
        Ok(identity)
    }
}

fn refusal(error: webpki::Error) -> Refusal {
    use webpki::Error;
    match error {
        Error::BadDer | Error::BadDerTime => Refusal::Malformed,
        Error::UnknownIssuer => Refusal::UnknownCa,
        Error::CertExpired { .. } => Refusal::Expired,
        Error::CertNotValidYet { .. } => Refusal::NotYetValid,
        Error::RequiredEkuNotFoundContext(_) | Error::CaUsedAsEndEntity => Refusal::Usage,
        _ => Refusal::Other,
    }
}

/// Reads what a certificate says, and checks that its key may be used for signatures (RFC 5280
/// §4.2.1.3), which webpki leaves to others.
fn read(der: &[u8]) -> Result<CertificateIdentity, Refusal> {
    let certificate = Certificate::from_der(der).map_err(|_| Refusal::Malformed)?;
    let certificate = certificate.tbs_certificate();
    let usage = certificate.get_extension::<KeyUsageBits>().map_err(|_| Refusal::Malformed)?;
    if usage.is_some_and(|(_, usage)| !usage.digital_signature()) {
        return Err(Refusal::Usage);
    }
    let names = certificate.get_extension::<SubjectAltName>().map_err(|_| Refusal::Malformed)?;
    let (mut uris, mut dns_names) = (Vec::new(), Vec::new());
    for name in names.into_iter().flat_map(|(_, SubjectAltName(names))| names) {
        let (list, name) = match &name {
            GeneralName::UniformResourceIdentifier(uri) => (&mut uris, uri.as_str()),
            GeneralName::DnsName(name) => (&mut dns_names, name.as_str()),
            _ => continue,
        };
        if list.len() < MAX_NAMES {
            list.push(name.to_owned());
        }
    }
    Ok(CertificateIdentity {
        subject: certificate.subject().to_string(),
        uris,
        dns_names,
        sha256: Sha256::digest(der).into(),
    })
}

const ALGORITHMS: &[&dyn SignatureVerificationAlgorithm] = &[
    &Ecdsa { curve: Curve::P256, hash: Hash::Sha256 },
    &Ecdsa { curve: Curve::P256, hash: Hash::Sha384 },
    &Ecdsa { curve: Curve::P384, hash: Hash::Sha256 },
    &Ecdsa { curve: Curve::P384, hash: Hash::Sha384 },
];

/// ECDSA (RFC 5758 §3.2).
#[derive(Debug)]
struct Ecdsa {
    curve: Curve,
    hash: Hash,
}

#[derive(Debug)]
enum Curve {
    P256,
    P384,
}

#[derive(Debug)]
enum Hash {
    Sha256,
    Sha384,
}

impl SignatureVerificationAlgorithm for Ecdsa {
    fn verify_signature(
        &self,
        public_key: &[u8],
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), InvalidSignature> {
        let hash = match self.hash {
            Hash::Sha256 => Sha256::digest(message).to_vec(),
            Hash::Sha384 => Sha384::digest(message).to_vec(),
        };
        match self.curve {
            Curve::P256 => {
                use p256::ecdsa::{Signature, VerifyingKey};
                let key =
                    VerifyingKey::from_sec1_bytes(public_key).map_err(|_| InvalidSignature)?;
                let signature = Signature::from_der(signature).map_err(|_| InvalidSignature)?;
                key.verify_prehash(&hash, &signature).map_err(|_| InvalidSignature)
            }
            Curve::P384 => {
                use p384::ecdsa::{Signature, VerifyingKey};
                let key =
                    VerifyingKey::from_sec1_bytes(public_key).map_err(|_| InvalidSignature)?;
                let signature = Signature::from_der(signature).map_err(|_| InvalidSignature)?;
                key.verify_prehash(&hash, &signature).map_err(|_| InvalidSignature)
            }
        }
    }

    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        match self.curve {
            Curve::P256 => alg_id::ECDSA_P256,
            Curve::P384 => alg_id::ECDSA_P384,
        }
    }

    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        match self.hash {
            Hash::Sha256 => alg_id::ECDSA_SHA256,
            Hash::Sha384 => alg_id::ECDSA_SHA384,
        }
    }
}
