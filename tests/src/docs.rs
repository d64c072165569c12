//! What the documentation says of settings, files, queries and output, held against the binary; and how its pages are
//! read.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use sqlx::AssertSqlSafe;
use tokio::process::Command;
use uuid::Uuid;

use crate::support::{Database, Server, client, root, storefold, until, until_so};

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
        if !environment.contains(&format!("`STOREFOLD_{}`", key.to_uppercase().replace('.', "_"))) {
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
    assert!(keys(&printed).len() >= 25, "{printed}");
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
    assert_eq!(flags.len(), 11, "{flags:?}");
    let has =
        |name: &str| help.lines().any(|line| line.trim() == name || line.trim().starts_with(&format!("{name} <")));
    for flag in flags {
        let name = flag.split('`').nth(1).unwrap();
        assert!(has(name), "{name} is no flag of serve");
    }
    assert!(!has("--fulfill") && !has("--full"));
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
        None => match line.split_once(" s later; ") {
            Some((_, outcome)) => format!("the checkouts: {outcome}\n"),
            None => {
                match ["the read models had caught up ", "  \"seconds\": ", "  \"fold_seconds\": ", "    \"seconds\": "]
                    .into_iter()
                    .find(|start| line.starts_with(start))
                {
                    Some(start) => format!("{start}\n"),
                    None => format!("{line}\n"),
                }
            }
        },
    };
    printed.lines().map(line).collect()
}

