//! The kit tested by itself.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::*;
use crate::decider::Snapshots;
use crate::ids::{OrderId, Sku};
use crate::process::Never;

/// A door that is open or shut.
struct Door;

crate::stored_events! {
    /// What happens to a door.
    enum Event {
        /// It was opened.
        Opened => "DoorOpened" schema 1,
        /// It was shut.
        Shut => "DoorShut" schema 1,
    }
}

/// A door was opened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
struct Opened {
    by: String,
}

/// A door was shut.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
struct Shut {}

#[derive(Debug, Clone)]
enum Command {
    Open { by: String },
    Shut,
}

#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("the door is open, thanks to {by}")]
struct StandsOpen {
    by: String,
}

impl Decider for Door {
    const CATEGORY: &'static str = "door";

    type Id = Sku;
    type State = Option<String>;
    type Command = Command;
    type Event = Event;
    type Refusal = StandsOpen;

    fn initial() -> Self::State {
        None
    }

    fn evolve(_: Self::State, event: &Event) -> Self::State {
        match event {
            Event::Opened(Opened { by }) => Some(by.clone()),
            Event::Shut(Shut {}) => None,
        }
    }

    fn decide(state: &Self::State, command: Command) -> Result<Vec<Event>, StandsOpen> {
        match (state, command) {
            (None, Command::Open { by }) => Ok(vec![Opened { by }.into()]),
            (Some(by), Command::Open { .. }) => Err(StandsOpen { by: by.clone() }),
            (Some(_), Command::Shut) => Ok(vec![Shut {}.into()]),
            (None, Command::Shut) => Ok(vec![]),
        }
    }

    fn snapshots() -> Option<Snapshots<Self::State>> {
        Some(Snapshots::json(1))
    }
}

/// A porter who shuts every door that opens while another is open.
struct Porter;

impl Process for Porter {
    const NAME: &'static str = "porter";
    const VERSION: i32 = 1;
    const CATEGORIES: &'static [&'static str] = &[Door::CATEGORY];
    const TIMEOUTS: &'static [Never] = &[];

    type Id = OrderId;
    type State = usize;
    type Event = Event;
    type Command = &'static str;
    type Timeout = Never;

    fn instance(_: &Event) -> Option<OrderId> {
        None
    }

    fn initial() -> usize {
        0
    }

    fn evolve(open: usize, event: &Event) -> usize {
        match event {
            Event::Opened(_) => open + 1,
            Event::Shut(_) => open.saturating_sub(1),
        }
    }

    fn react(open: &usize, event: &Event) -> Vec<&'static str> {
        if *open > 0 && matches!(event, Event::Opened(_)) { vec!["shut it"] } else { vec![] }
    }

    fn is_over(open: &usize) -> bool {
        *open == 0
    }
}

fn open(by: &str) -> Command {
    Command::Open { by: by.to_owned() }
}

fn opened(by: &str) -> Event {
    Opened { by: by.to_owned() }.into()
}

fn shut() -> Event {
    Shut {}.into()
}

#[test]
fn what_is_so_passes() {
    given::<Door>([]).when(open("Ada")).then([opened("Ada")]);
    given::<Door>([opened("Ada")]).when(open("Bob")).then_refused(StandsOpen { by: "Ada".to_owned() });
    given::<Door>([opened("Ada"), shut()]).when(Command::Shut).then_nothing();
    given::<Door>([opened("Ada")]).then_state(Some("Ada".to_owned()));

    given_process::<Porter>([opened("Ada")]).when(opened("Bob")).then(["shut it"]);
    given_process::<Porter>([opened("Ada"), shut()]).when(Opened { by: "Bob".to_owned() }).then_nothing();
}

