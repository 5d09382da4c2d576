//! The cluster object and the requests that found, join and change a cluster.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use identity::{Holder, JoinToken};
use node::membership::{InitRequest, JoinRequest};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use types::{AddressPools, Availability, CaConfig, Cidr, Cluster, ClusterSpec, RootRotation, UnlockKey};

use super::{
    network::range,
    node::read_availability,
    policy,
    reader::{FieldError, Object},
    time::{nanos, rfc3339},
    writer::Fields,
};

/// The cluster's only name (parity C-01).
const CLUSTER_NAME: &str = "default";
/// Docker's clients send these back on every update. Elections here are timed by rswarm itself.
const ELECTION_TICK: i64 = 10;
const HEARTBEAT_TICK: i64 = 1;
/// Longest prefix of a subnet: with 30 and more no address is left for a task beside the gateway.
const MAX_SUBNET_SIZE: u8 = 29;
/// Neither well-known nor given out by kernels to clients (parity C-05).
const DATA_PATH_PORTS: std::ops::RangeInclusive<u64> = 1024..=49_151;
/// Shortest certificate life (parity C-16).
const MIN_CERTIFICATE_EXPIRY: Duration = Duration::from_secs(3600);
/// Shorter than this, a busy host misses heartbeats.
const MIN_HEARTBEAT: Duration = Duration::from_millis(100);

pub(crate) fn read_init(body: &Value) -> Result<InitRequest, FieldError> {
    let mut from = Object::root(body)?;
    let address_pools = read_address_pools(&mut from, AddressPools::default())?;
    let data_path_port = match from.natural("DataPathPort")?.unwrap_or(0) {
        0 => types::DEFAULT_DATA_PATH_PORT,
        port if DATA_PATH_PORTS.contains(&port) => u16::try_from(port).expect("in a range of ports"),
        port => return Err(from.bad("DataPathPort", format!("{port} is out of range; use 1024 to 49151"))),
    };
    let (mut spec, root) =
        read_spec_object(from.object("Spec")?, &ClusterSpec { address_pools, ..ClusterSpec::default() })?;
    if root.is_some() {
        let hint = "a new cluster makes its own root; rotate to another one with `rswarm swarm ca --rotate`";
        return Err(from.bad("Spec.CAConfig.SigningCACert", hint));
    }
    // Docker's clients say it here, and its spec has it too
    spec.encryption.auto_lock_managers |= from.boolean("AutoLockManagers")?;
    let request = InitRequest {
        listen_addr: from.string("ListenAddr")?,
        advertise_addr: from.string("AdvertiseAddr")?,
        data_path_addr: from.string("DataPathAddr")?,
        availability: from.parsed("Availability", read_availability)?.unwrap_or(Availability::Active),
        force_new_cluster: from.boolean("ForceNewCluster")?,
        data_path_port,
        spec,
    };
    from.finish()?;
    Ok(request)
}

/// Parity C-06. A family of which no pool is named keeps those it has, and the mask length stays too.
fn read_address_pools(from: &mut Object<'_>, present: AddressPools) -> Result<AddressPools, FieldError> {
    let mut pools: Vec<Cidr> = Vec::new();
    for (at, text) in from.strings("DefaultAddrPool")?.iter().enumerate() {
        let field = format!("DefaultAddrPool[{at}]");
        let pool = range(text).map_err(|why| from.bad(&field, why))?;
        if let Some(other) = pools.iter().find(|other| other.overlaps(pool)) {
            return Err(from.bad(&field, format!("{pool} overlaps {other}; name each address once")));
        }
        pools.push(pool);
    }
    let named: Vec<bool> = pools.iter().map(|pool| pool.address().is_ipv4()).collect();
    pools.extend(present.pools.into_iter().filter(|pool| !named.contains(&pool.address().is_ipv4())));
    let mask_length = match from.natural("SubnetSize")?.unwrap_or(0) {
        0 => present.mask_length,
        size => u8::try_from(size).ok().filter(|size| *size <= MAX_SUBNET_SIZE).ok_or_else(|| {
            from.bad("SubnetSize", format!("{size} is too long a prefix for a subnet; use at most {MAX_SUBNET_SIZE}"))
        })?,
    };
    match pools.iter().find(|pool| pool.address().is_ipv4() && pool.prefix() > mask_length) {
        Some(pool) => {
            Err(from
                .bad("SubnetSize", format!("a subnet with a prefix of {mask_length} does not fit in the pool {pool}")))
        }
        None => Ok(AddressPools { pools, mask_length }),
    }
}

