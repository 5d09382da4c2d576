//! The stream of a node, the log lines it sends, and what its tasks use.

use std::pin::Pin;

use futures::Stream;
use proto::v1::{
    AgentMessage, LogBatch, ManagerMessage, PublishLogsAnswer, PublishUsageAnswer, UsageReport,
    dispatcher_server::Dispatcher,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::task::TaskTracker;
use tonic::{Request, Response, Status, Streaming};

use super::peer;
use crate::dispatch::{
    logs::LogBroker,
    session::{self, Context, MAX_DOWN},
    usage::UsageBroker,
};

pub(crate) struct DispatcherService {
    pub(crate) context: Context,
    pub(crate) logs: LogBroker,
    pub(crate) usage: UsageBroker,
    /// Awaited when the manager stops.
    pub(crate) sessions: TaskTracker,
}

#[tonic::async_trait]
impl Dispatcher for DispatcherService {
    type SessionStream = Pin<Box<dyn Stream<Item = Result<ManagerMessage, Status>> + Send>>;

    async fn session(
        &self,
        request: Request<Streaming<AgentMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let subject = peer::certified(&request)?;
        let (down, messages) = mpsc::channel(MAX_DOWN);
        self.sessions.spawn(session::serve(self.context.clone(), subject.node, request.into_inner(), down));
        Ok(Response::new(Box::pin(ReceiverStream::new(messages))))
    }

    async fn publish_logs(&self, request: Request<Streaming<LogBatch>>) -> Result<Response<PublishLogsAnswer>, Status> {
        let tables = self.context.tables.borrow().clone();
        let subject = peer::node(&request, &tables)?;
        self.logs.publish(subject.node, request.into_inner()).await?;
        Ok(Response::new(PublishLogsAnswer {}))
    }

    async fn publish_usage(&self, request: Request<UsageReport>) -> Result<Response<PublishUsageAnswer>, Status> {
        let tables = self.context.tables.borrow().clone();
        let subject = peer::node(&request, &tables)?;
        self.usage.publish(subject.node, request.get_ref())?;
        Ok(Response::new(PublishUsageAnswer {}))
    }
}