#[test]
fn a_failure_shows_what_led_there_and_the_lines_that_differ() {
    let test = || given::<Door>([opened("Ada"), shut()]).when(open("Bob")).then([opened("Cleo"), shut()]);
    let expected = r#"given
  Opened(Opened { by: "Ada" })
  Shut(Shut)
when
  Open { by: "Bob" }
then (- expected, + actual)
  Ok(
      [
          Opened(
              Opened {
-                 by: "Cleo",
+                 by: "Bob",
              },
-         ),
-         Shut(
-             Shut,
          ),
      ],
  )
"#;
    assert_eq!(failure(test).0, expected);
}

#[test]
fn a_refusal_is_shown_where_events_were_expected() {
    let (said, _) = failure(|| given::<Door>([opened("Ada")]).when(open("Bob")).then([]));
    let expected = r#"given
  Opened(Opened { by: "Ada" })
when
  Open { by: "Bob" }
then (- expected, + actual)
- Ok(
-     [],
+ Err(
+     StandsOpen {
+         by: "Ada",
+     },
  )
"#;
    assert_eq!(said, expected);
}

#[test]
fn a_state_is_shown_under_its_history_alone() {
    let (said, _) = failure(|| given::<Door>([]).then_state(Some("Ada".to_owned())));
    let expected = r#"given
  nothing
then (- expected, + actual)
- Some(
-     "Ada",
- )
+ None
"#;
    assert_eq!(said, expected);
}

#[test]
fn every_failure_is_at_the_line_of_the_test() {
    let ada = || StandsOpen { by: "Ada".to_owned() };
    let tests: [(u32, &dyn Fn()); 7] = [
        (line!(), &|| given::<Door>([]).when(open("Ada")).then([])),
        (line!(), &|| given::<Door>([]).when(open("Ada")).then_nothing()),
        (line!(), &|| given::<Door>([]).when(open("Ada")).then_refused(ada())),
        (line!(), &|| given::<Door>([opened("Bob")]).when(open("Eve")).then_refused(ada())),
        (line!(), &|| given::<Door>([]).then_state(Some("Ada".to_owned()))),
        (line!(), &|| given_process::<Porter>([opened("Ada")]).when(opened("Bob")).then(["lock it"])),
        (line!(), &|| given_process::<Porter>([opened("Ada")]).when(opened("Bob")).then_nothing()),
    ];
    for (line, test) in tests {
        assert_eq!(failure(test).1, (file!().to_owned(), line));
    }
}

#[test]
fn a_missing_folder_of_golden_files_is_named() {
    let (said, (file, _)) = failure(|| assert_golden::<Event>("/nowhere"));
    assert!(said.starts_with("/nowhere: "), "{said}");
    assert_eq!(file, file!());
}

#[test]
fn a_snapshot_that_would_be_believed_in_vain_is_noticed() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/src/testing/door.json");
    assert_snapshot::<Door>([opened("Bob"), shut(), opened("Ada")], file);
    // As when the fold were another one: the number was not raised.
    let (said, (place, _)) = failure(|| assert_snapshot::<Door>([opened("Eve")], file));
    assert!(
        said.contains("raise the number of Snapshots::json for door") && said.contains("+   \"state\": \"Eve\""),
        "{said}"
    );
    assert_eq!(place, file!());
    let (said, _) = failure(|| assert_snapshot::<Door>([opened("Ada")], "/nowhere"));
    assert!(said.starts_with("snapshots of door have a new form; let /nowhere say so\n"), "{said}");
}

/// What a failing assertion said, and in which file and line.
fn failure(assertion: impl Fn()) -> (String, (String, u32)) {
    thread_local!(static PLACE: Cell<Option<(String, u32)>> = const { Cell::new(None) });
    static HOOKED: Once = Once::new();
    // A panic tells its place to the hook only.
    HOOKED.call_once(|| {
        let usual = take_hook();
        set_hook(Box::new(move |panic| {
            PLACE.set(panic.location().map(|at| (at.file().to_owned(), at.line())));
            usual(panic);
        }));
    });
    let panic = catch_unwind(AssertUnwindSafe(assertion)).expect_err("the assertion holds");
    (panic.downcast_ref::<String>().unwrap().clone(), PLACE.take().unwrap())
}
