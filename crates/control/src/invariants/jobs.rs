//! What must hold of jobs: never more tasks at work than may be at once, never one more than has to complete, and
//! nothing in a slot that is complete.

use std::collections::BTreeSet;

use types::{Service, ServiceMode, Slot, Task, TaskState, Timestamp};

use super::is_alive;
use crate::Tables;

/// A task is born only where its iteration still misses one.
pub(super) fn birth(after: &Tables, service: &Service, new: &Task) -> Result<(), String> {
    let Some(job) = &service.job else { return Ok(()) };
    let (name, slot) = (&service.spec.name, new.slot);
    if new.iteration != Some(job.iteration) || job.last_execution.is_none() {
        return Err(format!("task {} of {name} was born into iteration {:?}, that is {job:?}", new.id, new.iteration));
    }
    if let (ServiceMode::ReplicatedJob { total_completions, .. }, Slot::Replica(number)) = (service.spec.mode, slot)
        && number >= total_completions
    {
        return Err(format!("slot {slot} of {name} got a task, {total_completions} have to complete"));
    }
    match after.tasks_of_slot(service.id, slot).find(|task| is_completion(service, task)) {
        Some(done) => Err(format!("slot {slot} of {name} got task {} though {} has completed", new.id, done.id)),
        None => Ok(()),
    }
}

fn is_completion(service: &Service, task: &Task) -> bool {
    task.iteration == service.iteration() && task.status.state == TaskState::Complete
}

/// A step in which a task is born leaves no more at work than may be at once.
pub(super) fn concurrency(before: &Tables, after: &Tables, service: &Service, at: Timestamp) -> Result<(), String> {
    let ServiceMode::ReplicatedJob { max_concurrent, .. } = service.spec.mode else { return Ok(()) };
    let alive: Vec<_> = after.tasks_of_service(service.id).filter(|task| is_alive(after, service, task, at)).collect();
    let born = alive.iter().any(|task| before.task(task.id).is_none());
    if born && alive.len() as u64 > max_concurrent {
        return Err(format!("{} tasks of {} are at work, {max_concurrent} may be", alive.len(), service.spec.name));
    }
    Ok(())
}

/// At rest a job has completed, or waits for its schedule; only a restart policy that gives up leaves less.
pub(super) fn unrest(tables: &Tables, service: &Service) -> Vec<String> {
    let Some(job) = service.job.as_ref().filter(|job| job.last_execution.is_some()) else { return Vec::new() };
    let (name, iteration) = (&service.spec.name, job.iteration);
    let current = || tables.tasks_of_service(service.id).filter(|task| task.iteration == Some(iteration));
    let done: BTreeSet<Slot> = current().filter(|task| is_completion(service, task)).map(|task| task.slot).collect();
    let failed = |task: &Task| matches!(task.status.state, TaskState::Failed | TaskState::Rejected);
    let given_up = current().filter(|task| failed(task) && task.desired == TaskState::Running);
    let given_up: BTreeSet<Slot> = given_up.map(|task| task.slot).filter(|slot| !done.contains(slot)).collect();
    let wanted = |task: &Task| task.desired == TaskState::Running && !task.status.state.is_terminal();
    let mut all: Vec<String> = Vec::new();
    for task in current().filter(|task| wanted(task)) {
        if task.status.state == TaskState::Running {
            all.push(format!("{name}.{} of a job still runs", task.slot));
        }
        if done.contains(&task.slot) {
            all.push(format!("{name}.{} runs though it is complete", task.slot));
        }
    }
    let ended = done.len() + given_up.len();
    if let ServiceMode::ReplicatedJob { total_completions, .. } = service.spec.mode
        && ended as u64 != total_completions
        && !current().any(|task| wanted(task))
    {
        all.push(format!("job {name} has {ended} of {total_completions} completions and does nothing"));
    }
    all
}
