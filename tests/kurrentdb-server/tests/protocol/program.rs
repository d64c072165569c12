//! The server as a program, which takes its orders by its standard input.

use std::process::Stdio;

use eventstore::{Error, ReadAllOptions, StreamState};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::support::{append, connect, events, read_all, soon};

struct Program {
    child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Program {
    fn start(arguments: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_kurrentdb-server"))
            .args(["--port", "0"])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Self { child, input, output: BufReader::new(output).lines() }
    }

    async fn says(&mut self) -> String {
        soon(self.output.next_line()).await.unwrap().expect("it has ended")
    }

    async fn order(&mut self, order: &str) -> String {
        self.input.write_all(format!("{order}\n").as_bytes()).await.unwrap();
        self.says().await
    }
}

#[tokio::test]
async fn it_takes_orders_and_ends_with_its_input() {
    let mut program = Program::start(&["--order", "append not-ready"]);
    let client = connect(&program.says().await);
    let not_ready = append(&client, "s", StreamState::NoStream, events(1)).await;
    assert!(matches!(not_ready, Err(Error::ServerError(_))), "{not_ready:?}");
    append(&client, "s", StreamState::NoStream, events(1)).await.unwrap();

    assert_eq!(program.order("append cut-after-commit 1").await, "ok");
    append(&client, "s", StreamState::StreamRevision(0), events(1)).await.unwrap_err();
    assert_eq!(program.order("append explode").await, "error: \"explode\" is no fault of appends");
    assert_eq!(program.order("restart").await, "ok");
    assert_eq!(read_all(&client, ReadAllOptions::default()).await.unwrap().len(), 2);

    let Program { mut child, input, .. } = program;
    drop(input);
    assert!(soon(child.wait()).await.unwrap().success());
}
