//! The connections of managers that the agent has let in: served like those of clients, by the same routes.

use std::sync::Arc;

use node::{Engine, tunnels::Tunnel};
use tokio::{sync::watch, task::JoinSet};

use super::Caller;
use crate::{gone::Gone, router::Api, server};

/// Until the daemon stops; the connections that there are then are dropped with it.
pub(crate) async fn serve(engine: Engine, api: Arc<Api>, stopping: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    let mut stop = stopping.clone();
    loop {
        while connections.try_join_next().is_some() {}
        let Tunnel { stream, manager, place } = tokio::select! {
            tunnel = engine.next_tunnel() => tunnel,
            () = server::stopped(&mut stop) => break,
        };
        let (api, stopping) = (Arc::clone(&api), stopping.clone());
        connections.spawn(async move {
            server::connection(Box::new(stream), Caller::Manager(manager), Gone::default(), api, stopping).await;
            drop(place);
        });
    }
    server::drain(connections).await;
}
