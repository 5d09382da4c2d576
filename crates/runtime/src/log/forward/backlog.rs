//! Lines that wait for a log server, within bounds. Pure.

use std::{
    collections::VecDeque,
    hash::{BuildHasher as _, RandomState},
};

use super::Line;
use crate::{config::LogQueue, log::Stream};

/// What a line takes beside its text.
const PER_LINE: usize = 64;
/// What may be taken beyond the bounds where the container waits: what was read already, and at its end what is in its pipe.
/// Empty lines alone make 4 MiB of that; a process that it left behind may go on writing.
const OVER_BYTES: usize = 8 << 20;
/// Room for so many lines is kept when there are none.
const KEPT_ROOM: usize = 64;

/// One line, or a piece of one.
pub(super) struct Kept {
    pub(super) stream: Stream,
    pub(super) text: Box<[u8]>,
    /// Of a piece: when its line began.
    pub(super) at_ns: u64,
    pub(super) part: Option<Part>,
}

/// Which piece of which line.
pub(super) struct Part {
    /// 64 hexadecimal digits.
    pub(super) id: String,
    /// From 1.
    pub(super) ordinal: u32,
    pub(super) is_last: bool,
}

/// A line of which pieces have come, and not the last.
struct Begun {
    id: String,
    pieces: u32,
    at_ns: u64,
}

pub(super) struct Backlog {
    max_bytes: usize,
    max_lines: usize,
    is_blocking: bool,
    lines: VecDeque<Kept>,
    bytes: usize,
    /// By stream.
    begun: [Option<Begun>; 2],
    names: Names,
    /// Lines left out since somebody was told.
    pub(super) lost: u64,
    /// The container has waited long enough: where there is no room, lines are left out.
    pub(super) leaves_out: bool,
}

