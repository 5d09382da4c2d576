//! The rings and those who read them.

use futures::FutureExt as _;
use types::{ObjectAction, ObjectEvent, ObjectKind, Timestamp};

use super::*;

fn event(name: &str) -> Event {
    Event::new(EventKind::Volume, "create", name)
}

/// One event of a task at this step.
fn step(index: u64) -> ClusterEvents {
    let (kind, action, id) = (ObjectKind::Task, ObjectAction::Update, format!("t{index}"));
    let events = vec![ObjectEvent { kind, action, id, attributes: BTreeMap::new() }];
    ClusterEvents { index: Some(index), at: at(index), is_gapless: true, is_past: false, events }
}

fn at(index: u64) -> Timestamp {
    Timestamp::from_unix_ms(index)
}

fn begin(index: u64) -> ClusterEvents {
    ClusterEvents { is_gapless: false, events: Vec::new(), ..step(index) }
}

/// Names of all that need not be waited for.
fn waiting(reader: &mut Reader) -> Vec<String> {
    let mut names = Vec::new();
    while let Some(next) = reader.next().now_or_never() {
        match next {
            Ok(event) => names.push(event.actor.clone()),
            Err(Missed) => {
                names.push("missed".to_owned());
                break;
            }
        }
    }
    names
}

fn resumed(events: &Events, index: u64) -> Result<Vec<String>, ResumeError> {
    events.resume(index, |_| false).map(|mut reader| waiting(&mut reader))
}

/// E-42
#[test]
fn e_42_who_watches_is_counted() {
    let events = Events::default();
    let reader = events.read(|_| false);
    assert_eq!(events.listeners(), 1);
    drop(reader);
    assert_eq!(events.listeners(), 0);
}

#[test]
fn c_39_a_reader_has_the_past_and_the_present_without_a_gap() {
    let events = Events::default();
    events.publish(event("a"));
    events.tell(begin(4));
    events.tell(step(5));
    let mut reader = events.read(|_| true);
    events.publish(event("b"));
    events.tell(step(6));
    assert_eq!(waiting(&mut reader), ["t5", "a", "b", "t6"], "the past by its times, then as it comes");
    events.publish(event("c"));
    assert_eq!(waiting(&mut reader), ["c"]);
    let past = events.read(|_| true).past;
    let own: Vec<u64> = past.iter().filter(|e| e.scope == "local").map(|e| e.time_ns).collect();
    assert!(own.is_sorted() && own[0] != own[1], "{own:?}");
    let of_cluster = past.iter().find(|event| event.scope == "swarm").expect("told");
    assert_eq!((of_cluster.attributes["index"].as_str(), of_cluster.time_ns), ("5", at(5).as_unix_ns()));
}

#[tokio::test]
async fn c_39_who_waits_is_woken() {
    let events = Events::default();
    let mut reader = events.read(|_| true);
    let told = events.clone();
    let (next, ()) = tokio::join!(reader.next(), async move { told.tell(step(1)) });
    assert_eq!(next.expect("not slow").actor, "t1");
}

#[test]
fn c_39_a_slow_reader_is_told_and_the_past_is_bounded() {
    let events = Events::keeping(2, 2);
    let mut slow = events.read(|_| false);
    for name in ["a", "b"] {
        events.publish(event(name));
    }
    assert_eq!(waiting(&mut slow), ["a", "b"]);
    for name in ["c", "d", "e"] {
        events.publish(event(name));
    }
    assert_eq!(waiting(&mut slow), ["missed"]);
    assert_eq!(waiting(&mut events.read(|_| true)), ["d", "e"]);
    let mut slow = events.read(|_| false);
    (1..=3).for_each(|index| events.tell(step(index)));
    assert_eq!(waiting(&mut slow), ["missed"], "events of the cluster count for themselves");
}

#[test]
fn c_36_a_reader_goes_on_from_an_index() {
    let events = Events::keeping(8, 4);
    assert_eq!(resumed(&events, 3), Err(ResumeError::NoManager), "a worker");
    events.tell(begin(3));
    for index in [4, 5, 7] {
        events.tell(step(index));
    }
    assert_eq!(resumed(&events, 3), Ok(vec!["t4".to_owned(), "t5".to_owned(), "t7".to_owned()]));
    assert_eq!(resumed(&events, 6), Ok(vec!["t7".to_owned()]));
    assert_eq!(resumed(&events, 2), Err(ResumeError::TooOld { index: 2, oldest: 3 }));
    let mut ahead = events.resume(8, |_| true).expect("another manager told it more");
    for index in [8, 9] {
        events.tell(step(index));
    }
    assert_eq!(waiting(&mut ahead), ["t9"], "step 8 it knew");
    assert_eq!(resumed(&events, 3), Err(ResumeError::TooOld { index: 3, oldest: 4 }), "one had to go");
    let text = resumed(&events, 3).expect_err("refused").to_string();
    assert!(text.contains("the oldest index to go on from is 4"), "{text}");
}

#[test]
fn c_36_steps_that_were_told_are_not_told_again_and_a_gap_is_no_place_to_go_on_from() {
    let events = Events::default();
    events.tell(begin(3));
    events.tell(step(4));
    let mut reader = events.read(|_| false);
    // the manager of this host was started again
    events.tell(begin(2));
    for index in [3, 4, 5] {
        events.tell(ClusterEvents { is_past: true, ..step(index) });
    }
    events.tell(step(6));
    assert_eq!(waiting(&mut reader), ["t6"], "what was the past already is news to nobody");
    assert_eq!(resumed(&events, 3).map(|all| all.join(" ")), Ok("t4 t5 t6".to_owned()));
    let leader = ClusterEvents { index: None, ..step(6) };
    events.tell(leader);
    assert_eq!(resumed(&events, 6).map(|all| all.join(" ")), Ok("t6".to_owned()), "what has no index comes after it");
    events.tell(ClusterEvents { is_gapless: false, ..step(9) });
    assert_eq!(resumed(&events, 8), Err(ResumeError::TooOld { index: 8, oldest: 9 }));
    assert_eq!(resumed(&events, 9), Ok(Vec::new()));
    // another cluster
    events.forget_cluster();
    assert_eq!(resumed(&events, 9), Err(ResumeError::NoManager));
    events.tell(begin(0));
    events.tell(step(1));
    assert_eq!(resumed(&events, 0), Ok(vec!["t1".to_owned()]));
}

#[test]
fn attributes_win_over_labels() {
    let labels = BTreeMap::from([("name".to_owned(), "label".to_owned()), ("x".to_owned(), "y".to_owned())]);
    let event = Event::new(EventKind::Image, "pull", "a").with("name", "own").with_labels(&labels);
    assert_eq!((event.attributes["name"].as_str(), event.attributes["x"].as_str()), ("own", "y"));
    assert_eq!((event.scope, EventKind::Node.scope()), ("local", "swarm"));
}
