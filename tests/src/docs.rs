//! What the documentation says of settings, files and output, held against the binary; and how its pages are read.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use tokio::process::Command;

use crate::support::{Database, root, storefold};

/// A page of the documentation.
pub(crate) fn page(name: &str) -> String {
    fs::read_to_string(root().join("docs").join(name)).unwrap()
}

/// A fenced block: what stands behind the fence, and what it holds.
pub(crate) struct Block {
    info: String,
    pub(crate) text: String,
}

impl Block {
    pub(crate) fn language(&self) -> &str {
        self.info.split(' ').next().unwrap_or_default()
    }

    /// The file whose whole content the block is: ` ```toml file=shop.toml `.
    pub(crate) fn file(&self) -> Option<&str> {
        self.info.split(' ').find_map(|word| word.strip_prefix("file="))
    }
}

/// The fenced blocks of a page, in order.
pub(crate) fn blocks(markdown: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut lines = markdown.lines();
    while let Some(line) = lines.next() {
        let Some(info) = line.strip_prefix("```") else { continue };
        let text: String = lines.by_ref().take_while(|line| *line != "```").map(|line| format!("{line}\n")).collect();
        blocks.push(Block { info: info.to_owned(), text });
    }
    blocks
}

/// A command at the shell, and what the page says it prints.
#[derive(Debug, Clone)]
pub(crate) struct Step {
    pub(crate) command: String,
    pub(crate) printed: String,
}

/// The steps of the `console` blocks of a page, in order.
pub(crate) fn steps(markdown: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for block in blocks(markdown).iter().filter(|block| block.language() == "console") {
        let text = block.text.replace("\\\n", " ");
        let mut lines = text.lines().peekable();
        while let Some(command) = lines.next().and_then(|line| line.strip_prefix("$ ")) {
            let mut printed = String::new();
            while let Some(line) = lines.next_if(|line| !line.starts_with("$ ")) {
                printed.push_str(line);
                printed.push('\n');
            }
            steps.push(Step { command: command.to_owned(), printed });
        }
    }
    steps
}

/// Writes the files of a page into a folder.
fn write_files(markdown: &str, folder: &Path) {
    for block in blocks(markdown) {
        if let Some(file) = block.file() {
            fs::write(folder.join(file), block.text).unwrap();
        }
    }
}