#[tokio::test]
async fn an_import_prints_what_its_page_says() {
    let (database, folder, page) = (Database::create().await, tempfile::tempdir().unwrap(), page("import.md"));
    write_files(&page, folder.path());
    let steps = steps(&page);
    assert_eq!(steps.len(), 6);
    for Step { command, printed } in steps {
        let came = run(&command, folder.path(), Some(&database)).await;
        assert_eq!(timeless(&came), timeless(&printed), "{command}");
    }
    // What the page says of the example's ids and of running it again.
    let order = "select count(*) from log.events where stream = 'order-82e30c39-df69-5fc4-a1b8-31619f561294'";
    let customer = "select count(*) from log.events where stream = 'customer-be80f38c-b956-5175-b622-cbd50def395a'";
    assert_eq!((database.number(order).await, database.number(customer).await), (1, 1));
    assert_eq!(database.number("select count(*) from read.orders where status = 'recorded'").await, 2);
    // 96 were recorded; two were sold since.
    assert_eq!(database.number("select on_hand from read.products where sku = 'TEA-002'").await, 94);
    for (reference, end) in [("W49-1", "completed"), ("W49-2", "rejected")] {
        let status = sqlx::query_scalar::<_, String>("select status from read.orders where reference = $1");
        assert_eq!(status.bind(reference).fetch_one(&database.pool).await.unwrap(), end, "{reference}");
    }
    assert_eq!(database.number("select count(*) from sandbox.movements where kind = 'capture'").await, 1);
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

/// Places an order for two mugs at 9.50 GBP. Answers its id.
async fn order_mugs(server: &Server, card: &str) -> Uuid {
    let order = Uuid::now_v7();
    let line = json!({ "sku": "MUG-1", "quantity": 2, "unit_price_minor": 950 });
    let body = json!({ "country": "France", "currency": "GBP", "card": card, "lines": [line] });
    server.done(&format!("/v1/order/{order}/place"), body).await;
    order
}

/// Waits until an order's checkout is in a state, by what its page says of it.
async fn until_checkout(server: &Server, order: Uuid, wanted: &str) {
    let query = "query ($id: UUID!) { checkout(orderId: $id) { state } }";
    until_so(async || server.query(query, json!({ "id": order }), None).await["checkout"]["state"] == wanted).await;
}

/// The timeline of an order as a page prints it, an entry a line.
fn entries(timeline: &Value) -> Vec<String> {
    let entry = |entry: &Value| {
        let detail = entry["detail"].as_str().unwrap_or_default();
        format!("{:28}{detail}", entry["what"].as_str().unwrap()).trim_end().to_owned()
    };
    timeline.as_array().unwrap().iter().map(entry).collect()
}

/// A timeline without what is another every time: the parcel's number, and the order of what goes on side by side once the
/// goods have left.
fn settled(timeline: &[String]) -> Vec<String> {
    let left = timeline.iter().position(|entry| entry.starts_with("SHIPMENT_DISPATCHED"));
    let (before, after) = timeline.split_at(left.map_or(timeline.len(), |at| at + 1));
    let numberless = |entry: &String| match entry.split_once("Sandbox Post ") {
        Some((what, _)) => format!("{what}Sandbox Post"),
        None => entry.clone(),
    };
    let mut after = after.to_vec();
    after.sort();
    before.iter().map(numberless).chain(after).collect()
}

#[tokio::test]
async fn the_page_of_the_checkout_shows_what_is_so() {
    let (database, page) = (Database::create().await, page("checkout.md"));
    let server = Server::start_with(&database, &["--fulfil"]).await;
    server.done("/v1/stock/MUG-1/receive", json!({ "quantity": 10 })).await;
    let (well, declined) = (order_mugs(&server, "tok_approved").await, order_mugs(&server, "tok_declined").await);
    until_checkout(&server, well, "COMPLETED").await;
    until_checkout(&server, declined, "UNDONE").await;
    let part = json!({ "amount": { "minor": 400, "currency": "GBP" }, "reason": "chipped" });
    let timeline = "query ($id: UUID!) { order(id: $id) { timeline { what detail } payment { refunded { minor } } } }";
    let shown = async |order: Uuid| server.query(timeline, json!({ "id": order }), None).await["order"].clone();
    for (name, order) in [("timeline=well", well), ("timeline=declined", declined)] {
        let block = blocks(&page).into_iter().find(|block| block.info.ends_with(name)).expect(name);
        let told: Vec<String> = block.text.lines().map(str::to_owned).collect();
        assert_eq!(settled(&entries(&shown(order).await["timeline"])), settled(&told), "{name}");
    }
    server.done(&format!("/v1/payment/{well}/refund"), part).await;
    until_so(async || shown(well).await["payment"]["refunded"]["minor"] == 400).await;

    let entries = "select array[entry_no::text, movement, account, amount_minor::text]
        from read.ledger_entries where payment_id = $1 order by entry_no";
    let entries = async || sqlx::query_scalar::<_, Vec<String>>(entries).bind(well).fetch_all(&database.pool).await;
    until_so(async || entries().await.unwrap().len() == 8).await;
    let cells = |line: &str| line.trim_matches('|').split('|').map(|cell| cell.trim().replace('−', "-")).collect();
    let table = page.lines().skip_while(|line| !line.starts_with("| entry |")).skip(2);
    let told: Vec<Vec<String>> = table.take_while(|line| line.starts_with('|')).map(cells).collect();
    assert_eq!(entries().await.unwrap(), told);

    let (mut asked, mut selected) = (0, 0);
    for block in blocks(&page) {
        match block.language() {
            "graphql" => {
                server.query(&block.text, json!({ "id": well }), None).await;
                asked += 1;
            }
            "sql" => {
                let rows = sqlx::query(AssertSqlSafe(block.text.clone())).fetch_all(&database.pool).await;
                let rows = rows.unwrap_or_else(|error| panic!("{error}: {}", block.text));
                assert!(!block.info.ends_with(" empty") || rows.is_empty(), "{}", block.text);
                selected += 1;
            }
            _ => {}
        }
    }
    assert_eq!((asked, selected), (3, 7));
}

#[tokio::test]
async fn what_is_parked_is_shown_and_let_try_again_as_the_page_says() {
    let (database, page, folder) = (Database::create().await, page("checkout.md"), tempfile::tempdir().unwrap());
    let server = Server::start(&database).await;
    server.done("/v1/stock/MUG-1/receive", json!({ "quantity": 10 })).await;
    let order = order_mugs(&server, "tok_slow").await;
    let requested = "select count(*) from read.payments where status = 'requested'";
    until_so(async || database.number(requested).await == 1).await;
    server.done(&format!("/v1/order/{order}/confirm"), json!({})).await;
    until_checkout(&server, order, "PARKED").await;
    // The book is written after the event that says so.
    let in_the_book = "select count(*) from process.instances where parked_on is not null";
    until_so(async || database.number(in_the_book).await == 1).await;

    let steps = steps(&page);
    let [parked, retried] = &steps[..] else { panic!("{steps:?}") };
    let told: Vec<Value> = serde_json::from_str(&parked.printed).unwrap();
    let example = told[0]["instance"].as_str().unwrap();
    let as_told = |text: &str| text.replace(&order.to_string(), example);
    let came = as_told(&run(&parked.command, folder.path(), Some(&database)).await);
    let timeless = |text: &str| {
        let mut rows: Vec<Value> = serde_json::from_str(text).unwrap();
        for row in &mut rows {
            assert!(row["event"].is_string() && row["since"].is_string(), "{row}");
            (row["event"], row["since"]) = (Value::Null, Value::Null);
        }
        rows
    };
    assert_eq!(timeless(&came), timeless(&parked.printed));

    // The way out that the page names.
    server.done(&format!("/v1/order/{order}/call-off"), json!({ "reason": "a muddle" })).await;
    let command = retried.command.replace(example, &order.to_string());
    assert_ne!(command, retried.command);
    assert_eq!(as_told(&run(&command, folder.path(), Some(&database)).await), retried.printed);
    let given_up = "select count(*) from read.payments where status in ('voiding', 'voided')";
    until_so(async || database.number(given_up).await == 1).await;
}

/// What the gateway refuses is for a person: asked again by `retry`, or done by hand, after which the checkout goes on
/// without being told to. The others go on meanwhile.
#[tokio::test]
async fn what_the_gateway_refuses_is_parked_and_helped_as_the_page_says() {
    let (database, folder) = (Database::create().await, tempfile::tempdir().unwrap());
    let server = Server::start_with(&database, &["--fulfil"]).await;
    server.done("/v1/stock/MUG-1/receive", json!({ "quantity": 10 })).await;
    let retried = order_mugs(&server, "tok_capture_refused").await;
    let by_hand = order_mugs(&server, "tok_capture_refused").await;
    until_checkout(&server, retried, "PARKED").await;
    until_checkout(&server, by_hand, "PARKED").await;
    let another = order_mugs(&server, "tok_approved").await;
    until_checkout(&server, another, "COMPLETED").await;

    let rows: Vec<Value> =
        serde_json::from_str(&run("storefold parked --json", folder.path(), Some(&database)).await).unwrap();
    let why = "the goods are gone, and the money could not be taken";
    assert_eq!((rows.len(), &rows[0]["why"], &rows[1]["why"]), (2, &json!(why), &json!(why)));
    run(&format!("storefold retry {retried}"), folder.path(), Some(&database)).await;
    let amount = json!({ "amount": { "minor": 1900, "currency": "GBP" } });
    server.done(&format!("/v1/payment/{by_hand}/capture"), amount).await;
    until_checkout(&server, retried, "COMPLETED").await;
    until_checkout(&server, by_hand, "COMPLETED").await;
    let left = "select count(*) from process.instances";
    until_so(async || database.number(left).await == 0).await;
}

/// The events, steps and accounts that the page names are those of the shop.
#[test]
fn the_page_of_the_checkout_names_events_steps_and_accounts_that_are_there() {
    let page = page("checkout.md");
    let lock = fs::read_to_string(root().join("events.lock")).unwrap();
    let stored = page.split('`').skip(1).step_by(2).filter(|word| {
        ["Order", "Payment", "Shipment", "Checkout", "Stock"].iter().any(|start| word.starts_with(start))
            && word.chars().all(char::is_alphabetic)
    });
    let stored: BTreeSet<&str> = stored.collect();
    assert!(stored.len() >= 6, "{stored:?}");
    for event in stored {
        assert!(lock.contains(&format!("\"{event}\"")), "no event is stored as {event}");
    }
    let ledger = fs::read_to_string(root().join("projections/src/payments_ledger/mod.rs")).unwrap();
    for account in ["holds", "holds_contra", "cash", "sales", "refunds"] {
        assert!(page.contains(&format!("| `{account}` |")) && ledger.contains(&format!("\"{account}\"")), "{account}");
    }
    let stage = fs::read_to_string(root().join("projections/src/checkouts/stage.rs")).unwrap();
    for step in ["reserving", "paying", "confirming", "dispatching", "delivering", "completing", "undoing", "done"] {
        assert!(page.contains(&format!("| `{step}` |")) && stage.contains(&format!("\"{step}\"")), "{step}");
    }
}

/// What the shell makes of the double-quoted text that begins behind `start`, with this order for `$order`.
fn double_quoted(text: &str, start: &str, order: Uuid) -> String {
    let mut characters = text.split_once(start).expect(start).1.chars();
    let mut quoted = String::new();
    while let Some(character) = characters.next() {
        match character {
            '"' => break,
            '\\' => quoted.extend(characters.next().filter(|escaped| *escaped != '\n')),
            _ => quoted.push(character),
        }
    }
    quoted.replace("$order", &order.to_string())
}

#[tokio::test]
async fn the_tour_goes_as_the_readme_says() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let database = Database::create().await;
    let mut server = Server::start_with(&database, &["--fulfil"]).await;
    let token = readme.split_once("auth=\"Authorization: Bearer $(target/release/storefold ").unwrap().1;
    let token: Vec<&str> = token.split_once(')').unwrap().0.split(' ').collect();
    server.client = client(database.run_well(&token).await.trim());
    for call in readme.split("curl ").skip(1) {
        assert!(
            call.replace("-i ", "").replace("-s ", "").split("-d ").next().unwrap().contains("-H \"$auth\""),
            "{call}"
        );
    }
    let body = |path: &str| -> Value {
        let behind = readme.split_once(path).expect(path).1;
        let body = behind.split_once("-d '").and_then(|(_, rest)| rest.split_once('\'')).expect(path).0;
        serde_json::from_str(body).unwrap_or_else(|error| panic!("{path}: {error}: {body}"))
    };
    server.done("/v1/product/MUG-1/list", body("/v1/product/MUG-1/list")).await;
    server.done("/v1/stock/MUG-1/receive", body("/v1/stock/MUG-1/receive")).await;
    let order = Uuid::now_v7();
    let mut cart = body("/v1/order/$order/place");
    let answer = server.done(&format!("/v1/order/{order}/place"), cart.clone()).await;

    let query: Value = serde_json::from_str(&double_quoted(&readme, "-d \"", order)).unwrap();
    let query = query["query"].as_str().unwrap();
    let at_once = server.query(query, json!({}), answer["position"].as_str()).await;
    assert_eq!(at_once["order"]["total"], json!({ "amount": "19.00", "currency": "GBP" }));
    let seen = until(async || {
        let order = server.query(query, json!({}), None).await["order"].clone();
        (order["status"] == "COMPLETED").then_some(order)
    })
    .await;
    assert_eq!((&seen["payment"]["status"], &seen["shipment"]["status"]), (&json!("CAPTURED"), &json!("DELIVERED")));
    assert_eq!(seen["timeline"].as_array().unwrap().len(), 11);

    // Order once more.
    let card = cart["card"].take();
    for (card, quantity, reason) in
        [("tok_declined", 2, "insufficient funds"), (card.as_str().unwrap(), 200, "MUG-1: 200 asked for, 8 available")]
    {
        let order = Uuid::now_v7();
        (cart["card"], cart["lines"][0]["quantity"]) = (json!(card), json!(quantity));
        server.done(&format!("/v1/order/{order}/place"), cart.clone()).await;
        until_checkout(&server, order, "UNDONE").await;
        let state = server.get(&format!("/v1/order/{order}")).await.json::<Value>().await.unwrap()["state"].clone();
        assert_eq!((&state["status"], &state["reason"]), (&json!("rejected"), &json!(reason)));
    }
    cart["card"] = Value::Null;
    let refused = server.command(&format!("/v1/order/{}/place", Uuid::now_v7()), &cart).send().await.unwrap();
    assert_eq!(refused.status(), 422);
    let stock = server.get("/v1/stock/MUG-1").await.json::<Value>().await.unwrap()["state"].clone();
    assert_eq!((&stock["on_hand"], &stock["reserved"]), (&json!(8), &json!(0)));
}

