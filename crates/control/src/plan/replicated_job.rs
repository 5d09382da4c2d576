//! The orchestrator of replicated jobs: slots from 0, each of which has to complete once, lowest first, and no more
//! of them at work than may be at once.

use types::{Service, Slot, TaskState};

use super::{
    job::{self, Progress},
    slots::{SlotView, Standing},
    work::Work,
};

pub(super) fn run(work: &mut Work<'_>, service: &Service, max_concurrent: u64, total: u64) {
    let (views, surplus): (Vec<SlotView>, Vec<SlotView>) =
        job::tidied(work, service).into_iter().partition(|view| view.slot < Slot::Replica(total));
    for (task, _) in surplus.iter().flat_map(|view| &view.tasks) {
        work.draft.stop(task.id, TaskState::Remove, "the job asks for fewer completions");
    }
    let has_begun = service.job.as_ref().is_some_and(|job| job.last_execution.is_some());
    // what is being stopped takes part until it has, in slots that are none any more too
    let at_work = work.draft.tasks_of_service(service.id).filter(|task| job::is_at_work(work, service, task)).count();
    let room = max_concurrent.saturating_sub(at_work as u64);
    if has_begun && room > 0 {
        fill(work, service, &views, total, room);
    }
}

/// Starts the lowest slots that miss a task.
fn fill(work: &mut Work<'_>, service: &Service, views: &[SlotView], total: u64, mut room: u64) {
    // a node that comes back brings its tasks with it: then fewer may be started
    let lost = views.iter().flat_map(|view| view.of(Standing::Lost));
    for node in lost.filter_map(|task| task.node) {
        work.draft.depends_on_node(node);
    }
    let mut known = views.iter().peekable();
    for number in 0..total {
        if room == 0 {
            return;
        }
        let slot = Slot::Replica(number);
        match known.next_if(|view| view.slot == slot) {
            _ if is_being_removed(work, service, slot) => continue,
            None => work.fill(service, slot, None),
            Some(view) if job::progress(service, view) == Progress::Vacant => job::refill(work, service, view),
            Some(_) => continue,
        }
        room -= 1;
    }
}

/// A slot that was taken away and is wanted again is free when its task has stopped.
fn is_being_removed(work: &Work<'_>, service: &Service, slot: Slot) -> bool {
    let mut tasks = work.draft.tasks_of_slot(service.id, slot);
    tasks.any(|task| task.desired == TaskState::Remove && job::is_at_work(work, service, task))
}