pub(crate) fn read_join(body: &Value) -> Result<JoinRequest, FieldError> {
    let mut from = Object::root(body)?;
    let request = JoinRequest {
        listen_addr: from.string("ListenAddr")?,
        advertise_addr: from.string("AdvertiseAddr")?,
        data_path_addr: from.string("DataPathAddr")?,
        remote_addrs: from.strings("RemoteAddrs")?,
        token: from.string("JoinToken")?,
        availability: from.parsed("Availability", read_availability)?.unwrap_or(Availability::Active),
    };
    if request.remote_addrs.iter().all(String::is_empty) {
        return Err(FieldError::Missing { path: from.path("RemoteAddrs"), hint: "give the host:port of a manager" });
    }
    if request.token.is_empty() {
        let hint = "give the token that `rswarm join-token worker` prints on a manager";
        return Err(FieldError::Missing { path: from.path("JoinToken"), hint });
    }
    from.finish()?;
    Ok(request)
}

/// The key is a secret: a refusal does not repeat what was sent.
pub(crate) fn read_unlock(body: &Value) -> Result<UnlockKey, FieldError> {
    let mut from = Object::root(body)?;
    let text = from.string("UnlockKey")?;
    let key = identity::parse_unlock_key(&text).map_err(|error| from.bad("UnlockKey", error.to_string()))?;
    from.finish()?;
    Ok(key)
}

/// A changed spec, and a root to rotate to: what the request leaves out stays as it is.
pub(crate) fn read_spec(
    body: &Value,
    present: &ClusterSpec,
) -> Result<(ClusterSpec, Option<RootRotation>), FieldError> {
    read_spec_object(Object::root(body)?, present)
}

fn read_spec_object(
    mut from: Object<'_>,
    present: &ClusterSpec,
) -> Result<(ClusterSpec, Option<RootRotation>), FieldError> {
    let name = from.string("Name")?;
    if !matches!(name.as_str(), "" | CLUSTER_NAME) {
        return Err(from.bad("Name", format!("a cluster is always named {CLUSTER_NAME:?}")));
    }
    let mut spec = present.clone();
    if from.has("Labels") {
        spec.labels = from.labels("Labels")?;
    }
    let mut orchestration = from.object("Orchestration")?;
    if let Some(limit) = orchestration.integer("TaskHistoryRetentionLimit")? {
        spec.orchestration.task_history_limit = limit;
    }
    orchestration.finish()?;
    read_raft(from.object("Raft")?, &mut spec)?;
    let mut dispatcher = from.object("Dispatcher")?;
    if let Some(period) = dispatcher.duration("HeartbeatPeriod")?.filter(|period| !period.is_zero()) {
        if period < MIN_HEARTBEAT {
            return Err(dispatcher.bad("HeartbeatPeriod", "must not be shorter than 100ms"));
        }
        spec.dispatcher.heartbeat_period = period;
    }
    dispatcher.finish()?;
    let root = read_ca(from.object("CAConfig")?, &mut spec.ca)?;
    let mut tasks = from.object("TaskDefaults")?;
    if tasks.has("LogDriver") {
        spec.log_driver = policy::read_log_driver(tasks.object("LogDriver")?)?;
    }
    tasks.finish()?;
    let mut encryption = from.object("EncryptionConfig")?;
    if encryption.has("AutoLockManagers") {
        spec.encryption.auto_lock_managers = encryption.boolean("AutoLockManagers")?;
    }
    encryption.finish()?;
    // ours: the original chooses pools at init and for good (P25)
    spec.address_pools = read_address_pools(&mut from, spec.address_pools)?;
    from.finish()?;
    Ok((spec, root))
}