/// A heading as it is named in a link.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().to_lowercase();
    kept.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c)).map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// The links of a page that lead nowhere. `read` answers what is in a file beside it, or that a folder is there.
fn dead_links(markdown: &str, read: impl Fn(&str) -> Option<String>) -> Vec<String> {
    let mut dead = Vec::new();
    // A link may be broken over two lines; what stands in a block of code is none.
    let prose: String = markdown.split("\n```").step_by(2).collect::<Vec<_>>().join("\n");
    for rest in prose.split("](").skip(1) {
        let link = rest.split(')').next().unwrap();
        if link.contains("://") {
            continue;
        }
        let (file, heading) = link.split_once('#').unwrap_or((link, ""));
        let page = if file.is_empty() { Some(markdown.to_owned()) } else { read(file) };
        let headings = |page: &str| -> BTreeSet<String> {
            page.lines().filter(|line| line.starts_with('#')).map(|line| anchor(line.trim_start_matches('#'))).collect()
        };
        match page {
            Some(page) if heading.is_empty() || headings(&page).contains(heading) => {}
            _ => dead.push(link.to_owned()),
        }
    }
    dead
}

#[test]
fn every_link_leads_somewhere() {
    let mut pages: Vec<_> =
        ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md"].map(|page| root().join(page)).into();
    for folder in ["docs", "docs/adr"] {
        let files = fs::read_dir(root().join(folder)).unwrap().map(|entry| entry.unwrap().path());
        pages.extend(files.filter(|path| path.extension().is_some_and(|ending| ending == "md")));
    }
    assert!(pages.len() >= 14, "{pages:?}");
    for path in pages {
        let read = |link: &str| {
            let target = path.parent().unwrap().join(link);
            if target.is_dir() { Some(String::new()) } else { fs::read_to_string(target).ok() }
        };
        let page = fs::read_to_string(&path).unwrap();
        assert_eq!(dead_links(&page, read), [""; 0], "{}", path.display());
    }
    // And the check can fail.
    let read = |file: &str| (file == "a.md").then(|| "# A, b\n".to_owned());
    let page = "[1](a.md) [2](a.md#a-b) [3](#here)\n## Here\n[4](b.md) [5](a.md#b) [6](#there) [7](https://x/#y)";
    assert_eq!(dead_links(page, read), ["b.md", "a.md#b", "#there"]);
}
