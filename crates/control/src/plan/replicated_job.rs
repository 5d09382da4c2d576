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
    // what of them still runs takes part in the count until it has stopped
    let busy = |view: &SlotView| view.of(Standing::Wanted).chain(view.of(Standing::Stopping)).count() as u64;
    let active: u64 = views.iter().chain(&surplus).map(busy).sum();
    for (task, _) in surplus.iter().flat_map(|view| &view.tasks) {
        work.draft.stop(task.id, TaskState::Remove, "the job asks for fewer completions");
    }
    let has_begun = service.job.as_ref().is_some_and(|job| job.last_execution.is_some());
    let room = max_concurrent.saturating_sub(active);
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
            None => work.fill(service, slot, None),
            Some(view) if job::progress(service, view) == Progress::Vacant => job::refill(work, service, view),
            Some(_) => continue,
        }
        room -= 1;
    }
}
