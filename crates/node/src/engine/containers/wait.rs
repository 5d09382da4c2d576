//! Waiting for what becomes of a container (parity E-25): begun at once, answered later.

use futures::{FutureExt as _, future::BoxFuture};
use runtime::Status;

use super::{ContainerError, Engine, Meant, of_runtime};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitCondition {
    /// Answers at once for one that does not run, and for one that does when it ends, whether it comes again or not.
    NotRunning,
    /// The end after this moment.
    NextExit,
    Removed,
}

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waited {
    pub exit_code: i32,
    pub error: String,
}

impl Engine {
    /// What is waited for is settled when this returns: whoever starts the container then misses nothing.
    ///
    /// # Errors
    /// When there is no such container.
    pub async fn wait_container(
        &self,
        text: &str,
        condition: WaitCondition,
    ) -> Result<BoxFuture<'static, Result<Waited, ContainerError>>, ContainerError> {
        let single = match self.meant(text).await? {
            Meant::Single(single) => {
                // what is being started runs
                if condition == WaitCondition::NotRunning {
                    single.at_rest().await;
                }
                single
            }
            Meant::Task(state) => {
                if let (Status::Stopped(exit), WaitCondition::NotRunning) = (&state.status, condition) {
                    let waited = Waited { exit_code: exit.code, error: String::new() };
                    return Ok(std::future::ready(Ok(waited)).boxed());
                }
                let engine = self.clone();
                return Ok(async move {
                    let exit = engine.inner.runtime.wait(&state.id).await.map_err(|e| of_runtime(&e))?;
                    Ok(Waited { exit_code: exit.code, error: String::new() })
                }
                .boxed());
            }
        };
        let mut news = single.news.subscribe();
        let before = news.borrow().ends;
        Ok(async move {
            let seen = news
                .wait_for(|news| match condition {
                    WaitCondition::NotRunning => !news.is_running || news.ends > before || news.is_removed,
                    WaitCondition::NextExit => news.ends > before || news.is_removed,
                    WaitCondition::Removed => news.is_removed,
                })
                .await;
            let exit_code = seen.map_err(|_| super::stopping())?.exit_code;
            Ok(Waited { exit_code, error: String::new() })
        }
        .boxed())
    }
}
