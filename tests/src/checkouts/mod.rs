//! Orders that are traded: reserved, paid, shipped and completed, or wholly undone, whatever fails.
//!
//! After every run the same is asked: is everything at rest, does the money agree with the bank's own ledger, are the
//! reservations gone, is every order at an end that its money and goods bear out.

mod by_hand;
mod in_bulk;
mod under_fire;

use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{Database, Server, until, until_so};

/// An order of so many units of each SKU, at a pound a unit, charged to a card.
fn order(card: &str, lines: &[(&str, i64)]) -> Value {
    let lines: Vec<Value> = lines
        .iter()
        .map(|(sku, quantity)| json!({ "sku": sku, "quantity": quantity, "unit_price_minor": 100 }))
        .collect();
    json!({ "country": "EIRE", "currency": "GBP", "card": card, "lines": lines })
}

async fn receive(server: &Server, sku: &str, quantity: i64) {
    server.done(&format!("/v1/stock/{sku}/receive"), json!({ "quantity": quantity })).await;
}

/// Places an order. Answers its id.
async fn place(server: &Server, card: &str, lines: &[(&str, i64)]) -> Uuid {
    let id = Uuid::now_v7();
    server.done(&format!("/v1/order/{id}/place"), order(card, lines)).await;
    id
}

/// The state of an aggregate by its address, straight from the log.
async fn state(server: &Server, address: &str) -> Value {
    let response = server.get(&format!("/v1/{address}")).await;
    if response.status() == 404 {
        return Value::Null;
    }
    response.json::<Value>().await.unwrap()["state"].clone()
}

/// Waits until an aggregate has a status.
async fn until_status(server: &Server, address: &str, status: &str) -> Value {
    until(async || Some(state(server, address).await).filter(|state| state["status"] == status)).await
}

/// Waits until every process and every read model has followed the log to its end and no checkout has anything left to do
/// but to wait for the warehouse, or for a person.
async fn until_at_rest(database: &Database) {
    let restless = "select (select count(*) from process.instances
                where parked_on is null and waits_for is distinct from 'dispatch')
            + (select count(*) from process.managers where commit_position is distinct from head)
            + (select count(*) from control.generations where state = 'live' and commit_position is distinct from head)
        from (select max(position) as head from log.events) as log";
    until_so(async || database.number(restless).await == 0).await;
}

/// What holds whenever everything is at rest.
async fn assert_consistent(database: &Database) {
    for (what, sql) in [
        (
            "stock is negative, or reserved for an order that has ended",
            "select count(*) from read.products where on_hand < 0 or available < 0 or reserved <> coalesce((
                select sum(quantity) from read.order_lines join read.orders using (order_id)
                 where order_lines.sku = products.sku and status in ('confirmed', 'cancelling')), 0)",
        ),
        (
            "a movement of the ledger does not sum to zero",
            "select count(*) from (select from read.ledger_entries group by payment_id, movement_no, currency
                having sum(amount_minor) <> 0 or count(*) <> 2) as unbalanced",
        ),
        (
            "the bank and the shop differ on a payment",
            "with bank as (
                select payment, coalesce(sum(minor) filter (where kind = 'capture'), 0) as captured,
                    coalesce(sum(minor) filter (where kind = 'refund'), 0) as refunded,
                    coalesce(sum(minor) filter (where kind = 'hold'), 0)
                        - coalesce(sum(minor) filter (where kind in ('release', 'capture')), 0) as held
                  from sandbox.movements group by payment
            )
            select count(*) from bank full join read.payments on payment_id = payment
             where coalesce(captured, 0) <> coalesce(captured_minor, 0)
                or coalesce(refunded, 0) <> coalesce(refunded_minor, 0) or coalesce(held, 0) <> coalesce(held_minor, 0)",
        ),
        (
            "the accounts differ from the payments",
            "select count(*) from (
                select coalesce(sum(amount_minor) filter (where account = 'cash'), 0) as cash,
                    coalesce(sum(amount_minor) filter (where account = 'holds'), 0) as holds from read.ledger_entries) as l,
                (select coalesce(sum(captured_minor - refunded_minor), 0) as kept, coalesce(sum(held_minor), 0) as held
                   from read.payments) as p
             where cash <> kept or holds <> held",
        ),
        (
            "an order is charged that was not completed, or completed and not charged in full",
            "select count(*) from read.orders left join read.payments on payment_id = order_id
             where (orders.status = 'completed' and total_minor > 0 and payments.captured_minor is distinct from total_minor)
                or (orders.status in ('rejected', 'cancelled')
                    and (payments.captured_minor <> payments.refunded_minor or payments.held_minor <> 0))",
        ),
        (
            "a checkout is not where its order is",
            "select count(*) from read.orders left join read.checkouts using (order_id)
             where orders.status in ('completed', 'rejected', 'cancelled') and checkouts.state is distinct from
                (case when orders.status = 'completed' then 'completed' else 'undone' end)",
        ),
        (
            "an event stands twice, or a stream has a gap",
            "select count(*) from (select from log.events group by stream
                having count(*) - 1 <> max(revision) or count(*) <> count(distinct id)) as broken",
        ),
    ] {
        assert_eq!(database.number(sql).await, 0, "{what}");
    }
}

/// How many orders have a status.
async fn orders(database: &Database, status: &'static str) -> i64 {
    let sql = "select count(*) from read.orders where status = $1";
    sqlx::query_scalar(sql).bind(status).fetch_one(&database.pool).await.unwrap()
}
