//! Long lists of tasks, which are written in pieces.

use std::sync::Arc;

use serde_json::Value;
use types::{Task, TaskId};

use super::{service, task_of};
use crate::convert::{network_view::Networks, task};

fn written(count: u128) -> (Vec<Value>, Vec<u8>) {
    let view = service();
    let tasks = (0..count).map(|number| Arc::new(Task { id: TaskId::from_random(number), ..task_of(&view) }));
    let tasks: Vec<_> = tasks.collect();
    let mut text = Vec::new();
    task::write_all(&tasks, &Networks::new(), |piece| {
        text.extend(piece);
        true
    });
    (tasks.iter().map(|one| task::write(one, &Networks::new())).collect(), text)
}

#[test]
fn lists_of_every_length_are_their_tasks_in_order() {
    for count in [0, 1, 511, 512, 513, 5_000] {
        let (each, text) = written(count);
        let list: Vec<Value> = serde_json::from_slice(&text).expect("JSON");
        assert!(list == each, "{count} tasks");
    }
}

#[test]
fn a_list_that_nobody_reads_on_is_not_written_on() {
    let view = service();
    let tasks: Vec<_> = std::iter::repeat_with(|| Arc::new(task_of(&view))).take(50_000).collect();
    let mut pieces = 0;
    task::write_all(&tasks, &Networks::new(), |_| {
        pieces += 1;
        pieces < 3
    });
    assert_eq!(pieces, 3);
}
