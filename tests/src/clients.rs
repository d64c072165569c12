//! Clients that command a shop all the time, whatever becomes of its servers, and keep a book of what was acknowledged.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use access::Scopes;
use reqwest::Client;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{client, token};

/// What clients were told that it was done.
#[derive(Default)]
pub(crate) struct Book {
    /// How many units of each SKU were received.
    pub(crate) received: BTreeMap<String, i64>,
    /// How many orders were recorded.
    pub(crate) orders: i64,
    /// How many commands that was.
    pub(crate) commands: usize,
}

/// The clients of a shop.
#[derive(Default)]
pub(crate) struct Clients {
    /// Where its servers are.
    pub(crate) urls: Mutex<Vec<String>>,
    pub(crate) book: Mutex<Book>,
    pub(crate) is_over: AtomicBool,
}

impl Clients {
    /// One client, which sends one command after another, a little apart: a stock receives units, or an order is put on record.
    /// What is not answered is sent again with the same key, to any server, until it is.
    pub(crate) async fn command(&self, number: usize, apart: Duration) {
        let (client, mut pace) = (client(&token("clients", Scopes::ALL, None)), tokio::time::interval(apart));
        for sent in number.. {
            pace.tick().await;
            if self.is_over.load(Relaxed) {
                return;
            }
            let (sku, quantity) = (format!("S{}", sent % 11), 1 + i64::try_from(sent % 5).unwrap());
            let (path, body) = if sent.is_multiple_of(3) {
                let line = json!({ "sku": sku, "quantity": quantity, "unit_price_minor": 100 });
                let sale = json!({ "country": "EIRE", "currency": "GBP", "placed_at": "2026-01-01T08:00:00Z", "lines": [line] });
                (format!("/v1/order/{}/record", Uuid::now_v7()), sale)
            } else {
                (format!("/v1/stock/{sku}/receive"), json!({ "quantity": quantity }))
            };
            self.insist(&client, sent, &path, &body).await;
            let mut book = self.book.lock().unwrap();
            book.commands += 1;
            if sent.is_multiple_of(3) {
                book.orders += 1;
            } else {
                *book.received.entry(sku).or_default() += quantity;
            }
        }
    }

    /// Sends a command until it is acknowledged.
    async fn insist(&self, client: &Client, sent: usize, path: &str, body: &Value) {
        let (key, mut pause) = (Uuid::now_v7().to_string(), tokio::time::interval(Duration::from_millis(20)));
        for attempt in 0.. {
            pause.tick().await;
            let url = {
                let urls = self.urls.lock().unwrap();
                urls[(sent + attempt) % urls.len()].clone()
            };
            let request = client.post(format!("{url}{path}")).header("Idempotency-Key", &key).json(body);
            if let Ok(response) = request.send().await {
                let status = response.status().as_u16();
                // The first attempt may still be under way, or the log be away for a moment.
                assert!(status < 300 || status == 409 || status >= 500, "{path}: {status} {:?}", response.text().await);
                if status < 300 && response.bytes().await.is_ok() {
                    return;
                }
            }
        }
    }
}
