//! The guide's steps over a Postgres: what is sent is folded live, its questions are answered as it says, and a rebuild and a
//! new version change nothing but what they should.

use std::sync::Arc;

use event_store::MemoryEventStore;
use projections::runtime::{self, Context, Projector, runs};
use reqwest::Client;
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, Executor as _};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use write_side::{Executor, http, registry};

use super::guide::text;
use super::{later, read_models};
use crate::docs::{Step, blocks, steps};
use crate::support::{Database, until_so};

/// Where the guide's server listens.
const GUIDES_SERVER: &str = "http://localhost:8080";

/// A shop with the read models of the guide and no others, its log in memory.
struct Shop {
    context: Context,
    server: String,
    serving: JoinHandle<()>,
}

impl Shop {
    async fn open() -> Self {
        let database = Database::create_with_its_log().await;
        let pool = runtime::pool(&database.url.parse::<PgConnectOptions>().unwrap()).await.unwrap();
        runtime::migrator().run(&pool).await.unwrap();
        let context = Context::new(Arc::new(MemoryEventStore::new()), pool);
        let router = http::router(Executor::new(context.store.clone()), registry(), http::BODY_LIMIT);
        let router = access::guard(router, &access::Gate::open());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = format!("http://{}", listener.local_addr().unwrap());
        let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { context, server, serving }
    }

    /// Sends what the guide sends. Answers how much that was.
    async fn send(&self, guide: &str) -> usize {
        let (client, mut order, mut sent) = (Client::new(), String::new(), 0);
        for Step { command, .. } in steps(guide) {
            if let Some(id) = command.strip_prefix("ORDER=") {
                order = id.to_owned();
            }
            let Some(call) = command.strip_prefix("curl -s ") else { continue };
            let (url, body) = call.split_once(" --json ").expect(call);
            let url = url.replace("$ORDER", &order).replace(GUIDES_SERVER, &self.server);
            let body = body.trim().trim_matches('\'').to_owned();
            let request = client.post(url).header("content-type", "application/json").body(body);
            let response = request.send().await.unwrap();
            let status = response.status();
            assert!(status.is_success(), "{command}: {status} {}", response.text().await.unwrap());
            sent += 1;
        }
        sent
    }

    /// Lets a read model follow the log to its end, in the version that it has.
    async fn follow(&self, model: &Arc<dyn Projector>) {
        let (stop, stopped) = watch::channel(false);
        let running = tokio::spawn({
            let (model, context) = (model.clone(), self.context.clone());
            async move { model.run(context, stopped).await }
        });
        until_so(async || self.live_version(model.name()).await == model.version()).await;
        let head = self.context.store.head().await.unwrap().unwrap();
        model.reached(&self.context, head).await.unwrap();
        stop.send_replace(true);
        running.await.unwrap();
    }

    async fn live_version(&self, name: &str) -> i32 {
        let generations = runtime::generations(&self.context.pool).await.unwrap();
        generations.into_iter().find(|one| one.name == name && one.state == runtime::State::Live).unwrap().version
    }

    /// The answer to a question, a line a row.
    async fn ask(&self, sql: &str) -> Result<String, sqlx::Error> {
        let sql = format!("select q::text from ({}) q", sql.trim().trim_end_matches(';'));
        let rows: Vec<String> = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_all(&self.context.pool).await?;
        Ok(rows.join("\n"))
    }
}

/// The questions of the guide, each with the answer that it prints.
fn questions(guide: &str) -> Vec<(String, String)> {
    let blocks = blocks(guide);
    let pairs = blocks.windows(2).filter(|pair| pair[0].text.starts_with("select ") && pair[1].language() == "text");
    // Behind the head and its line, before the count.
    let answer = |text: &str| {
        let rows = text.lines().skip(2).take_while(|line| !line.starts_with('('));
        let row = |row: &str| format!("({})", row.split('|').map(str::trim).collect::<Vec<_>>().join(","));
        rows.map(row).collect::<Vec<_>>().join("\n")
    };
    pairs.map(|pair| (pair[0].text.clone(), answer(&pair[1].text))).collect()
}

#[tokio::test]
async fn the_guides_read_model_is_followed_rebuilt_and_replaced_by_its_next_version() {
    let (shop, guide) = (Shop::open().await, text());
    let [first]: [Arc<dyn Projector>; 1] = read_models().try_into().ok().unwrap();
    let questions = questions(&guide);
    let [(one, answer), (two, answer_of_two)] = &questions[..] else { panic!("{questions:?}") };

    first.prepare(&shop.context.pool).await.unwrap();
    assert_eq!(shop.ask(one).await.unwrap(), "");
    assert_eq!(shop.send(&guide).await, 4);
    shop.follow(&first).await;
    assert_eq!(shop.ask(one).await.unwrap(), *answer);

    let everything = "select (select json_agg(d) from read.dispatch_times d)::text,
        (select json_agg(w) from read.dispatch_times_waiting w)::text";
    let live = shop.ask(everything).await.unwrap();
    assert!(live.contains("France") && live.contains("Norway"), "{live}");
    first.rebuild(&shop.context, &|_| {}).await.unwrap();
    assert_eq!(shop.ask(everything).await.unwrap(), live);

    // An analyst's view goes on through the new version, which has one more column.
    let view = "create view days as select * from read.dispatch_times";
    shop.context.pool.execute(view).await.unwrap();
    assert!(shop.ask(two).await.unwrap_err().to_string().contains("longest_seconds"));
    let second = runs::<later::dispatch_times::DispatchTimes>();
    second.prepare(&shop.context.pool).await.unwrap();
    assert_eq!(shop.live_version("dispatch_times").await, 1);
    shop.follow(&second).await;
    assert_eq!(shop.ask(two).await.unwrap(), *answer_of_two);
    assert_eq!(shop.ask(&one.replace("read.dispatch_times", "days")).await.unwrap(), *answer);
    shop.serving.abort();
}

#[tokio::test]
async fn the_check_can_fail() {
    let shop = Shop::open().await;
    let [first]: [Arc<dyn Projector>; 1] = read_models().try_into().ok().unwrap();
    first.prepare(&shop.context.pool).await.unwrap();
    let guide = text().replace("\"country\": \"France\", \"currency\"", "\"country\": \"Spain\", \"currency\"");
    shop.send(&guide).await;
    shop.follow(&first).await;
    let (question, answer) = questions(&guide).swap_remove(0);
    assert_ne!(shop.ask(&question).await.unwrap(), answer);
    shop.serving.abort();
}
