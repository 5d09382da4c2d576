//! Metrics of engine and cluster, on an authenticated port and on the daemon's own socket (C-38, P38).

use std::fs;

use anyhow::{Context as _, Result, bail, ensure};
use it::{ClusterUnderTest, DEADLINE, Docker, until};
use lab::{ExecOptions, ExecOutput};
use nix::sys::signal::Signal;
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
    ensure!(text.contains("Content-Type: text/plain; version=0.0.4"), "{text}");
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

/// What of a host's processes a line in it says.
fn told_by(t: &ClusterUnderTest, host: &str, line: &str) -> Result<String> {
    let options = ExecOptions { timeout: Some(DEADLINE), ..ExecOptions::default() };
    let output = t.lab().exec(host, &["sh", "-c", line], &options)?;
    ensure!(output.success(), "{line}: {}", output.stderr);
    Ok(output.stdout.trim().to_owned())
}

/// A file of a process's cgroup, of either layout.
fn cgroup_file(t: &ClusterUnderTest, host: &str, pid: u64, controller: &str, files: [&str; 2]) -> Result<String> {
    let groups = told_by(t, host, &format!("cat /proc/{pid}/cgroup"))?;
    let of = |line: &str| {
        let mut parts = line.splitn(3, ':').skip(1);
        Some((parts.next()?.to_owned(), parts.next()?.to_owned()))
    };
    let groups: Vec<(String, String)> = groups.lines().filter_map(of).collect();
    let own = groups.iter().find(|(controllers, _)| controllers.split(',').any(|one| one == controller));
    let (path, file) = match own {
        Some((controllers, path)) => (format!("/sys/fs/cgroup/{controllers}{path}"), files[0]),
        None => {
            let unified = groups.iter().find(|(controllers, _)| controllers.is_empty()).context("no cgroup")?;
            (format!("/sys/fs/cgroup{}", unified.1), files[1])
        }
    };
    told_by(t, host, &format!("cat {path}/{file}"))
}

fn field(text: &str, name: &str) -> Result<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    Ok(line.with_context(|| format!("no {name} in {text}"))?.trim().parse()?)
}

fn near(what: &str, told: f64, is: f64) -> Result<()> {
    ensure!((told - is).abs() <= is * 0.05, "{what}: {told} is told, and the kernel says {is}");
    Ok(())
}