/// Parity C-18, C-19.
fn read_ca(mut from: Object<'_>, ca: &mut CaConfig) -> Result<Option<RootRotation>, FieldError> {
    if let Some(expiry) = from.duration("NodeCertExpiry")?.filter(|expiry| !expiry.is_zero()) {
        if expiry < MIN_CERTIFICATE_EXPIRY {
            return Err(from.bad("NodeCertExpiry", "must not be shorter than one hour"));
        }
        ca.node_cert_expiry = expiry;
    }
    if !from.objects("ExternalCAs")?.is_empty() {
        let why = "external CAs are not supported: rswarm signs the certificates of its nodes itself; give the root's \
                   certificate and key (--ca-cert, --ca-key)";
        return Err(from.bad("ExternalCAs", why));
    }
    ca.force_rotate = from.natural("ForceRotate")?.unwrap_or(ca.force_rotate);
    let (certificate_pem, key_pem) = (from.string("SigningCACert")?, from.string("SigningCAKey")?);
    let root = match (certificate_pem.is_empty(), key_pem.is_empty()) {
        (true, true) => None,
        (true, false) => {
            let why = "if a signing CA key is provided, the signing CA cert must also be provided";
            return Err(from.bad("SigningCAKey", why));
        }
        (false, true) => {
            let why = "its key must be provided too (SigningCAKey): rswarm asks no external CA for signatures";
            return Err(from.bad("SigningCACert", why));
        }
        (false, false) => Some(RootRotation { certificate_pem, key_pem, cross_signed_pem: String::new() }),
    };
    from.finish()?;
    Ok(root)
}

fn read_raft(mut from: Object<'_>, spec: &mut ClusterSpec) -> Result<(), FieldError> {
    if let Some(interval) = from.natural("SnapshotInterval")?.filter(|interval| *interval != 0) {
        spec.raft.snapshot_interval = interval;
    }
    if let Some(entries) = from.natural("LogEntriesForSlowFollowers")?.filter(|entries| *entries != 0) {
        spec.raft.log_entries_for_slow_followers = entries;
    }
    if let Some(keep) = from.natural("KeepOldSnapshots")? {
        spec.raft.keep_old_snapshots = keep;
    }
    for (field, fixed) in [("ElectionTick", ELECTION_TICK), ("HeartbeatTick", HEARTBEAT_TICK)] {
        let value = from.integer(field)?.unwrap_or(0);
        if value != 0 && value != fixed {
            let why = format!(
                "{value} would change nothing: managers do not count ticks, they elect another leader within about half a \
                 second of silence; leave it out, or give {fixed}, as `swarm inspect` shows it"
            );
            return Err(from.bad(field, why));
        }
    }
    from.finish()
}

/// `GET /swarm`, with the join tokens.
pub(crate) fn write(cluster: &Cluster) -> Value {
    let token = |secret: [u8; 16]| {
        let ca_digest = certificate_digest(&cluster.root_ca.certificate_pem);
        JoinToken { ca_digest, secret }.to_string()
    };
    let tokens = json!({ "Worker": token(cluster.join.worker), "Manager": token(cluster.join.manager) });
    write_fields(cluster).set("JoinTokens", tokens).done()
}

/// The same without the secrets, for `info`.
pub(crate) fn write_public(cluster: &Cluster) -> Value {
    write_fields(cluster).done()
}

fn write_fields(cluster: &Cluster) -> Fields {
    Fields::new()
        .set("ID", cluster.id)
        .set("Version", json!({ "Index": cluster.meta.version }))
        .set("CreatedAt", rfc3339(cluster.meta.created_at))
        .set("UpdatedAt", rfc3339(cluster.meta.updated_at))
        .set("Spec", write_spec(&cluster.spec))
        .set("TLSInfo", write_tls_info(&cluster.root_ca.certificate_pem, cluster.root_ca.issuer_pem()))
        .set("RootRotationInProgress", cluster.root_ca.rotation.is_some())
        .set("DefaultAddrPool", shown_pools(&cluster.spec.address_pools))
        .set("SubnetSize", cluster.spec.address_pools.mask_length)
        .set("DataPathPort", cluster.data_path_port)
}

