//! A shop's read models in a database of their own, with the API in front of them.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use access::{Caller, CustomerId, Scopes};
use async_trait::async_trait;
use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use chrono::{DateTime, Utc};
use read_api::{Config, CursorKey, LogError, LogHead, Position};
use reqwest::{Client, RequestBuilder, StatusCode};
use serde_json::{Value, json};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{AssertSqlSafe, Connection, PgConnection, PgPool};
use tokio::sync::watch;
use uuid::Uuid;

pub(crate) const READ_MODELS: [(&str, &[&str]); 9] = [
    ("orders", &["orders", "order_lines", "order_timeline"]),
    ("products", &["products"]),
    ("stock_movements", &["stock_movements"]),
    ("customers", &["customers", "customer_spend"]),
    ("sales_daily", &["sales_daily"]),
    ("product_sales", &["product_sales"]),
    ("payments_ledger", &["ledger_entries", "payments", "payment_refunds"]),
    ("checkouts", &["checkouts"]),
    ("low_stock", &["low_stock"]),
];

pub(crate) struct Shop {
    pub(crate) pool: PgPool,
    pub(crate) url: String,
    pub(crate) head: Arc<Head>,
    pub(crate) wake: watch::Sender<()>,
    client: Client,
    server: PgConnectOptions,
    database: String,
}

/// The end of a log in which every position holds one event, and what its events are about.
#[derive(Default)]
pub(crate) struct Head(pub(crate) Mutex<Option<Position>>, pub(crate) Mutex<Vec<(u64, String)>>);

#[async_trait]
impl LogHead for Head {
    async fn head(&self) -> Result<Option<Position>, LogError> {
        Ok(*self.0.lock().unwrap())
    }

    async fn events_between(&self, from: Option<Position>, to: Option<Position>) -> Option<u64> {
        Some(to?.commit - from.map_or(0, |from| from.commit))
    }

    async fn keys_between(
        &self,
        _: &str,
        from: Option<Position>,
        to: Position,
        most: usize,
    ) -> Result<Option<BTreeSet<String>>, LogError> {
        let within = |position: u64| from.is_none_or(|from| position > from.commit) && position <= to.commit;
        let events = self.1.lock().unwrap();
        let keys: BTreeSet<_> = events.iter().filter(|(at, _)| within(*at)).map(|(_, key)| key.clone()).collect();
        Ok(Some(keys).filter(|keys| keys.len() <= most))
    }
}

pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: reqwest::header::HeaderMap,
    pub(crate) text: String,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    /// The codes of the errors.
    pub(crate) fn codes(&self) -> Vec<String> {
        let errors = self.json()["errors"].as_array().cloned().unwrap_or_default();
        errors.iter().map(|error| error["extensions"]["code"].as_str().unwrap_or("none").to_owned()).collect()
    }
}

impl Shop {
    pub(crate) async fn open() -> Self {
        Self::open_with(|_| {}).await
    }

    pub(crate) async fn open_with(configure: impl FnOnce(&mut Config)) -> Self {
        #[allow(clippy::disallowed_methods, reason = "the one place where the tests read the environment")]
        let url = std::env::var("DATABASE_URL").expect(
            "DATABASE_URL must name a Postgres in which a test may create databases: run ./test, which starts a private one",
        );
        let server: PgConnectOptions = url.parse().unwrap();
        let database = format!("read_api_{}", Uuid::new_v4().simple());
        let mut admin = PgConnection::connect_with(&server).await.unwrap();
        run(&mut admin, format!("create database {database}")).await;

        let options = server.clone().database(&database);
        let pool = PgPoolOptions::new().max_connections(8).connect_with(options).await.unwrap();
        create_tables(&pool).await;

        let head = Arc::new(Head::default());
        let (wake, woken) = watch::channel(());
        let mut config = Config::new(pool.clone(), CursorKey::new(b"a secret of the tests"), head.clone());
        config.wake = Some(woken);
        configure(&mut config);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/graphql", listener.local_addr().unwrap());
        let router = read_api::router(config).layer(from_fn(introduce));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { pool, url, head, wake, client: Client::new(), server, database }
    }

    pub(crate) fn get(&self) -> RequestBuilder {
        self.client.get(&self.url)
    }

    pub(crate) fn post(&self) -> RequestBuilder {
        self.client.post(&self.url)
    }

    pub(crate) fn request(&self, query: &str, variables: Value) -> RequestBuilder {
        self.post().json(&json!({ "query": query, "variables": variables }))
    }

    pub(crate) async fn ask(&self, query: &str) -> Reply {
        send(self.request(query, json!({}))).await
    }

    /// The answer to somebody, or to nobody in particular.
    pub(crate) async fn ask_as(&self, caller: Option<&Caller>, query: &str, variables: Value) -> Reply {
        send(self.request(query, variables).header(CALLER, named(caller))).await
    }

    /// The data of a query that must succeed.
    pub(crate) async fn data(&self, query: &str) -> Value {
        self.data_with(query, json!({})).await
    }

    pub(crate) async fn data_with(&self, query: &str, variables: Value) -> Value {
        let reply = send(self.request(query, variables)).await;
        let body = reply.json();
        assert_eq!(body.get("errors"), None, "{query}");
        assert_eq!(reply.status, 200, "{query}");
        body["data"].clone()
    }

