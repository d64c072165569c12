//! Lines of bytes, each of bounded length.

use futures::stream::{self, Stream};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};

/// The longest line, in bytes.
pub(super) const MAX_LINE: usize = 4 * 1024 * 1024;

/// A line of the input.
pub(super) struct Line {
    /// Its number, from 1; empty lines count.
    pub(super) number: u64,
    /// How many bytes it took, its end included.
    pub(super) bytes: usize,
    /// Its text, or why it has none.
    pub(super) text: Result<String, NotText>,
}

/// Why a line has no text.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotText {
    /// It is too long.
    #[error("the line is longer than {MAX_LINE} bytes")]
    TooLong,
    /// It is not UTF-8.
    #[error("the line is not UTF-8")]
    NotUtf8,
}

/// The lines of a reader, without the empty ones.
pub(super) fn of(reader: impl AsyncRead + Unpin) -> impl Stream<Item = std::io::Result<Line>> {
    let reader = BufReader::with_capacity(256 * 1024, reader);
    stream::try_unfold((reader, 0), |(mut reader, mut number)| async move {
        loop {
            number += 1;
            let mut text = Vec::new();
            let mut bytes = 0;
            loop {
                let chunk = reader.fill_buf().await?;
                let end = chunk.iter().position(|byte| *byte == b'\n');
                let taken = end.map_or(chunk.len(), |end| end + 1);
                // What is past the limit is read over, so that the next line is found.
                if text.len() <= MAX_LINE {
                    text.extend_from_slice(&chunk[..taken]);
                }
                bytes += taken;
                reader.consume(taken);
                if end.is_some() || taken == 0 {
                    break;
                }
            }
            if bytes == 0 {
                return Ok(None);
            }
            if text.trim_ascii().is_empty() {
                continue;
            }
            let text = match text.len() {
                0..=MAX_LINE => String::from_utf8(text).map_err(|_| NotText::NotUtf8),
                _ => Err(NotText::TooLong),
            };
            return Ok(Some((Line { number, bytes, text }, (reader, number))));
        }
    })
}

#[cfg(test)]
mod tests {
    use futures::TryStreamExt as _;

    use super::*;

    #[tokio::test]
    async fn lines_are_counted_and_faults_stay_in_their_line() {
        let mut input = b"one\n\n  \ntwo\r\n\xff\xfe\n".to_vec();
        input.extend(vec![b'x'; MAX_LINE + 10]);
        input.extend(b"\nlast");
        let lines: Vec<Line> = of(&input[..]).try_collect().await.unwrap();
        let seen: Vec<_> = lines.iter().map(|line| (line.number, line.text.as_deref().map(str::trim).ok())).collect();
        assert_eq!(seen, [(1, Some("one")), (4, Some("two")), (5, None), (6, None), (7, Some("last"))]);
        let blank = 3;
        assert_eq!(lines.iter().map(|line| line.bytes).sum::<usize>() + 1 + blank, input.len());
    }
}
