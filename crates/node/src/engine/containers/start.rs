//! One start of a container: network, files, namespaces, command. All or nothing.

use runtime::NamespaceMode;
use std::{path::PathBuf, sync::Arc};

use types::with_causes;

use super::{
    ContainerError, ContainerErrorKind, Engine, News, Phase, Record, Single,
    create::hold,
    of_runtime, owner,
    plan::{self, Prepared},
    spec::NamespaceRequest,
    stopping,
};
use crate::{clock::now, engine::log_driver};

impl Engine {
    /// Runs a container that does not run.
    ///
    /// # Errors
    /// When it runs already, or something of it cannot be had; it is as before then, with the reason noted.
    pub async fn start_container(&self, text: &str) -> Result<(), ContainerError> {
        let single = self.single(text, "start").await?;
        self.start_single(&single).await
    }

    pub(super) async fn start_single(&self, single: &Arc<Single>) -> Result<(), ContainerError> {
        let _turn = single.turn.lock().await;
        if single.news.borrow().is_removed {
            return Err(ContainerError::not_found(&single.id));
        }
        if single.news.borrow().is_going {
            return Err(ContainerError::conflict("container is marked for removal and cannot be started"));
        }
        if single.is_running() {
            return Err(match self.is_paused(&single.id).await {
                true => ContainerError::conflict("cannot start a paused container, try unpause instead"),
                false => ContainerError::unchanged(),
            });
        }
        single.change(&self.inner.containers.store, |record| {
            (record.state.is_hand_stopped, record.state.restarts) = (false, 0);
        });
        single.news.send_modify(|news| (news.is_stop_asked, news.is_restart_asked) = (false, false));
        match self.run(single).await {
            Ok(()) => {
                owner::spawn(self, single);
                Ok(())
            }
            Err(error) => {
                if single.lock().spec.auto_remove {
                    self.remove_now(single, true).await?;
                }
                Err(error)
            }
        }
    }

    /// Makes it run, under its turn.
    pub(super) async fn run(&self, single: &Single) -> Result<(), ContainerError> {
        let _slot = self.inner.turns.acquire().await.map_err(|_| stopping())?;
        let mut record = single.record();
        self.info().settings.defaults.fill_started(&mut record.spec);
        let begun = self.begin(&record).await;
        let (pid, ports) = match begun {
            Ok(begun) => begun,
            Err((error, code)) => {
                self.undo(&record.id).await;
                single.change(&self.inner.containers.store, |record| {
                    let state = &mut record.state;
                    if state.phase != Phase::Created {
                        state.phase = Phase::Exited;
                    }
                    (state.exit_code, state.pid) = (code, 0);
                    state.error.clone_from(&error.message);
                });
                single.news.send_modify(|news| news.exit_code = code);
                return Err(error);
            }
        };
        let record = single.change(&self.inner.containers.store, |record| {
            let state = &mut record.state;
            (state.phase, state.pid, state.ports) = (Phase::Running, pid, ports);
            (state.exit_code, state.oom_killed, state.started_at) = (0, false, now());
            state.error.clear();
        });
        self.announce_start(&record);
        Ok(())
    }

