//! Container ids and names. A task's container id follows from the task's id, so that making it twice
//! makes it once, and whatever bears such an id can be told to belong to a task.
//!
//! 64 hexadecimal digits, as Docker has them: the 128 bits of the task id, then the first half of
//! their SHA-256, by which a foreign id is recognised.

use std::fmt::Write;

use sha2::{Digest, Sha256};
use types::{Assignment, TaskId};

/// The container of a task.
pub fn container_id(task: TaskId) -> String {
    let raw = task.as_u128().to_be_bytes();
    let check = Sha256::digest(raw);
    let mut text = String::with_capacity(64);
    for byte in raw.iter().chain(&check[..16]) {
        write!(text, "{byte:02x}").expect("a string takes all");
    }
    text
}

/// The task a container id was made from; `None` for an id that was not made here.
pub fn task_of_container(id: &str) -> Option<TaskId> {
    let raw = u128::from_str_radix(id.get(..32)?, 16).ok()?;
    let task = TaskId::from_random(raw);
    (container_id(task) == id).then_some(task)
}

/// What people see: `<service>.<slot>.<task id>`.
pub fn container_name(assignment: &Assignment) -> String {
    format!("{}.{}.{}", assignment.service_name, assignment.slot, assignment.id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_id_leads_back_to_its_task_and_a_foreign_one_to_none() {
        let task = TaskId::from_random(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef);
        let id = container_id(task);
        assert!(id.len() == 64 && id.starts_with("0123456789abcdef"));
        assert_eq!(task_of_container(&id), Some(task));
        for foreign in ["", "abc", &"0".repeat(64), &format!("{}é", &id[..62])] {
            assert_eq!(task_of_container(foreign), None, "{foreign}");
        }
    }
}