/// Runs a line such as `A=b storefold config` in a folder and answers what it prints. Nothing else is in its environment.
async fn run(line: &str, folder: &Path, database: Option<&Database>) -> String {
    let mut command = Command::new(storefold());
    command.current_dir(folder).env_clear();
    if let Some(database) = database {
        command.env("DATABASE_URL", &database.url);
    }
    for word in line.split(' ').filter(|word| *word != "storefold") {
        match word.split_once('=') {
            Some((name, value)) => command.env(name, value),
            None => command.arg(word),
        };
    }
    let output = command.output().await.unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(!output.stdout.is_empty(), "{line}: {}\n{complaint}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

/// The keys in what `storefold config` prints, set or not.
fn keys(printed: &str) -> BTreeSet<String> {
    let key = |line: &str| {
        let line = line.strip_prefix("# ").unwrap_or(line);
        let (key, rest) = line.split_once(' ')?;
        (rest.starts_with("= ") || rest.starts_with("is not set")).then(|| key.to_owned())
    };
    printed.lines().filter_map(key).collect()
}

/// The rows of the table of settings: the key, and the cells behind it.
fn rows(markdown: &str) -> Vec<(String, Vec<String>)> {
    let cells = |line: &str| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>();
    let section = markdown.split("\n## Settings\n").nth(1).and_then(|rest| rest.split("\n## ").next()).unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| `")).map(cells);
    rows.map(|mut row| (row.remove(0).trim_matches('`').to_owned(), row)).collect()
}

/// What the table of settings says that is not so.
fn wrong_settings(markdown: &str, printed: &str) -> Vec<String> {
    let (known, rows) = (keys(printed), rows(markdown));
    let told: BTreeSet<String> = rows.iter().map(|(key, _)| key.clone()).collect();
    let mut wrong: Vec<String> = known.difference(&told).map(|key| format!("{key} is not told")).collect();
    wrong.extend(told.difference(&known).map(|key| format!("{key} is no setting")));
    for (key, cells) in &rows {
        let [environment, _, default, _] = &cells[..] else {
            wrong.push(format!("{key} has {} cells", cells.len()));
            continue;
        };
        if !environment.contains(&format!("`STOREFOLD_{}`", key.to_uppercase())) {
            wrong.push(format!("{key} has another variable than {environment}"));
        }
        let value =
            printed.lines().find_map(|line| line.strip_prefix(&format!("{key} = "))?.strip_suffix(" # default"));
        // A list is written with commas everywhere but in a file.
        let value = value.map(|value| value.replace(['"', '[', ']', ' '], ""));
        let right = value.as_ref().map_or(default.starts_with("none: "), |value| *default == format!("`{value}`"));
        if !right {
            wrong.push(format!("{key} is {} by default, not {default}", value.as_deref().unwrap_or("not set")));
        }
    }
    wrong
}

#[tokio::test]
async fn every_setting_is_told_and_none_that_is_not_there() {
    let folder = tempfile::tempdir().unwrap();
    let printed = run("storefold config", folder.path(), None).await;
    let page = page("configuration.md");
    assert!(keys(&printed).len() >= 11, "{printed}");
    assert_eq!(wrong_settings(&page, &printed), [""; 0]);
    // And the check can fail.
    assert_eq!(wrong_settings(&page, &format!("{printed}new = 1 # default\n")), ["new is not told"]);
    for (from, to) in [
        ("| `log_filter` | `STOREFOLD_LOG_FILTER`", "| `log_filter` | `STOREFOLD_LOG`"),
        ("| `1048576` |", "| `1048577` |"),
        ("| none: the log is in the database |", "| `memory:` |"),
    ] {
        assert!(page.contains(from), "{from}");
        assert_eq!(wrong_settings(&page.replace(from, to), &printed).len(), 1, "{from}");
    }
    assert_eq!(wrong_settings(&page.replace("| `listen` |", "| `lisen` |"), &printed).len(), 4);
}

/// Every flag that is told is there, and says in its help what it is.
#[tokio::test]
async fn every_flag_of_a_setting_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let help = run("storefold serve --help", folder.path(), None).await;
    let page = page("configuration.md");
    let flags: Vec<String> =
        rows(&page).into_iter().map(|(_, cells)| cells[1].clone()).filter(|flag| !flag.is_empty()).collect();
    assert_eq!(flags.len(), 7, "{flags:?}");
    for flag in flags {
        let name = flag.split('`').nth(1).unwrap();
        assert!(help.contains(&format!("{name} <")), "{name} is no flag of serve");
    }
}

#[tokio::test]
async fn the_example_configuration_loads_as_it_says() {
    let (folder, page) = (tempfile::tempdir().unwrap(), page("configuration.md"));
    write_files(&page, folder.path());
    let mut taken = 0;
    for Step { command, printed } in steps(&page) {
        if command.contains(" config") {
            assert_eq!(run(&command, folder.path(), None).await, printed, "{command}");
            taken += 1;
        }
    }
    assert_eq!(taken, 2);
    // The example has every setting.
    let printed = run("storefold --config shop.toml config", folder.path(), None).await;
    assert_eq!(printed.matches(" # shop.toml\n").count(), keys(&printed).len(), "{printed}");
}

/// What an import prints, without what is another every time: how long it took.
fn timeless(printed: &str) -> String {
    let line = |line: &str| match line.split_once(" lines in ").zip(line.split_once("): ")) {
        Some(((lines, _), (_, outcome))) => format!("{lines} lines: {outcome}\n"),
        None => match ["the read models had caught up ", "  \"seconds\": ", "  \"fold_seconds\": "]
            .into_iter()
            .find(|start| line.starts_with(start))
        {
            Some(start) => format!("{start}\n"),
            None => format!("{line}\n"),
        },
    };
    printed.lines().map(line).collect()
}

#[tokio::test]
async fn an_import_prints_what_its_page_says() {
    let (database, folder, page) = (Database::create().await, tempfile::tempdir().unwrap(), page("import.md"));
    write_files(&page, folder.path());
    let steps = steps(&page);
    assert_eq!(steps.len(), 4);
    for Step { command, printed } in steps {
        let came = run(&command, folder.path(), Some(&database)).await;
        assert_eq!(timeless(&came), timeless(&printed), "{command}");
    }
    // What the page says of the example's ids and of running it again.
    let order = "select count(*) from log.events where stream = 'order-82e30c39-df69-5fc4-a1b8-31619f561294'";
    let customer = "select count(*) from log.events where stream = 'customer-be80f38c-b956-5175-b622-cbd50def395a'";
    assert_eq!((database.number(order).await, database.number(customer).await), (1, 1));
    assert_eq!(database.number("select on_hand from read.products where sku = 'TEA-002'").await, 96);
    assert_eq!(database.number("select count(*) from read.orders").await, 2);
    for id in ["82e30c39-df69-5fc4-a1b8-31619f561294", "be80f38c-b956-5175-b622-cbd50def395a"] {
        assert!(page.contains(id));
    }
}

/// The page warns of it, so it had better be so: a second file of one source counts from the start.
#[tokio::test]
async fn an_equal_delivery_of_another_file_wants_another_source() {
    let (database, folder) = (Database::create().await, tempfile::tempdir().unwrap());
    for file in ["monday.ndjson", "tuesday.ndjson"] {
        fs::write(folder.path().join(file), "{\"kind\":\"stock\",\"sku\":\"A\",\"quantity\":5}\n").unwrap();
    }
    let on_hand = "select on_hand from read.products where sku = 'A'";
    for (line, expected) in [
        ("storefold import monday.ndjson", 5),
        ("storefold import tuesday.ndjson", 5),
        ("storefold import tuesday.ndjson --source tuesday", 10),
    ] {
        run(line, folder.path(), Some(&database)).await;
        assert_eq!(database.number(on_hand).await, expected, "{line}");
    }
}