    /// Runs a script of SQL.
    pub(crate) async fn sql(&self, sql: impl Into<String>) {
        let mut connection = self.pool.acquire().await.unwrap();
        run(&mut connection, sql.into()).await;
    }

    /// Returns when a waiting query has looked at the checkpoints, seen too little, and looked again, all from now on.
    pub(crate) async fn looked_in_vain(&self) {
        for _ in 0..2 {
            let now = sqlx::query_scalar("select clock_timestamp()").fetch_one(&self.pool).await.unwrap();
            tokio::time::timeout(Duration::from_secs(20), self.looked_since(now)).await.expect("nobody waits");
        }
    }

    async fn looked_since(&self, time: DateTime<Utc>) {
        let looked = "select exists (select from pg_stat_activity where datname = current_database()
                       and query like 'select name, commit_position%' and query_start > $1)";
        while !sqlx::query_scalar::<_, bool>(looked).bind(time).fetch_one(&self.pool).await.unwrap() {
            tokio::task::yield_now().await;
        }
    }

    /// Moves a read model's checkpoint.
    pub(crate) async fn fold(&self, name: &str, position: u64) {
        let sql = "update control.generations set commit_position = $2, prepare_position = $2, moved_at = now() \
                   where name = $1";
        sqlx::query(sql).bind(name).bind(i64::try_from(position).unwrap()).execute(&self.pool).await.unwrap();
    }

    pub(crate) async fn fold_all(&self, position: u64) {
        for (name, _) in READ_MODELS {
            self.fold(name, position).await;
        }
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        let (server, database) = (self.server.clone(), self.database.clone());
        // The test's own runtime cannot be waited for from here.
        let dropped = std::thread::spawn(move || {
            tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
                let mut admin = PgConnection::connect_with(&server).await.unwrap();
                run(&mut admin, format!("drop database {database} with (force)")).await;
            });
        });
        dropped.join().unwrap();
    }
}

/// Says who sends a request, since there is no gate. Without it, it is somebody who may do everything.
pub(crate) const CALLER: &str = "x-caller";

/// A caller as that header names it.
pub(crate) fn named(caller: Option<&Caller>) -> String {
    let customer = |caller: &Caller| caller.customer.map(|id| id.to_string()).unwrap_or_default();
    caller.map_or("nobody".to_owned(), |caller| format!("{}|{}", caller.scopes, customer(caller)))
}

/// A customer with these scopes.
pub(crate) fn customer(number: u64, scopes: Scopes) -> Caller {
    Caller { customer: Some(CustomerId(id(number))), scopes, ..Caller::anyone() }
}

/// Somebody of the shop with these scopes.
pub(crate) fn staff(scopes: Scopes) -> Caller {
    Caller { scopes, ..Caller::anyone() }
}

/// Makes the caller known, as `access::guard` does.
async fn introduce(mut request: Request, next: Next) -> Response {
    let named = request.headers().get(CALLER).map(|named| named.to_str().unwrap().to_owned());
    let caller = match named.as_deref() {
        None => Some(Caller::anyone()),
        Some("nobody") => None,
        Some(named) => {
            let (scopes, customer) = named.split_once('|').unwrap();
            let customer = customer.parse().ok().map(CustomerId);
            Some(Caller { customer, ..staff(Scopes::of_token(scopes)) })
        }
    };
    if let Some(caller) = caller {
        request.extensions_mut().insert(caller);
    }
    next.run(request).await
}

pub(crate) async fn send(request: RequestBuilder) -> Reply {
    let response = tokio::time::timeout(Duration::from_secs(60), request.send()).await.unwrap().unwrap();
    let (status, headers) = (response.status(), response.headers().clone());
    Reply { status, headers, text: response.text().await.unwrap() }
}

/// A UUID that is easy to tell.
pub(crate) fn id(number: u64) -> Uuid {
    Uuid::from_u128(u128::from(number))
}

async fn create_tables(pool: &PgPool) {
    let migrations = Path::new(env!("CARGO_MANIFEST_DIR")).join("../migrations");
    let read = |path: &str| std::fs::read_to_string(migrations.join(path)).unwrap();
    let mut connection = pool.acquire().await.unwrap();
    let control = std::fs::read_dir(migrations.join("control")).unwrap();
    let mut control: Vec<_> = control.map(|file| file.unwrap().path()).collect();
    control.sort();
    for file in control {
        run(&mut connection, std::fs::read_to_string(file).unwrap()).await;
    }
    for (name, views) in READ_MODELS {
        let schema = format!("{name}_v1_g1");
        run(&mut connection, format!("create schema {schema}; set search_path to {schema}")).await;
        run(&mut connection, read(&format!("read_models/{name}.sql"))).await;
        run(&mut connection, read(&format!("read_models/{name}.keys.sql"))).await;
        for view in views {
            run(&mut connection, format!("create view read.{view} as select * from {schema}.{view}")).await;
        }
        let sql = "insert into control.generations (name, version, generation, state, schema_name) \
                   values ($1, 1, 1, 'live', $2)";
        sqlx::query(sql).bind(name).bind(schema).execute(&mut *connection).await.unwrap();
    }
    run(&mut connection, "reset search_path".to_owned()).await;
}

async fn run(connection: &mut PgConnection, sql: String) {
    sqlx::raw_sql(AssertSqlSafe(sql.as_str()))
        .execute(connection)
        .await
        .unwrap_or_else(|error| panic!("{error}: {sql}"));
}
