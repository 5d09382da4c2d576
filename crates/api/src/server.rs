//! The connections to the API: each is served until its client goes or the daemon stops.

use std::{sync::Arc, time::Duration};

use hyper::body::Body as _;
use hyper_util::rt::{TokioIo, TokioTimer};
use identity::ApiStream;
use node::{Engine, membership::Membership};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::JoinSet,
};

use crate::{
    gone::Gone,
    hijack,
    listener::{Incoming, Listeners, ServeError, Tcp},
    remote::{self, Caller},
    request_line::{Mended, Turns},
    router::Api,
};

/// Followed logs hold connections; more than this is a client that lost count.
const MAX_CONNECTIONS: usize = 1000;
/// Requests under way when the daemon stops get this long.
const DRAIN_PATIENCE: Duration = Duration::from_secs(3);
/// A connection that says nothing while a request's head is awaited.
const HEADER_PATIENCE: Duration = Duration::from_secs(30);
/// After a failed accept, usually for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What the API serves.
pub struct ApiConfig {
    pub listeners: Listeners,
    /// For those who may read the metrics and do nothing else.
    pub metrics: Option<Tcp>,
    pub engine: Engine,
    pub membership: Membership,
}

/// Serves until `stopping` becomes true (or its sender is gone), then lets requests under way end.
///
/// # Errors
/// When the metrics' address cannot be listened on.
pub async fn serve(config: ApiConfig, stopping: watch::Receiver<bool>) -> Result<(), ServeError> {
    let engine = config.engine;
    let host = Arc::new(engine.clone());
    let metrics = match config.metrics {
        Some(tcp) => Some(Listeners::on_tcp(tcp, "--metrics-addr").await?),
        None => None,
    };
    let api = Arc::new(Api::new(host.clone(), config.membership.clone()));
    let only_metrics = Arc::new(Api::metrics_only(host, config.membership));
    let to_managers = remote::serve(engine, Arc::clone(&api), stopping.clone());
    let also_metrics = async {
        if let Some(listeners) = metrics {
            serve_api(listeners, only_metrics, stopping.clone()).await;
        }
    };
    tokio::join!(serve_api(config.listeners, api, stopping.clone()), also_metrics, to_managers);
    Ok(())
}

pub(crate) async fn serve_api(listeners: Listeners, api: Arc<Api>, mut stopping: watch::Receiver<bool>) {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let accepted = tokio::select! {
            accepted = accept(&listeners, &slots) => accepted,
            () = stopped(&mut stopping) => break,
        };
        let (incoming, slot) = accepted;
        let (api, stopping) = (Arc::clone(&api), stopping.clone());
        connections.spawn(async move {
            if let Some((stream, caller, gone)) = incoming.into_stream().await {
                connection(stream, caller, gone, api, stopping).await;
            }
            drop(slot);
        });
    }
    drop(listeners);
    drain(connections).await;
}

/// Lets requests under way end, and then no longer.
pub(crate) async fn drain(mut connections: JoinSet<()>) {
    let drained = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(DRAIN_PATIENCE, drained).await.is_err() {
        tracing::debug!("requests were still under way when the API stopped");
    }
}

async fn accept(listeners: &Listeners, slots: &Arc<Semaphore>) -> (Incoming, OwnedSemaphorePermit) {
    let slot = Arc::clone(slots).acquire_owned().await.expect("the semaphore is never closed");
    loop {
        match listeners.accept().await {
            Ok(incoming) => return (incoming, slot),
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection to the API");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// A client that goes while it is only read to, which may be for ever, takes the connection with it. An answer that has an end
/// is written to it, whoever reads it.
pub(crate) async fn connection(
    stream: ApiStream,
    caller: Caller,
    gone: Gone,
    api: Arc<Api>,
    mut stopping: watch::Receiver<bool>,
) {
    let (slot, mut takeovers) = hijack::channel();
    let (told, mut reads) = watch::channel(false);
    let turns = Turns::new();
    let stream = Mended::new(stream, turns.clone());
    let service = hyper::service::service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        let mut request = turns.begin(request);
        request.extensions_mut().insert(slot.clone());
        request.extensions_mut().insert(caller.clone());
        let (api, told) = (Arc::clone(&api), told.clone());
        async move {
            let only_reads = request.method() == hyper::Method::GET;
            told.send_replace(false);
            let answer = api.answer(request).await;
            let is_endless = answer.body().size_hint().exact().is_none();
            told.send_replace(only_reads && is_endless);
            Ok::<_, std::convert::Infallible>(answer)
        }
    });
    let mut abandoned = Box::pin(async move {
        gone.wait().await;
        if reads.wait_for(|only_reads| *only_reads).await.is_err() {
            std::future::pending::<()>().await;
        }
    });
    let mut builder = hyper::server::conn::http1::Builder::new();
    // scripts look for `Api-Version`, as Docker writes it
    builder.timer(TokioTimer::new()).header_read_timeout(HEADER_PATIENCE).title_case_headers(true);
    // With the halves apart nothing is read while a request is answered, on which the mending of lines relies.
    builder.half_close(true);
    let mut connection = builder.serve_connection(TokioIo::new(stream), service).with_upgrades();
    let ended = tokio::select! {
        ended = &mut connection => ended,
        () = &mut abandoned => return,
        Some(takeover) = takeovers.recv() => {
            drop(abandoned);
            let Some(parts) = connection.into_parts() else { return };
            // The client hears of the daemon's end by the end of its stream.
            tokio::select! {
                () = takeover.run(Box::new(parts.io.into_inner().verbatim()), parts.read_buf) => {}
                () = stopped(&mut stopping) => {}
            }
            return;
        }
        () = stopped(&mut stopping) => {
            std::pin::Pin::new(&mut connection).graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection to the API ended early");
    }
}

/// Returns once the daemon stops; a sender that is gone means the same.
pub(crate) async fn stopped(stopping: &mut watch::Receiver<bool>) {
    let _ = stopping.wait_for(|stop| *stop).await;
}
