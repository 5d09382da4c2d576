//! The board that `service create` and its like draw while they wait: redrawn in place on a
//! terminal, line by line elsewhere.

use std::fmt::Write as _;

use super::terminal;

/// Steps of a full bar.
pub(crate) const STEPS: u8 = 9;
/// Inside of a bar on a wide terminal.
const BAR_WIDTH: usize = 50;
/// A reason longer than this is for `service ps`.
const MAX_REASON_LINES: usize = 4;

/// One task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) name: String,
    /// Empty before there is a task.
    pub(crate) state: String,
    /// Steps done, of [`STEPS`].
    pub(crate) done: u8,
    /// Why it does not run, in words.
    pub(crate) reason: String,
}

/// What is on the screen.
#[derive(Debug)]
pub(crate) struct Board {
    quiet: bool,
    is_terminal: bool,
    /// Lines drawn that the next drawing replaces.
    drawn: usize,
    lines: Vec<String>,
    verify: Option<String>,
}

impl Board {
    pub(crate) fn new(quiet: bool) -> Self {
        Self { quiet, is_terminal: terminal::stdout_is_terminal(), drawn: 0, lines: Vec::new(), verify: None }
    }

    pub(crate) fn show(&mut self, headline: &str, lines: &[Line]) -> anyhow::Result<()> {
        let width = terminal::columns();
        let mut wanted = vec![headline.to_owned()];
        wanted
            .extend(lines.iter().flat_map(|line| render(line, self.is_terminal.then_some(width), terminal::colours())));
        if wanted == self.lines {
            return Ok(());
        }
        let old = std::mem::replace(&mut self.lines, wanted);
        self.verify = None;
        match self.is_terminal {
            true => self.draw(),
            false => self.append(&old),
        }
    }

    /// The line below the board; replaced by the next.
    pub(crate) fn verify(&mut self, text: &str) -> anyhow::Result<()> {
        if self.verify.as_deref() == Some(text) {
            return Ok(());
        }
        let is_first = self.verify.is_none();
        self.verify = Some(text.to_owned());
        match (self.is_terminal, is_first) {
            (true, _) => self.draw(),
            (false, true) => self.print(&format!("{text}\n")),
            (false, false) => Ok(()),
        }
    }

    /// A last word.
    pub(crate) fn message(&mut self, text: &str) -> anyhow::Result<()> {
        if self.is_terminal {
            self.verify = None;
            self.draw()?;
        }
        self.print(&format!("{text}\n"))?;
        self.drawn = 0;
        self.lines.clear();
        Ok(())
    }

    /// Leaves what is drawn and shows the cursor again.
    pub(crate) fn finish(&mut self) -> anyhow::Result<()> {
        let was_drawn = std::mem::take(&mut self.drawn) > 0 || self.is_terminal;
        if was_drawn && self.is_terminal && !self.quiet { terminal::print("\x1b[?25h") } else { Ok(()) }
    }

    fn draw(&mut self) -> anyhow::Result<()> {
        let mut out = String::from("\x1b[?25l");
        if self.drawn > 0 {
            let _ = write!(out, "\x1b[{}A", self.drawn);
        }
        for line in self.lines.iter().chain(&self.verify) {
            let _ = writeln!(out, "\r\x1b[2K{line}");
        }
        // A shorter drawing must not leave the rest of a longer one below.
        out.push_str("\x1b[J");
        self.drawn = self.lines.len() + usize::from(self.verify.is_some());
        self.print(&out)
    }

    /// Without a terminal: the headline and each task's line when it changes.
    fn append(&self, old: &[String]) -> anyhow::Result<()> {
        let is_new = |line: &&String| !old.contains(line) && !line.trim_end().ends_with(':');
        self.print(&self.lines.iter().filter(is_new).map(|line| format!("{line}\n")).collect::<String>())
    }

    fn print(&self, text: &str) -> anyhow::Result<()> {
        if self.quiet { Ok(()) } else { terminal::print(text) }
    }
}

/// `1/3: running   [====>    ]`; without a terminal `1/3: running`. A reason may take several lines.
fn render(line: &Line, width: Option<usize>, colours: bool) -> Vec<String> {
    let Line { name, state, done, reason } = line;
    let Some(width) = width else {
        let text = if reason.is_empty() { state.clone() } else { format!("{state}: {reason}") };
        return vec![format!("{name}: {text}")];
    };
    if !reason.is_empty() {
        let lines = wrap(&format!("{name}: {state}: {reason}"), width - 1).into_iter();
        return lines.map(|line| if colours { format!("\x1b[33m{line}\x1b[0m") } else { line }).collect();
    }
    let head = format!("{name}: {state:<9} ");
    let room = width.saturating_sub(head.chars().count() + 3).min(BAR_WIDTH);
    if state.is_empty() || room < usize::from(STEPS) {
        return vec![head.trim_end().to_owned()];
    }
    let filled = room * usize::from((*done).min(STEPS)) / usize::from(STEPS);
    let bar = format!("[{}>{}]", "=".repeat(filled.saturating_sub(1)), " ".repeat(room - filled.max(1)));
    let is_done = *done >= STEPS;
    vec![if colours && is_done { format!("{head}\x1b[32m{bar}\x1b[0m") } else { format!("{head}{bar}") }]
}

/// Lines of at most `width` characters, broken at blanks where there are some; the later ones are
/// indented.
fn wrap(text: &str, width: usize) -> Vec<String> {
    const INDENT: &str = "     ";
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in text.split_whitespace() {
        let blank = usize::from(!line.trim().is_empty());
        if blank == 1 && line.chars().count() + 1 + word.chars().count() > width {
            lines.push(std::mem::replace(&mut line, INDENT.to_owned()));
        } else if blank == 1 {
            line.push(' ');
        }
        line.push_str(word);
    }
    lines.push(line);
    lines.truncate(MAX_REASON_LINES);
    // A word longer than the line.
    lines.into_iter().map(|line| line.chars().take(width).collect()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(state: &str, done: u8, reason: &str, width: Option<usize>, expected: &str) {
        let line = Line { name: "1/3".to_owned(), state: state.to_owned(), done, reason: reason.to_owned() };
        assert_eq!(render(&line, width, false).join("\n"), expected);
    }

    #[test]
    fn lines_of_the_board() {
        check("running", 9, "", None, "1/3: running");
        check("pending", 2, "no node", None, "1/3: pending: no node");
        check("running", 9, "", Some(40), "1/3: running   [=====================>]");
        check("preparing", 5, "", Some(40), "1/3: preparing [===========>          ]");
        check("pending", 2, "no node fits here", Some(20), "1/3: pending: no\n     node fits here");
        check("pending", 2, &"x".repeat(30), Some(20), "1/3: pending:\n     xxxxxxxxxxxxxx");
        check("", 0, "", Some(80), "1/3:");
        check("running", 9, "", Some(10), "1/3: running");
    }
}
