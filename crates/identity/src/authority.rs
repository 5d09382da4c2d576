//! The certificate authority of a cluster: its root certificate and key.

use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType, DnValue,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyUsagePurpose, SanType, SerialNumber,
};
use ring::rand::{SecureRandom, SystemRandom};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use time::OffsetDateTime;
use types::{RootCa, Timestamp};
use x509_parser::{
    asn1_rs::Tag,
    prelude::{FromDer, X509Certificate},
};

use crate::{Digest, Error, Subject, subject::role_name};

/// 20 years (swarmkit `RootCAExpiration`).
const ROOT_VALIDITY: Duration = Duration::from_secs(630_720_000);
/// Certificates are valid from one hour ago, so that hosts with slightly slow clocks accept them.
const BACKDATE: Duration = Duration::from_secs(3600);

/// In the text of a chain: what follows are the roots to trust, the one that signed last. Readers of PEM pass over it.
pub(crate) const TRUSTED: &str = "# trusted roots\n";

/// Signs the certificates of a cluster's nodes. Lives on managers only.
pub struct CertificateAuthority {
    certificate_pem: String,
    key_pem: String,
    digest: Digest,
    /// What goes between a node's certificate and the roots; empty while the root stays.
    between_pem: String,
    roots_pem: String,
    issuer: Issuer<'static, rcgen::KeyPair>,
}

impl CertificateAuthority {
    /// A new root.
    ///
    /// # Errors
    /// When the operating system gives no randomness.
    pub fn generate(now: Timestamp) -> Result<Self, Error> {
        let key = rcgen::KeyPair::generate().map_err(Error::Generate)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "swarm-ca");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(1));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        (params.not_before, params.not_after) = validity(now, ROOT_VALIDITY);
        params.serial_number = Some(random_serial());
        let certificate = params.self_signed(&key).map_err(Error::Generate)?;
        Self::from_pem(&certificate.pem(), &key.serialize_pem())
    }

    /// Who signs for a cluster now: its root, or the one that is to take its place.
    ///
    /// # Errors
    /// When a text in the value is not what it should be.
    pub fn of_cluster(root: &RootCa) -> Result<Self, Error> {
        let present = Self::from_pem(&root.certificate_pem, &root.key_pem)?;
        let Some(next) = &root.rotation else { return Ok(present) };
        let signing = Self::from_pem(&next.certificate_pem, &next.key_pem)?;
        let between_pem = next.cross_signed_pem.clone();
        Ok(Self { digest: present.digest, between_pem, roots_pem: root.roots_pem(), ..signing })
    }

    /// A root and its key.
    ///
    /// # Errors
    /// When either text is not what it should be.
    pub fn from_pem(certificate_pem: &str, key_pem: &str) -> Result<Self, Error> {
        let der = CertificateDer::from_pem_slice(certificate_pem.as_bytes())
            .map_err(|_| Error::Pem { what: "root certificate" })?;
        let key = rcgen::KeyPair::from_pem(key_pem).map_err(|_| Error::Pem { what: "root key" })?;
        let issuer = Issuer::from_ca_cert_der(&der, key)
            .map_err(|e| Error::Certificate { what: "root certificate", reason: e.to_string() })?;
        Ok(Self {
            certificate_pem: certificate_pem.to_owned(),
            key_pem: key_pem.to_owned(),
            digest: crate::digest(&der),
            between_pem: String::new(),
            roots_pem: certificate_pem.to_owned(),
            issuer,
        })
    }

    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    pub fn key_pem(&self) -> &str {
        &self.key_pem
    }

    /// What join tokens pin; while a new root is on its way in still the old one.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// A certificate for the key of `csr_pem` with the given subject (the request's own is ignored),
    /// valid from one hour before `now` until `valid_for` after it. Returns the text that `NodeIdentity::from_pem`
    /// takes: the certificate, what leads from it to the roots, and the roots.
    ///
    /// # Errors
    /// When the request is not valid or not signed by its key.
    pub fn sign(&self, csr_pem: &str, subject: &Subject, now: Timestamp, valid_for: Duration) -> Result<String, Error> {
        let request = CertificateSigningRequestParams::from_pem(csr_pem).map_err(Error::Request)?;
        let mut params = CertificateParams::default();
        let role = role_name(subject.role);
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, subject.cluster.to_string());
        params.distinguished_name.push(DnType::OrganizationalUnitName, role);
        params.distinguished_name.push(DnType::CommonName, subject.node.to_string());
        params.subject_alt_names = [role.to_owned(), subject.node.to_string()]
            .into_iter()
            .map(|name| SanType::DnsName(name.try_into().expect("role names and ids are ASCII")))
            .collect();
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        (params.not_before, params.not_after) = validity(now, valid_for);
        params.serial_number = Some(random_serial());
        let leaf = params
            .signed_by(&request.public_key, &self.issuer)
            .map_err(|source| Error::Sign { node: subject.node, source })?;
        Ok(format!("{}{}{TRUSTED}{}", leaf.pem(), self.between_pem, self.roots_pem))
    }

    /// The holder and key of another root, certified by this one.
    pub(crate) fn cross_sign(
        &self,
        other: &CertificateDer<'static>,
        key: &rcgen::KeyPair,
        now: Timestamp,
    ) -> Result<String, Error> {
        let mut params = CertificateParams::default();
        params.distinguished_name = holder(other)?;
        // it leads to certificates of nodes and to nothing else
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        (params.not_before, params.not_after) = validity(now, ROOT_VALIDITY);
        params.serial_number = Some(random_serial());
        Ok(params.signed_by(key, &self.issuer).map_err(Error::Generate)?.pem())
    }
}

/// Whose certificate it is, as it will be written once more.
fn holder(der: &[u8]) -> Result<DistinguishedName, Error> {
    let bad = |reason: String| Error::Certificate { what: "new root certificate", reason };
    let (_, certificate) = X509Certificate::from_der(der).map_err(|e| bad(e.to_string()))?;
    let mut name = DistinguishedName::new();
    for part in certificate.subject().iter_attributes() {
        let oid = part.attr_type().iter().ok_or_else(|| bad("its subject has an endless identifier".to_owned()))?;
        let text = part.as_str().map_err(|e| bad(format!("its subject has a part that is no text: {e}")))?;
        let value = match part.attr_value().tag() {
            Tag::PrintableString => DnValue::PrintableString(text.try_into().map_err(Error::Generate)?),
            Tag::Ia5String => DnValue::Ia5String(text.try_into().map_err(Error::Generate)?),
            Tag::T61String => DnValue::TeletexString(text.try_into().map_err(Error::Generate)?),
            _ => DnValue::Utf8String(text.to_owned()),
        };
        name.push(DnType::from_oid(&oid.collect::<Vec<u64>>()), value);
    }
    Ok(name)
}

fn validity(now: Timestamp, valid_for: Duration) -> (OffsetDateTime, OffsetDateTime) {
    let at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(now.as_unix_ns()))
        .expect("the years 1970 to 2554 are dates");
    (at - BACKDATE, at + valid_for)
}

fn random_serial() -> SerialNumber {
    let mut bytes = [0_u8; 16];
    SystemRandom::new().fill(&mut bytes).expect("the kernel gives random bytes once it has booted");
    // a positive number, RFC 5280 section 4.1.2.2
    bytes[0] &= 0x7f;
    SerialNumber::from_slice(&bytes)
}
