//! Errors as people read them.

use std::error::Error;

/// An error and what led to it, on one line, outermost first. What an outer text already says is not said again.
pub fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let more = inner.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    enum Outer {
        #[error("writing the file failed")]
        Plain(#[source] io::Error),
        #[error("writing the file failed: {0}")]
        Doubled(#[source] io::Error),
    }

    #[test]
    fn each_cause_is_said_once() {
        let full = || io::Error::other("the disk is full");
        assert_eq!(with_causes(&Outer::Plain(full())), "writing the file failed: the disk is full");
        assert_eq!(with_causes(&Outer::Doubled(full())), "writing the file failed: the disk is full");
    }
}