impl Backlog {
    pub(super) fn new(limits: &LogQueue) -> Self {
        let number = |value: u64| usize::try_from(value).unwrap_or(usize::MAX);
        Self {
            max_bytes: number(limits.max_bytes),
            max_lines: number(limits.max_lines),
            is_blocking: limits.is_blocking,
            lines: VecDeque::new(),
            bytes: 0,
            begun: [None, None],
            names: Names::default(),
            lost: 0,
            leaves_out: false,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.lines.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    pub(super) fn get(&self, index: usize) -> Option<&Kept> {
        self.lines.get(index)
    }

    fn is_full(&self) -> bool {
        self.bytes >= self.max_bytes || self.lines.len() >= self.max_lines
    }

    /// Whether the container has to wait. What was read of its output before is taken all the same, within a bound.
    pub(super) fn holds_up(&self) -> bool {
        self.is_blocking && !self.leaves_out && self.is_full()
    }

    /// Where there is no room it is left out, and counted: the line that comes, as in Docker.
    pub(super) fn add(&mut self, line: Line<'_>) {
        let (at_ns, part) = self.part_of(line);
        let is_far_over = self.bytes >= self.max_bytes.saturating_add(OVER_BYTES);
        if is_far_over || self.is_full() && (!self.is_blocking || self.leaves_out) {
            self.lost += 1;
            return;
        }
        self.bytes += line.text.len() + PER_LINE;
        self.lines.push_back(Kept { stream: line.stream, text: line.text.into(), at_ns, part });
    }

    /// Lets go of one that has arrived.
    pub(super) fn remove(&mut self, index: usize) {
        let Some(kept) = self.lines.remove(index) else { return };
        self.bytes -= kept.text.len() + PER_LINE;
        self.leaves_out &= self.is_full();
        if self.lines.is_empty() && self.lines.capacity() > KEPT_ROOM {
            self.lines = VecDeque::new();
        }
    }

    /// Leaves one out that can never be sent.
    pub(super) fn leave_out(&mut self, index: usize) {
        self.remove(index);
        self.lost += 1;
    }

    /// Leaves all of it out.
    pub(super) fn give_up(&mut self) {
        self.lost += self.lines.len() as u64;
        (self.lines, self.bytes, self.leaves_out) = (VecDeque::new(), 0, false);
    }

    /// As moby's copier: pieces have the time of the first, and a number.
    fn part_of(&mut self, line: Line<'_>) -> (u64, Option<Part>) {
        let begun = &mut self.begun[usize::from(line.stream == Stream::Stderr)];
        if line.is_whole && begun.is_none() {
            return (line.at_ns, None);
        }
        let names = &mut self.names;
        let of = begun.get_or_insert_with(|| Begun { id: names.long(), pieces: 0, at_ns: line.at_ns });
        of.pieces += 1;
        let part = Part { id: of.id.clone(), ordinal: of.pieces, is_last: line.is_whole };
        let at_ns = of.at_ns;
        if line.is_whole {
            *begun = None;
        }
        (at_ns, Some(part))
    }
}

/// Names that nobody else gives: numbers, hashed with a secret of this process.
#[derive(Default)]
pub(super) struct Names {
    secret: RandomState,
    given: u64,
}

impl Names {
    pub(super) fn number(&mut self) -> u64 {
        self.given += 1;
        self.secret.hash_one(self.given)
    }

    /// 64 hexadecimal digits.
    pub(super) fn long(&mut self) -> String {
        (0..4).map(|_| format!("{:016x}", self.number())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backlog(max_bytes: u64, max_lines: u64, is_blocking: bool) -> Backlog {
        Backlog::new(&LogQueue { max_bytes, max_lines, is_blocking, first_wait_ms: 1000, attempts: None })
    }

    fn line(text: &str, is_whole: bool) -> Line<'_> {
        Line { stream: Stream::Stdout, text: text.as_bytes(), is_whole, at_ns: text.len() as u64 }
    }

    /// E-27, P27: what does not fit is counted, whether the container waits or not.
    #[test]
    fn e27_what_waits_is_bounded() {
        for mut full in [backlog(200, 100, false), backlog(1 << 20, 3, false)] {
            (0..5).for_each(|_| full.add(line("hello", true)));
            assert_eq!((full.len(), full.lost, full.holds_up()), (3, 2, false));
            full.remove(0);
            full.add(line("again", true));
            assert_eq!((full.len(), full.lost), (3, 2));
            full.give_up();
            assert_eq!((full.len(), full.lost, full.bytes), (0, 5, 0));
        }
        let mut blocking = backlog(1 << 20, 3, true);
        (0..5).for_each(|_| blocking.add(line("hello", true)));
        assert_eq!((blocking.len(), blocking.lost, blocking.holds_up()), (5, 0, true));
        blocking.leaves_out = true;
        blocking.add(line("hello", true));
        assert_eq!((blocking.lost, blocking.holds_up()), (1, false), "it has waited long enough");
        (0..3).for_each(|_| blocking.remove(0));
        assert!(!blocking.leaves_out, "there is room again");
        let mut ending = backlog(1000, 3, true);
        let long = "x".repeat(1 << 20);
        (0..20).for_each(|_| ending.add(line(&long, true)));
        assert_eq!((ending.len(), ending.lost), (9, 11), "what a process writes on and on after the end");
    }

    /// E-27
    #[test]
    fn e27_pieces_of_a_line_belong_together() {
        let mut backlog = backlog(1 << 20, 100, false);
        [("a", false), ("bb", false), ("ccc", true), ("dddd", true), ("e", false)]
            .into_iter()
            .for_each(|(text, is_whole)| backlog.add(line(text, is_whole)));
        let shown = |kept: &Kept| kept.part.as_ref().map(|part| (kept.at_ns, part.ordinal, part.is_last));
        let all: Vec<_> = backlog.lines.iter().map(shown).collect();
        assert_eq!(all, [Some((1, 1, false)), Some((1, 2, false)), Some((1, 3, true)), None, Some((1, 1, false))]);
        let id = |index: usize| backlog.lines[index].part.as_ref().expect("a piece").id.clone();
        assert!(id(0) == id(2) && id(0) != id(4) && id(0).len() == 64, "{} {}", id(0), id(4));
    }
}