/// P38: one scrape of a manager says what each task of all nodes uses, as the kernel counts it; so does `stats --cluster`, and a
/// node that does not answer is named, not made up.
#[test]
fn p38_what_tasks_of_all_nodes_use() -> Result<()> {
    if !can_make_hosts("p38_what_tasks_of_all_nodes_use") {
        return Ok(());
    }
    let t = ClusterUnderTest::up("usage", 1, 2)?;
    let (manager, workers) = (t.cluster.managers()[0].clone(), t.cluster.workers());
    t.cli(&manager, &["network", "create", "--driver", "overlay", "back"])?;
    let work = "dd if=/dev/zero of=/dev/shm/x bs=1M count=20 2>/dev/null; i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done; exec sleep 100000";
    let make = ["service", "create", "--detach", "--quiet", "--name", "web", "--mode", "global", "--network", "back"];
    t.cli(&manager, &[&make[..], &[it::IMAGE, "sh", "-c", work]].concat())?;
    let (tasks, _) = until("three tasks sleep", DEADLINE, || {
        let tasks: Vec<_> = t.tasks("web")?.into_iter().filter(|task| task.state == "running").collect();
        ensure!(tasks.len() == 3, "{tasks:?}");
        Ok(tasks)
    })?;
    let host_of = |task: &it::TaskRow| -> Result<String> {
        let mut hosts = t.cluster.hosts().into_iter();
        hosts.find(|host| t.node_id(host).is_ok_and(|id| id == task.node)).context("a host of the task")
    };
    let scrape = || Ok::<_, anyhow::Error>(t.first()?.request("GET", "/metrics", "text/plain", b"")?.text());
    for task in &tasks {
        let host = host_of(task)?;
        let pid = task.pid;
        until("the numbers of a task that rests are the kernel's", DEADLINE, || {
            let text = scrape()?;
            let told = |name: &str| {
                let begin = format!("{name}{{service=\"web\",slot=\"{}\",", task.node);
                let line = text
                    .lines()
                    .find(|line| line.starts_with(&begin))
                    .with_context(|| format!("no {begin} in\n{text}"))?;
                Ok::<f64, anyhow::Error>(line.rsplit(' ').next().unwrap_or_default().parse()?)
            };
            let cpu = cgroup_file(&t, &host, pid, "cpuacct", ["cpuacct.usage", "cpu.stat"])?;
            let cpu = if cpu.contains("usage_usec") {
                field(&cpu, "usage_usec")? / 1e6
            } else {
                cpu.trim().parse::<f64>()? / 1e9
            };
            near("processor seconds", told("rswarm_task_cpu_seconds_total")?, cpu)?;
            let memory = cgroup_file(&t, &host, pid, "memory", ["memory.stat", "memory.stat"])?;
            let rss = field(&memory, "total_rss").or_else(|_| field(&memory, "anon"))?;
            near("resident bytes", told("rswarm_task_memory_rss_bytes")?, rss)?;
            let current = cgroup_file(&t, &host, pid, "memory", ["memory.usage_in_bytes", "memory.current"])?;
            let inactive = field(&memory, "total_inactive_file").or_else(|_| field(&memory, "inactive_file"))?;
            let used = told("rswarm_task_memory_bytes")?;
            near("bytes of memory", used, current.trim().parse::<f64>()? - inactive)?;
            ensure!(used > 20.0 * 1024.0 * 1024.0, "a file in memory counts: {used}");
            let interfaces = told_by(&t, &host, &format!("cat /proc/{pid}/net/dev"))?;
            let sum = |column: usize| -> f64 {
                let lines = interfaces.lines().skip(2).filter(|line| !line.trim_start().starts_with("lo:"));
                let number = |line: &str| line.split_once(':')?.1.split_whitespace().nth(column)?.parse::<f64>().ok();
                lines.filter_map(number).sum()
            };
            near("received bytes", told("rswarm_task_network_receive_bytes_total")?, sum(0))?;
            near("sent bytes", told("rswarm_task_network_transmit_bytes_total")?, sum(8))
        })?;
    }
    every_metric_is_in_the_runbook(&scrape()?)?;

    let shown = t.cli(&manager, &["stats", "--cluster", "--no-stream"])?;
    ensure!(shown.starts_with("NAME") && shown.lines().count() == 4, "{shown}");
    ensure!(t.cluster.hosts().iter().all(|host| shown.contains(host.as_str())), "{shown}");
    let one = t.cli(&manager, &["stats", "--cluster", "--no-stream", "--format", "json", &workers[0]])?;
    let line: serde_json::Value = serde_json::from_str(one.trim())?;
    ensure!(line["Service"] == "web" && line["Node"] == workers[0].as_str(), "{one}");
    ensure!(
        t.cli_fails(&manager, &["stats", "--cluster", "--no-stream", "nobody"])?
            .contains("no running task is called nobody")
    );
    ensure!(t.cli_fails(&workers[0], &["stats", "--cluster", "--no-stream"])?.contains("not a swarm manager"));
    // docker's own command, with the tasks' names
    let ids: Vec<&str> = tasks.iter().map(|task| task.id.as_str()).collect();
    let docker =
        Docker::new(&t, &manager).ok(&format!("stats --no-stream --format {{{{.Name}}}} {}", ids.join(" ")))?;
    ensure!(docker.lines().count() == 3, "{docker}");

    let daemon = t.cluster.daemon(&workers[1])?.context("a daemon")?;
    t.lab().signal(&workers[1], daemon, Signal::SIGSTOP)?;
    let text = scrape()?;
    t.lab().signal(&workers[1], daemon, Signal::SIGCONT)?;
    let answered = |host: &str, answer: u8| {
        text.lines().any(|line| {
            line.starts_with(&format!("rswarm_node_usage_answered{{node=\"{host}\","))
                && line.ends_with(&format!(" {answer}"))
        })
    };
    ensure!(answered(&workers[1], 0) && answered(&workers[0], 1), "{text}");
    let of_tasks = text.lines().filter(|line| line.starts_with("rswarm_task_cpu_seconds_total{")).count();
    ensure!(of_tasks == 2, "{of_tasks} tasks of two nodes that answer");
    Ok(())
}
