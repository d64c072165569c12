//! The lines of a body that is read while it comes.

use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use bytes::{Buf as _, Bytes, BytesMut};
use futures::StreamExt as _;

/// What comes next.
#[derive(Debug)]
pub(super) enum Next {
    /// A line, without its end.
    Line(Bytes),
    /// A line that is longer than allowed. It was read over.
    TooLong,
    /// There are no more.
    End,
    /// The body was cut off: what was begun of a line is none.
    CutOff(axum::Error),
    /// Nothing came for so long.
    Silence(Duration),
}

/// Lines of bounded length, of a body of any length. Blank ones are counted and passed over.
pub(super) struct Lines {
    body: BodyDataStream,
    /// What came and is not looked at yet.
    came: Bytes,
    /// What is there of a line that has not ended yet.
    begun: BytesMut,
    /// Whether the line that has not ended yet is too long already.
    too_long: bool,
    number: u64,
    longest: usize,
    /// How long nothing may come while there is more to come.
    patience: Duration,
    ended: bool,
}

impl Lines {
    /// The lines of a body, each of at most `longest` bytes.
    pub(super) fn of(body: Body, longest: usize, patience: Duration) -> Self {
        let (came, begun) = (Bytes::new(), BytesMut::new());
        Self { body: body.into_data_stream(), came, begun, too_long: false, number: 0, longest, patience, ended: false }
    }

    /// The number of the line that came last, from 1.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// The next line that is not blank. Whoever stops waiting for it loses nothing.
    pub(super) async fn next(&mut self) -> Next {
        loop {
            while let Some(end) = self.came.iter().position(|byte| *byte == b'\n') {
                let rest = self.came.split_to(end);
                self.came.advance(1);
                if let Some(line) = self.line(rest) {
                    return line;
                }
            }
            let rest = std::mem::take(&mut self.came);
            self.keep(&rest);
            if self.ended {
                // The last line need not have an end.
                let is_there = self.too_long || !self.begun.is_empty();
                return is_there.then(|| self.line(Bytes::new())).flatten().unwrap_or(Next::End);
            }
            match tokio::time::timeout(self.patience, self.body.next()).await {
                Ok(Some(Ok(came))) => self.came = came,
                Ok(Some(Err(error))) => return Next::CutOff(error),
                Ok(None) => self.ended = true,
                Err(_) => return Next::Silence(self.patience),
            }
        }
    }

    /// Ends the line that was begun with what there is yet to come of it; `None` when it is blank.
    fn line(&mut self, rest: Bytes) -> Option<Next> {
        self.number += 1;
        let whole = if self.begun.is_empty() && !self.too_long && rest.len() <= self.longest {
            rest
        } else {
            self.keep(&rest);
            self.begun.split().freeze()
        };
        if std::mem::take(&mut self.too_long) {
            return Some(Next::TooLong);
        }
        (!whole.trim_ascii().is_empty()).then_some(Next::Line(whole))
    }

    /// Keeps what came of a line, as long as it is not too long.
    fn keep(&mut self, part: &[u8]) {
        self.too_long |= self.begun.len() + part.len() > self.longest;
        if self.too_long {
            self.begun.clear();
        } else {
            self.begun.extend_from_slice(part);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(60);

    /// What comes of a body that arrives in these parts: the lines by number, `None` for one that is too long.
    async fn lines(parts: &[&str], longest: usize) -> Vec<(u64, Option<String>)> {
        let parts: Vec<_> = parts.iter().map(|part| Ok::<_, std::io::Error>((*part).to_owned())).collect();
        let mut lines = Lines::of(Body::from_stream(futures::stream::iter(parts)), longest, PATIENCE);
        let mut all = Vec::new();
        loop {
            let line = match lines.next().await {
                Next::Line(line) => Some(String::from_utf8(line.to_vec()).unwrap()),
                Next::TooLong => None,
                Next::End => return all,
                other => panic!("{other:?}"),
            };
            all.push((lines.number(), line));
        }
    }

    fn line(number: u64, text: &str) -> (u64, Option<String>) {
        (number, Some(text.to_owned()))
    }

    #[tokio::test]
    async fn lines_are_the_same_in_whatever_parts_they_come() {
        let text = "one\n\n  \r\ntwo\r\n12345678\n123456789\n\nlast";
        let expected = [line(1, "one"), line(4, "two\r"), line(5, "12345678"), (6, None), line(8, "last")];
        assert_eq!(lines(&[text], 8).await, expected);
        for size in 1..text.len() {
            let parts: Vec<_> = text.as_bytes().chunks(size).map(|part| std::str::from_utf8(part).unwrap()).collect();
            assert_eq!(lines(&parts, 8).await, expected, "{size}");
        }
    }

    #[tokio::test]
    async fn nothing_is_no_line() {
        assert_eq!(lines(&[], 8).await, []);
        assert_eq!(lines(&["\n", " \n", "  "], 8).await, []);
        assert_eq!(lines(&["x\n"], 8).await, [line(1, "x")]);
    }

    #[tokio::test]
    async fn what_is_cut_off_is_no_line() {
        let parts = [Ok("one\ntw"), Err(std::io::Error::other("gone"))];
        let mut lines = Lines::of(Body::from_stream(futures::stream::iter(parts)), 8, PATIENCE);
        assert!(matches!(lines.next().await, Next::Line(line) if &line[..] == b"one"));
        assert!(matches!(lines.next().await, Next::CutOff(_)));
    }
}