    /// The first process and the published ports; an error comes with the exit code that stands for it.
    async fn begin(&self, record: &Record) -> Result<(u32, Vec<types::PortConfig>), (ContainerError, i32)> {
        let plain = |error: ContainerError| (error, 128);
        let runtime = &self.inner.runtime;
        let mounted = self.inner.images.snapshot_mount(&record.id, &record.image).await;
        let rootfs = mounted.map_err(|e| plain(ContainerError::failed(with_causes(&e))))?.rootfs;
        let (volumes, id, points) = (self.inner.volumes.clone(), record.id.clone(), record.points.clone());
        let held = tokio::task::spawn_blocking(move || hold(&volumes, &id, &points)).await;
        held.map_err(|_| plain(stopping()))?.map_err(plain)?;
        self.hold_images(&record.id, &mut record.points.clone()).await.map_err(plain)?;
        let joined = self.join(record).await.map_err(plain)?;
        let files = self.write_etc(record, &joined).await.map_err(plain)?;
        let link_env = match record.spec.links.is_empty() || joined.has_names {
            true => Vec::new(),
            false => self.link_env(record).await.map_err(plain)?,
        };
        let prepared = Prepared {
            shared_memory: self.prepare_shared_memory(record).await.map_err(plain)?,
            link_env,
            rootfs,
            netns: joined.netns,
            files,
            pid: self.namespace(&record.spec.pid, "pid").await.map_err(plain)?,
            ipc: self.namespace(&record.spec.ipc, "ipc").await.map_err(plain)?,
            log_path: self.log_path(record),
            host: self.info().hostname.clone(),
        };
        let config = plan::config(record, prepared).map_err(plain)?;
        let with_devices = self.with_devices(&record.spec.claims, config).await;
        let config = with_devices.map_err(|e| plain(ContainerError::invalid(e.to_string())))?;
        let failed = |error: runtime::Error| {
            let code = error.exit_code();
            let text = match &error {
                runtime::Error::CommandNotFound { command, .. } => {
                    format!("exec: \"{command}\": executable file not found in $PATH: unknown")
                }
                runtime::Error::CommandNotExecutable { command, .. } => {
                    format!("exec: \"{command}\": permission denied: unknown")
                }
                other => with_causes(other),
            };
            let kind = match code {
                126 | 127 => ContainerErrorKind::Invalid,
                _ => of_runtime(&error).kind,
            };
            (ContainerError::new(kind, format!("failed to create task for container: {text}")), code)
        };
        // The last run's record of the runtime, by which its log was read.
        runtime.delete(&record.id).await.map_err(failed)?;
        let created = runtime.create(&config).await.map_err(failed)?;
        self.inner.attachments.connect(&record.id).await;
        let (rows, columns) = record.spec.console_rows_columns;
        if record.spec.streams.tty && rows > 0 && columns > 0 {
            runtime.resize(&record.id, rows, columns).await.map_err(failed)?;
        }
        runtime.start(&record.id).await.map_err(failed)?;
        Ok((u32::try_from(created.pid).unwrap_or(0), joined.ports))
    }

    async fn undo(&self, id: &str) {
        self.inner.attachments.forget(id);
        if let Err(error) = self.inner.runtime.delete(id).await {
            tracing::warn!(container.id = id, error = with_causes(&error), "what is left of a failed start stays");
        }
        if let Err(error) = self.part(id).await {
            tracing::warn!(container.id = id, error = error.message, "the network of a failed start stays");
        }
    }

    async fn namespace(&self, wanted: &NamespaceRequest, kind: &str) -> Result<NamespaceMode, ContainerError> {
        Ok(match wanted {
            NamespaceRequest::Private | NamespaceRequest::Shareable | NamespaceRequest::None => NamespaceMode::Private,
            NamespaceRequest::Host => NamespaceMode::Host,
            NamespaceRequest::Container(other) => NamespaceMode::Path(self.namespace_path(other, kind).await?),
        })
    }

    pub(super) async fn is_paused(&self, id: &str) -> bool {
        let state = self.inner.runtime.state(id).await;
        state.is_ok_and(|state| state.status == runtime::Status::Paused)
    }

    pub(super) fn log_path(&self, record: &Record) -> PathBuf {
        let directory = self.inner.containers.store.directory(&record.id);
        let path = directory.join(log_driver::file_name(&record.id, record.spec.log.as_ref()));
        // what all drivers had before; a log that began there goes on there
        let before = directory.join(log_driver::file_name(&record.id, None));
        if path.exists() || !before.exists() { path } else { before }
    }
}

impl Single {
    /// Notes an end.
    pub(super) fn ended(&self, change: impl FnOnce(&mut News)) {
        self.news.send_modify(|news| {
            news.ends += 1;
            change(news);
        });
    }
}
