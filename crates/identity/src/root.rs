//! A new root for a cluster that has one: made, or taken from the user and examined (parity C-18).
//!
//! Called by the manager that leads. Whatever cannot replace the present root without a gap is refused here, in words,
//! before anything of it is in the cluster's value.

use std::{sync::Arc, time::Duration};

use rustls::{
    RootCertStore,
    client::{WebPkiServerVerifier, danger::ServerCertVerifier as _},
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject as _},
};
use types::{ClusterId, NodeId, NodeRole, RootCa, RootRotation, Timestamp};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::{
    CertificateAuthority, Digest, Error, KeyPair, Subject, authority::TRUSTED, subject::role_name, tls::provider,
};

/// A root that is given lives at least so long yet: nobody replaces one each month.
const MIN_VALIDITY: Duration = Duration::from_secs(365 * 86_400);
/// Of the certificate that shows that a root works.
const TRIAL: Duration = Duration::from_secs(3600);

/// The digest by which managers tell nodes which roots to trust, of `RootCa::roots_pem`.
pub fn trust_digest(roots_pem: &str) -> Digest {
    crate::digest(roots_pem.as_bytes())
}

/// The root that is to follow `present`: the one given as certificate and key, or a fresh one.
///
/// # Errors
/// Why what was given cannot be a root of this cluster.
pub fn next_root(present: &RootCa, given: Option<(&str, &str)>, now: Timestamp) -> Result<RootRotation, Error> {
    let old = CertificateAuthority::from_pem(&present.certificate_pem, &present.key_pem)?;
    let (der, key_pem) = match given {
        Some((certificate_pem, key_pem)) => (examine(certificate_pem, now)?, key_pem.to_owned()),
        None => {
            let fresh = CertificateAuthority::generate(now)?;
            (examine(fresh.certificate_pem(), now)?, fresh.key_pem().to_owned())
        }
    };
    let certificate_pem = pem_of(&der);
    let key = rcgen::KeyPair::from_pem(&key_pem).map_err(|_| refused(NO_KEY))?;
    let holder_key = public_key(&der)?;
    if holder_key != rcgen::PublicKeyData::subject_public_key_info(&key) {
        return Err(refused(
            "the key does not belong to the certificate; give the key that the certificate was made with",
        ));
    }
    // the very root that is there: whoever asks for it ends a rotation, and needs nothing signed
    if crate::digest(&der) == old.digest() {
        let RootCa { certificate_pem, key_pem, .. } = present.clone();
        return Ok(RootRotation { cross_signed_pem: certificate_pem.clone(), certificate_pem, key_pem });
    }
    if holder_key == public_key_of_pem(&present.certificate_pem)? {
        return Err(refused(
            "it has the key of the present root (cannot update to a cert with an identical key); make a certificate \
             with a new key",
        ));
    }
    let cross_signed_pem = old.cross_sign(&der, &key, now)?;
    let next = RootRotation { certificate_pem, key_pem, cross_signed_pem };
    try_out(present, &next, now)?;
    Ok(next)
}

const NO_CERTIFICATE: &str = "its certificate is not one in PEM format";
const NO_KEY: &str = "its key is not an unencrypted PKCS #8 key in PEM format; `openssl pkcs8 -topk8 -nocrypt -in KEY` makes one of another";

fn refused(reason: &str) -> Error {
    Error::Root(reason.to_owned())
}

/// One certificate, of an authority, for long enough.
fn examine(pem: &str, now: Timestamp) -> Result<CertificateDer<'static>, Error> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    let der = match <[CertificateDer<'static>; 1]>::try_from(all.map_err(|_| refused(NO_CERTIFICATE))?) {
        Ok([der]) => der,
        Err(none) if none.is_empty() => return Err(refused(NO_CERTIFICATE)),
        Err(_) => {
            return Err(refused(
                "the desired CA certificate cannot contain multiple certificates; give the root alone",
            ));
        }
    };
    let (_, certificate) = X509Certificate::from_der(&der).map_err(|_| refused(NO_CERTIFICATE))?;
    if certificate.subject().iter().any(|part| part.iter().count() != 1) {
        return Err(refused(
            "its subject has a part with several values or none; give each part of the name one value",
        ));
    }
    if !certificate.is_ca() {
        return Err(refused(
            "its certificate is not one of an authority (basic constraints CA:TRUE); make it with `-extensions v3_ca`",
        ));
    }
    if certificate.verify_signature(None).is_err() {
        return Err(refused("its certificate is signed by another one; give the root itself"));
    }
    let until = u64::try_from(certificate.validity().not_after.timestamp()).unwrap_or(0).saturating_mul(1000);
    if Timestamp::from_unix_ms(until) < now + MIN_VALIDITY {
        return Err(refused("CA certificate expires too soon; it must be valid for a year at least"));
    }
    Ok(der)
}

fn public_key(der: &[u8]) -> Result<Vec<u8>, Error> {
    let (_, certificate) = X509Certificate::from_der(der).map_err(|_| refused(NO_CERTIFICATE))?;
    Ok(certificate.public_key().raw.to_vec())
}

fn public_key_of_pem(pem: &str) -> Result<Vec<u8>, Error> {
    let bad = |_| Error::Pem { what: "root certificate" };
    public_key(&CertificateDer::from_pem_slice(pem.as_bytes()).map_err(bad)?)
}

/// In the one form in which texts are compared.
fn pem_of(der: &[u8]) -> String {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let body = STANDARD.encode(der);
    let lines: Vec<&str> =
        body.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).expect("base64 is ASCII")).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

/// Signs a certificate and looks at it as nodes will: those that know the old root alone, and those that know the new
/// one. A root with names or keys that do not come out as they went in would lock all nodes out.
fn try_out(present: &RootCa, next: &RootRotation, now: Timestamp) -> Result<(), Error> {
    let during = RootCa { rotation: Some(Box::new(next.clone())), ..present.clone() };
    let subject = Subject { node: NodeId::from_random(0), role: NodeRole::Manager, cluster: ClusterId::from_random(0) };
    let authority = CertificateAuthority::of_cluster(&during)?;
    let text = authority.sign(KeyPair::generate()?.csr_pem(), &subject, now, TRIAL)?;
    let (chain, _) = text.split_once(TRUSTED).unwrap_or((&text, ""));
    let bad = |_| Error::Pem { what: "node certificate" };
    let chain: Vec<_> = CertificateDer::pem_slice_iter(chain.as_bytes()).collect::<Result<_, _>>().map_err(bad)?;
    let (leaf, between) = chain.split_first().ok_or(Error::Pem { what: "node certificate" })?;
    for root in [&present.certificate_pem, &next.certificate_pem] {
        let root = CertificateDer::from_pem_slice(root.as_bytes()).map_err(|_| refused(NO_CERTIFICATE))?;
        let unusable = |error: String| Error::Root(format!("certificates that it signs are not accepted ({error})"));
        let mut roots = RootCertStore::empty();
        roots.add(root).map_err(|error| unusable(error.to_string()))?;
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider())
            .build()
            .map_err(|error| unusable(error.to_string()))?;
        let name = ServerName::try_from(role_name(NodeRole::Manager)).expect("the role's name is a DNS name");
        let at = UnixTime::since_unix_epoch(Duration::from_nanos(now.as_unix_ns()));
        verifier.verify_server_cert(leaf, between, &name, &[], at).map_err(|error| unusable(error.to_string()))?;
    }
    Ok(())
}