/// Without the pool of IPv6 that nobody has asked for, which Docker's clients do not expect.
fn shown_pools(pools: &AddressPools) -> Vec<&Cidr> {
    let own = AddressPools::default();
    pools.pools.iter().filter(|pool| pool.address().is_ipv4() || !own.pools.contains(pool)).collect()
}

fn write_spec(spec: &ClusterSpec) -> Value {
    let ca = Fields::new()
        .set("NodeCertExpiry", nanos(spec.ca.node_cert_expiry))
        .unless_empty("ForceRotate", spec.ca.force_rotate)
        .done();
    let tasks = Fields::new().some("LogDriver", spec.log_driver.as_ref().map(policy::write_log_driver)).done();
    json!({
        "Name": CLUSTER_NAME,
        "Labels": spec.labels,
        "Orchestration": { "TaskHistoryRetentionLimit": spec.orchestration.task_history_limit },
        "Raft": {
            "SnapshotInterval": spec.raft.snapshot_interval,
            "KeepOldSnapshots": spec.raft.keep_old_snapshots,
            "LogEntriesForSlowFollowers": spec.raft.log_entries_for_slow_followers,
            "ElectionTick": ELECTION_TICK,
            "HeartbeatTick": HEARTBEAT_TICK,
        },
        "Dispatcher": { "HeartbeatPeriod": nanos(spec.dispatcher.heartbeat_period) },
        "CAConfig": ca,
        "TaskDefaults": tasks,
        "EncryptionConfig": { "AutoLockManagers": spec.encryption.auto_lock_managers },
    })
}

/// What is trusted, and who signs: the two differ while a root is rotated.
pub(crate) fn write_tls_info(roots_pem: &str, issuer_pem: &str) -> Value {
    let holder = Holder::of_pem(issuer_pem);
    Fields::new()
        .unless_empty("TrustRoot", roots_pem)
        .some("CertIssuerSubject", holder.as_ref().map(|holder| BASE64.encode(&holder.subject)))
        .some("CertIssuerPublicKey", holder.as_ref().map(|holder| BASE64.encode(&holder.public_key)))
        .done()
}

/// SHA-256 of the first certificate of a PEM text, as DER; what join tokens pin.
fn certificate_digest(pem: &str) -> [u8; 32] {
    let lines = pem.lines().skip_while(|line| !line.starts_with("-----BEGIN")).skip(1);
    let body: String = lines.take_while(|line| !line.starts_with("-----")).map(str::trim).collect();
    Sha256::digest(BASE64.decode(body).unwrap_or_default()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_in_a_token_is_the_one_that_joining_nodes_check() {
        let authority = identity::CertificateAuthority::generate(types::Timestamp::from_unix_ms(1_700_000_000_000))
            .expect("randomness");
        assert_eq!(certificate_digest(authority.certificate_pem()), authority.digest());
    }

    #[test]
    fn c_16_a_root_is_told_with_its_name_and_key() {
        let authority = identity::CertificateAuthority::generate(types::Timestamp::from_unix_ms(1_700_000_000_000))
            .expect("randomness");
        let told = write_tls_info("ROOTS", authority.certificate_pem());
        let der = |field: &str| BASE64.decode(told[field].as_str().expect("a text")).expect("base64");
        let (subject, key) = (der("CertIssuerSubject"), der("CertIssuerPublicKey"));
        assert!(subject.windows(8).any(|part| part == b"swarm-ca"), "{subject:?}");
        // a sequence of 89 bytes: an uncompressed point of P-256 and what it is
        assert_eq!((key[0], key[1], key.len()), (0x30, 0x59, 0x5b));
        assert_eq!(told["TrustRoot"], "ROOTS");
        assert_eq!(write_tls_info("PEM", "PEM"), json!({ "TrustRoot": "PEM" }));
    }
}
