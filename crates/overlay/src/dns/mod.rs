//! The DNS of the endpoints: 127.0.0.11 in each namespace, held by `netd`.
//!
//! It lives in the data plane process, so a daemon that restarts interrupts no answer; `netd` itself,
//! killed and started again, opens the same ports anew. The worker hands over each plan by
//! [`Publisher::publish`]; [`run`] makes the sockets and answers. Names come from the plan alone: it
//! keeps nothing, learns nothing from packets, and lets nobody ask for the name of a network that the
//! asking endpoint is not in.

mod answer;
pub(crate) mod check;
mod endpoint;
mod forward;
mod message;
mod metrics;
mod publish;
mod resolv_conf;
mod serve;
mod supervisor;
#[cfg(test)]
mod tests;
mod zone;

use std::{net::Ipv4Addr, sync::Arc};

use tokio::sync::watch;

pub use metrics::DnsCounters;
pub(crate) use metrics::Metrics;
pub(crate) use publish::Publisher;
use supervisor::{States, Wanted};

/// Where every endpoint finds its resolver. The rest of its loopback network stays free.
pub const SERVER_ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);
const PORT: u16 = 53;

/// The doing half, before it runs.
pub(crate) struct Runner {
    wanted: watch::Receiver<Arc<Wanted>>,
    states: watch::Sender<States>,
    metrics: Arc<Metrics>,
}

/// The two halves: one for the worker, one for a task of its own.
pub(crate) fn new() -> (Publisher, Runner, Arc<Metrics>) {
    let (wanted_sender, wanted) = watch::channel(Arc::default());
    let (states, states_receiver) = watch::channel(States::default());
    let metrics = Arc::new(Metrics::default());
    let runner = Runner { wanted, states, metrics: Arc::clone(&metrics) };
    (Publisher::new(wanted_sender, states_receiver), runner, metrics)
}

/// Serves until the publisher is gone.
pub(crate) async fn run(runner: Runner) {
    supervisor::run(runner.wanted, runner.states, runner.metrics).await;
}
