//! Metrics of engine and cluster, on an authenticated port and on the daemon's own socket (C-38, P38).

use std::fs;

use anyhow::{Context as _, Result, bail, ensure};
use it::{ClusterUnderTest, DEADLINE, Docker, until};
use lab::{ExecOptions, ExecOutput};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

use crate::can_make_hosts;

/// Two authorities: who has a certificate of the first may do anything, of the second only read the metrics.
fn make_certificates(t: &ClusterUnderTest, host: &str, address: &str) -> Result<()> {
    for directory in ["all", "metrics"] {
        let authority = KeyPair::generate()?;
        let mut parameters = CertificateParams::new(Vec::new())?;
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // one that has its own issuer's name would count as signed by itself
        parameters.distinguished_name.push(DnType::CommonName, format!("authority of {directory}"));
        let ca = parameters.self_signed(&authority)?.pem();
        let key = KeyPair::generate()?;
        let certificate =
            CertificateParams::new(vec![address.to_owned()])?.signed_by(&key, &Issuer::new(parameters, authority))?;
        let directory = t.lab().var_lib(host)?.join(directory);
        fs::create_dir_all(&directory)?;
        for (file, text) in [("ca.pem", ca), ("cert.pem", certificate.pem()), ("key.pem", key.serialize_pem())] {
            fs::write(directory.join(file), text)?;
        }
    }
    Ok(())
}

/// Another program's HTTPS, with a certificate of this directory.
fn fetch(t: &ClusterUnderTest, host: &str, url: &str, directory: &str) -> Result<ExecOutput> {
    let line = format!(
        "curl -sS -i --max-time 10 --cacert /var/lib/all/ca.pem --cert /var/lib/{directory}/cert.pem \
         --key /var/lib/{directory}/key.pem {url}"
    );
    let options = ExecOptions { timeout: Some(DEADLINE), ..ExecOptions::default() };
    Ok(t.lab().exec(host, &["sh", "-c", &line], &options)?)
}

/// The number of one series.
fn number(text: &str, series: &str) -> Result<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    let line = line.with_context(|| format!("no {series} in\n{text}"))?;
    line.parse().with_context(|| format!("{series} {line}"))
}

fn equals(text: &str, wanted: &[(&str, f64)]) -> Result<()> {
    for (series, wanted) in wanted {
        let is = number(text, series)?;
        ensure!(is == *wanted, "{series} is {is}, not {wanted}");
    }
    Ok(())
}

/// C-38, P38: one look at a manager says what each service wants and has.
#[test]
fn c_38_p38_metrics_on_a_port_of_their_own_for_who_has_a_certificate() -> Result<()> {
    if !can_make_hosts("c_38_p38_metrics_on_a_port_of_their_own_for_who_has_a_certificate") {
        return Ok(());
    }
    let t = ClusterUnderTest::up("metrics", 1, 1)?;
    let (manager, worker) = (t.cluster.managers()[0].clone(), t.cluster.workers()[0].clone());
    let address = t.lab().address(&manager)?.to_string();
    make_certificates(&t, &manager, &address)?;
    let tls = ["--tlscacert", "/var/lib/all/ca.pem", "--tlscert", "/var/lib/all/cert.pem"];
    let more = ["--tlskey", "/var/lib/all/key.pem", "-H", "tcp://0.0.0.0", "--metrics-addr", "0.0.0.0"];
    let own = ["--metrics-tlscacert", "/var/lib/metrics/ca.pem"];
    t.restart_with(&manager, &[&tls[..], &more[..], &own[..]].concat())?;
    t.create("web", 4, &["--constraint", &format!("node.hostname=={worker}")])?;
    t.create("never", 2, &["--constraint", "node.labels.x==y"])?;
    t.running("web", 4)?;

    let url = format!("https://{address}:9323/metrics");
    let wanted = [
        ("swarm_manager_leader", 1.0),
        ("rswarm_manager_has_quorum", 1.0),
        ("swarm_manager_nodes{state=\"ready\"}", 2.0),
        ("rswarm_manager_nodes_by_availability{availability=\"active\"}", 2.0),
        ("rswarm_service_replicas_desired{service=\"web\"}", 4.0),
        ("rswarm_service_replicas_running{service=\"web\"}", 4.0),
        ("rswarm_service_replicas_desired{service=\"never\"}", 2.0),
        ("rswarm_service_replicas_running{service=\"never\"}", 0.0),
        ("rswarm_service_tasks_waiting{service=\"never\"}", 2.0),
        ("swarm_manager_tasks_total{state=\"running\"}", 4.0),
        ("swarm_manager_tasks_total{state=\"pending\"}", 2.0),
        ("rswarm_dispatcher_sessions", 2.0),
        ("swarm_dispatcher_scheduling_delay_seconds_count", 4.0),
        ("engine_daemon_container_states_containers{state=\"running\"}", 0.0),
        ("rswarm_engine_images", 1.0),
    ];
    let (text, _) = until("the metrics say what is", DEADLINE, || {
        let answer = fetch(&t, &manager, &url, "metrics")?;
        ensure!(answer.stdout.starts_with("HTTP/1.1 200"), "{answer:?}");
        equals(&answer.stdout, &wanted)?;
        Ok(answer.stdout)
    })?;
    ensure!(text.contains("content-type: text/plain; version=0.0.4"), "{text}");
    for at_least_one in
        ["rswarm_raft_applied_index", "swarm_raft_transaction_latency_seconds_count", "rswarm_raft_disk_bytes"]
    {
        ensure!(number(&text, at_least_one)? >= 1.0, "{at_least_one}");
    }
    every_metric_is_in_the_runbook(&text)?;

    // this certificate is good for nothing else, and the other one not here
    let elsewhere = fetch(&t, &manager, &format!("https://{address}:9323/info"), "metrics")?;
    ensure!(
        elsewhere.stdout.starts_with("HTTP/1.1 404") && elsewhere.stdout.contains("only /metrics"),
        "{elsewhere:?}"
    );
    for (url, directory) in [(format!("https://{address}:2376/info"), "metrics"), (url, "all")] {
        let refused = fetch(&t, &manager, &url, directory)?;
        ensure!(!refused.success(), "{url} with {directory}: {refused:?}");
    }

    let of_worker = t.api(&worker)?.request("GET", "/metrics", "text/plain", b"")?;
    let text = of_worker.text();
    equals(&text, &[("engine_daemon_container_states_containers{state=\"running\"}", 4.0)])?;
    ensure!(!text.contains("swarm_manager"), "a worker has no value: {text}");
    Docker::new(&t, &manager).ok("service scale --detach web=2")?;
    until("the numbers follow", DEADLINE, || {
        let text = t.first()?.request("GET", "/metrics", "text/plain", b"")?.text();
        equals(
            &text,
            &[
                ("rswarm_service_replicas_desired{service=\"web\"}", 2.0),
                ("rswarm_service_replicas_running{service=\"web\"}", 2.0),
            ],
        )
    })?;
    Ok(())
}

/// P38: every metric is documented.
fn every_metric_is_in_the_runbook(text: &str) -> Result<()> {
    let runbook = include_str!("../../../../docs/runbook.md");
    let names = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
    let missing: Vec<&str> = names.filter(|name| !runbook.contains(&format!("`{name}"))).collect();
    if !missing.is_empty() {
        bail!("docs/runbook.md does not say what these are: {}", missing.join(", "));
    }
    Ok(())
}
