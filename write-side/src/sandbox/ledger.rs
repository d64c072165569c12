//! The sandbox's ledger, and what its requests do to it.
//!
//! A request is one transaction. It first locks the row of its key, so that the same request twice at once is done once
//! and answered twice; then the row of its payment, so that different requests about one payment take turns. Nobody
//! takes the two in another order, so nobody waits in a circle.

use std::time::Duration;

use axum::http::StatusCode;
use chrono::{DateTime, Utc};
use domain::ids::PaymentId;
use domain::money::{Money, Price};
use serde::Serialize;
use serde_json::{Value, json};
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::postgres::{PgConnection, PgPool};
use uuid::Uuid;

use super::cards::Card;
use crate::envelope::fingerprint;
use crate::gateway::FoundStatus;
use crate::gateway::protocol::{
    AuthoriseBody, CaptureBody, PaymentBody, RefundBody, RefundLine, RefundStatus, VoidBody, kinds,
};

/// How late the answers about `tok_slow` are, where nothing else is configured.
const SLOW: Duration = Duration::from_secs(3);

/// The migrations of the ledger. They keep their own book, so that they can live beside others in one database.
pub fn migrator() -> Migrator {
    let mut migrator = sqlx::migrate!("../migrations/sandbox");
    migrator.dangerous_set_table_name("_storefold_sandbox_migrations");
    migrator
}

/// Brings the ledger's tables up to date. Safe to call from several processes at once.
///
/// # Errors
/// When the database refuses, or was migrated by a newer release.
pub async fn migrate(pool: &PgPool) -> Result<(), MigrateError> {
    migrator().run(pool).await
}

/// The sandbox's ledger. Cheap to clone.
#[derive(Clone)]
pub struct Ledger {
    pool: PgPool,
    slow: Duration,
}

/// What moved in one currency, in minor units.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, sqlx::FromRow)]
pub struct Totals {
    /// The currency.
    pub currency: String,
    /// What is held now.
    pub held: i64,
    /// What was taken, whether or not it was given back.
    pub captured: i64,
    /// What was given back.
    pub refunded: i64,
}

/// A payment as the ledger has it. Amounts are in minor units of its currency.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, sqlx::FromRow)]
pub struct PaymentRow {
    /// The payment's id.
    pub id: Uuid,
    /// `authorised`, `declined`, `captured` or `voided`.
    pub status: String,
    /// What was asked for; `None` when it was voided before.
    pub minor: Option<i64>,
    /// Its currency; `None` when it was voided before it was asked for.
    pub currency: Option<String>,
    /// What is held now.
    pub held: i64,
    /// What was taken, whether or not it was given back.
    pub captured: i64,
    /// What was given back.
    pub refunded: i64,
}

/// Money that moved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, sqlx::FromRow)]
pub struct Movement {
    /// Its number; they count up.
    pub number: i64,
    /// The payment it belongs to.
    pub payment: Uuid,
    /// `hold`, `release`, `capture` or `refund`.
    pub kind: String,
    /// How much, in minor units.
    pub minor: i64,
    /// In which currency.
    pub currency: String,
    /// Which refund of the payment it is.
    pub refund: Option<i64>,
    /// When it was.
    pub at: DateTime<Utc>,
}

impl Ledger {
    /// The ledger in this database; see [`migrate`].
    pub fn new(pool: PgPool) -> Self {
        Self { pool, slow: SLOW }
    }

    /// The same ledger, with answers about `tok_slow` that are so late.
    pub fn slow_by(self, slow: Duration) -> Self {
        Self { slow, ..self }
    }

    /// What is held, was taken and was given back, by currency.
    ///
    /// # Errors
    /// When the database fails, or a sum is beyond the range of `i64`.
    pub async fn totals(&self) -> Result<Vec<Totals>, sqlx::Error> {
        let sql = "
            select currency,
                   coalesce(sum(case kind when 'hold' then minor when 'refund' then 0 else -minor end), 0)::bigint
                       as held,
                   coalesce(sum(minor) filter (where kind = 'capture'), 0)::bigint as captured,
                   coalesce(sum(minor) filter (where kind = 'refund'), 0)::bigint as refunded
              from sandbox.movements group by currency order by currency";
        sqlx::query_as(sql).fetch_all(&self.pool).await
    }

    /// A page of payments in the order of their ids, beginning after `after`.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn payments(&self, after: Option<PaymentId>, limit: u32) -> Result<Vec<PaymentRow>, sqlx::Error> {
        let sql = "
            select p.id, p.status, p.minor, p.currency, m.held, m.captured, m.refunded
              from sandbox.payments p
             cross join lateral (
                    select coalesce(sum(case kind when 'hold' then minor when 'refund' then 0 else -minor end), 0)::bigint
                               as held,
                           coalesce(sum(minor) filter (where kind = 'capture'), 0)::bigint as captured,
                           coalesce(sum(minor) filter (where kind = 'refund'), 0)::bigint as refunded
                      from sandbox.movements where payment = p.id) m
             where p.id > $1 or $1 is null order by p.id limit $2";
        let after = after.map(|payment| payment.0);
        sqlx::query_as(sql).bind(after).bind(i64::from(limit)).fetch_all(&self.pool).await
    }

    /// A page of movements, oldest first, beginning after the number `after`.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn movements(&self, after: i64, limit: u32) -> Result<Vec<Movement>, sqlx::Error> {
        let sql = "
            select number, payment, kind, minor, currency, refund, at
              from sandbox.movements where number > $1 order by number limit $2";
        sqlx::query_as(sql).bind(after).bind(i64::from(limit)).fetch_all(&self.pool).await
    }

    /// What moved for one payment, oldest first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn movements_of(&self, payment: PaymentId) -> Result<Vec<Movement>, sqlx::Error> {
        let sql = "
            select number, payment, kind, minor, currency, refund, at
              from sandbox.movements where payment = $1 order by number";
        sqlx::query_as(sql).bind(payment.0).fetch_all(&self.pool).await
    }

    /// Answers `GET /payments/{id}`.
    pub(super) async fn show(&self, payment: PaymentId) -> Result<Answer, sqlx::Error> {
        // One snapshot: the payment and what moved for it must fit together.
        let mut transaction = self.pool.begin().await?;
        sqlx::query("set transaction isolation level repeatable read, read only").execute(&mut *transaction).await?;
        let row = find(&mut transaction, payment).await?;
        Ok(match row {
            Some(row) => Answer::payment(StatusCode::OK, &body(&mut transaction, row).await?),
            None => unknown_payment(),
        })
    }

    /// Carries out a request, once however often it comes with the same key.
    pub(super) async fn carry_out(&self, key: &str, request: &Request) -> Result<Delivery, sqlx::Error> {
        let mut transaction = self.pool.begin().await?;
        // What a gateway has answered it never forgets, also where the pool's other users can have their rows anew.
        sqlx::query("set local synchronous_commit = on").execute(&mut *transaction).await?;
        let asked = ask(&mut transaction, key, &request.fingerprint()).await?;
        if asked.request != request.fingerprint() {
            transaction.rollback().await?;
            let detail = "this Idempotency-Key was sent with another request; a new request needs a new key";
            return Ok(Delivery::prompt(Answer::problem(StatusCode::UNPROCESSABLE_ENTITY, kinds::KEY_REUSED, detail)));
        }
        if let Some(answer) = asked.answer {
            transaction.commit().await?;
            return Ok(Delivery::prompt(answer));
        }
        let (card, said) = work(&mut transaction, request, asked.attempts).await?;
        let answer = match said {
            Said::Kept(answer) => {
                let sql = "update sandbox.keys set status = $2, answer = $3 where key = $1";
                let status = i32::from(answer.status.as_u16());
                sqlx::query(sql).bind(key).bind(status).bind(&answer.body).execute(&mut *transaction).await?;
                answer
            }
            Said::Forgotten(answer) => answer,
        };
        transaction.commit().await?;
        let is_capture = matches!(request, Request::Capture(..));
        let how = match card {
            Some(Card::Slow) => How::After(self.slow),
            Some(Card::LostAnswer) if asked.attempts == 1 => How::Never,
            Some(Card::CaptureLostAnswer) if asked.attempts == 1 && is_capture => How::Never,
            _ => How::Now,
        };
        Ok(Delivery { answer, how })
    }
}

/// A request that changes something.
pub(super) enum Request {
    Authorise(AuthoriseBody),
    Capture(PaymentId, CaptureBody),
    Void(PaymentId, VoidBody),
    Refund(PaymentId, RefundBody),
}

impl Request {
    fn fingerprint(&self) -> String {
        let (operation, payment, body) = match self {
            Self::Authorise(body) => ("authorise", body.id, serde_json::to_value(body)),
            Self::Capture(payment, body) => ("capture", *payment, serde_json::to_value(body)),
            Self::Void(payment, body) => ("void", *payment, serde_json::to_value(body)),
            Self::Refund(payment, body) => ("refund", *payment, serde_json::to_value(body)),
        };
        fingerprint(operation, &json!({ "payment": payment, "body": body.unwrap_or_default() }))
    }

    fn payment(&self) -> PaymentId {
        match self {
            Self::Authorise(body) => body.id,
            Self::Capture(payment, _) | Self::Void(payment, _) | Self::Refund(payment, _) => *payment,
        }
    }
}

/// What the gateway says.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) body: Value,
}

impl Answer {
    fn payment(status: StatusCode, body: &PaymentBody) -> Self {
        // Nothing in it can fail to be written as JSON.
        Self { status, body: serde_json::to_value(body).unwrap_or_default() }
    }

    /// A problem, by RFC 9457.
    pub(super) fn problem(status: StatusCode, kind: &str, detail: impl Into<String>) -> Self {
        let body = json!({
            "type": format!("/problems/{kind}"),
            "title": status.canonical_reason().unwrap_or_default(),
            "status": status.as_u16(),
            "detail": detail.into(),
        });
        Self { status, body }
    }
}

/// An answer, and how it is given.
pub(super) struct Delivery {
    pub(super) answer: Answer,
    pub(super) how: How,
}

impl Delivery {
    fn prompt(answer: Answer) -> Self {
        Self { answer, how: How::Now }
    }
}

/// How an answer is given.
pub(super) enum How {
    Now,
    /// So late.
    After(Duration),
    /// Not at all: the connection is cut.
    Never,
}

/// What the gateway says to a request that it has not answered yet.
enum Said {
    /// It says the same whenever the request comes again.
    Kept(Answer),
    /// It did nothing, and may do something when the request comes again.
    Forgotten(Answer),
}

/// What is known of a key.
struct Asked {
    /// What it was first sent with.
    request: String,
    /// How often, this time included.
    attempts: i32,
    /// What was answered.
    answer: Option<Answer>,
}

/// Counts a request, and locks its key until the transaction ends.
async fn ask(transaction: &mut PgConnection, key: &str, request: &str) -> Result<Asked, sqlx::Error> {
    let sql = "
        insert into sandbox.keys as k (key, request) values ($1, $2)
            on conflict (key) do update set attempts = k.attempts + 1
        returning request, attempts, status, answer";
    let (request, attempts, status, answer): (String, i32, Option<i32>, Option<Value>) =
        sqlx::query_as(sql).bind(key).bind(request).fetch_one(transaction).await?;
    let status = status.and_then(|status| StatusCode::from_u16(u16::try_from(status).ok()?).ok());
    let answer = status.zip(answer).map(|(status, body)| Answer { status, body });
    Ok(Asked { request, attempts, answer })
}

/// A row of `sandbox.payments`.
#[derive(Clone, sqlx::FromRow)]
struct Row {
    id: Uuid,
    status: String,
    minor: Option<i64>,
    currency: Option<String>,
    card: Option<String>,
    reference: Option<String>,
    capture_reference: Option<String>,
    declined_reason: Option<String>,
    refused_captures: i32,
}

impl Row {
    fn card(&self) -> Option<Card> {
        self.card.as_deref().map(Card::of)
    }

    fn status(&self) -> Result<FoundStatus, sqlx::Error> {
        match self.status.as_str() {
            "authorised" => Ok(FoundStatus::Authorised),
            "declined" => Ok(FoundStatus::Declined),
            "captured" => Ok(FoundStatus::Captured),
            "voided" => Ok(FoundStatus::Voided),
            _ => Err(unreadable("status")),
        }
    }

    fn amount(&self) -> Result<Option<Money>, sqlx::Error> {
        let parts = self.minor.zip(self.currency.as_deref());
        parts.map(|(minor, currency)| money(minor, currency)).transpose()
    }
}

async fn find(connection: &mut PgConnection, payment: PaymentId) -> Result<Option<Row>, sqlx::Error> {
    sqlx::query_as("select * from sandbox.payments where id = $1").bind(payment.0).fetch_optional(connection).await
}

async fn lock(transaction: &mut PgConnection, payment: PaymentId) -> Result<Option<Row>, sqlx::Error> {
    let sql = "select * from sandbox.payments where id = $1 for update";
    sqlx::query_as(sql).bind(payment.0).fetch_optional(transaction).await
}

/// Does what was asked for. Answers the card that was concerned, which decides how the answer is given.
async fn work(
    transaction: &mut PgConnection,
    request: &Request,
    attempts: i32,
) -> Result<(Option<Card>, Said), sqlx::Error> {
    loop {
        let row = lock(transaction, request.payment()).await?;
        let card = match (&row, request) {
            (Some(row), _) => row.card(),
            (None, Request::Authorise(body)) => Some(Card::from(&body.card)),
            (None, _) => None,
        };
        if card == Some(Card::ErrorThenFine) && attempts == 1 {
            let detail = "this card fails the first time";
            let answer = Answer::problem(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail);
            return Ok((card, Said::Forgotten(answer)));
        }
        let said = match (request, row) {
            (Request::Authorise(_), None) if card == Some(Card::Unavailable) => {
                let detail = "too busy for this card";
                Said::Forgotten(Answer::problem(StatusCode::SERVICE_UNAVAILABLE, "too-busy", detail))
            }
            (Request::Authorise(body), None) => match authorise(transaction, body).await? {
                Some(said) => said,
                // Somebody else began the payment just now: what they made of it is there to be seen.
                None => continue,
            },
            (Request::Authorise(_), Some(row)) => Said::Kept(match row.status()? {
                FoundStatus::Voided => payment_voided(),
                _ => {
                    let detail = "this payment was asked for before, with another Idempotency-Key";
                    Answer::problem(StatusCode::CONFLICT, kinds::PAYMENT_EXISTS, detail)
                }
            }),
            (Request::Void(payment, _), None) => match void_beforehand(transaction, *payment).await? {
                Some(said) => said,
                None => continue,
            },
            (Request::Void(..), Some(row)) => Said::Kept(void(transaction, row).await?),
            // Somebody may yet ask for the payment, and then for this again.
            (Request::Capture(..) | Request::Refund(..), None) => Said::Forgotten(unknown_payment()),
            (Request::Capture(_, body), Some(row)) => Said::Kept(capture(transaction, row, body).await?),
            (Request::Refund(_, body), Some(row)) => Said::Kept(refund(transaction, row, body).await?),
        };
        return Ok((card, said));
    }
}

/// Begins a payment; `None` when there is one by now.
async fn authorise(transaction: &mut PgConnection, body: &AuthoriseBody) -> Result<Option<Said>, sqlx::Error> {
    let declined = Card::from(&body.card).declined();
    let (minor, currency) = (body.amount.minor.minor(), body.amount.currency.code());
    let sql = "
        insert into sandbox.payments (id, status, minor, currency, card, declined_reason)
        values ($1, $2, $3, $4, $5, $6) on conflict (id) do nothing";
    let status = if declined.is_some() { "declined" } else { "authorised" };
    let inserted = sqlx::query(sql).bind(body.id.0).bind(status).bind(minor).bind(currency).bind(body.card.as_str());
    if inserted.bind(declined).execute(&mut *transaction).await?.rows_affected() == 0 {
        return Ok(None);
    }
    if let Some(reason) = declined {
        return Ok(Some(Said::Kept(Answer::problem(StatusCode::PAYMENT_REQUIRED, kinds::DECLINED, reason))));
    }
    let number = moved(transaction, body.id.0, "hold", body.amount, None).await?;
    let sql = "update sandbox.payments set reference = $2 where id = $1 returning *";
    let row = sqlx::query_as(sql).bind(body.id.0).bind(format!("hold-{number}")).fetch_one(&mut *transaction).await?;
    Ok(Some(Said::Kept(Answer::payment(StatusCode::CREATED, &self::body(transaction, row).await?))))
}

/// Keeps in mind that a payment is voided that was not heard of yet; `None` when it is by now.
async fn void_beforehand(transaction: &mut PgConnection, payment: PaymentId) -> Result<Option<Said>, sqlx::Error> {
    let sql = "
        insert into sandbox.payments (id, status) values ($1, 'voided') on conflict (id) do nothing returning *";
    let row: Option<Row> = sqlx::query_as(sql).bind(payment.0).fetch_optional(&mut *transaction).await?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some(Said::Kept(Answer::payment(StatusCode::OK, &body(transaction, row).await?))))
}

async fn void(transaction: &mut PgConnection, row: Row) -> Result<Answer, sqlx::Error> {
    let row = match row.status()? {
        FoundStatus::Authorised => {
            let held = row.amount()?.ok_or_else(|| unreadable("minor"))?;
            moved(transaction, row.id, "release", held, None).await?;
            let sql = "update sandbox.payments set status = 'voided' where id = $1 returning *";
            sqlx::query_as(sql).bind(row.id).fetch_one(&mut *transaction).await?
        }
        FoundStatus::Declined | FoundStatus::Voided => row,
        FoundStatus::Captured => return Ok(already_captured()),
    };
    Ok(Answer::payment(StatusCode::OK, &body(transaction, row).await?))
}

async fn capture(transaction: &mut PgConnection, row: Row, asked: &CaptureBody) -> Result<Answer, sqlx::Error> {
    match row.status()? {
        FoundStatus::Authorised => {}
        FoundStatus::Declined => {
            let detail = "the payment was declined, so nothing is held";
            return Ok(Answer::problem(StatusCode::CONFLICT, kinds::NOT_HELD, detail));
        }
        FoundStatus::Captured => return Ok(already_captured()),
        FoundStatus::Voided => return Ok(payment_voided()),
    }
    let held = row.amount()?.ok_or_else(|| unreadable("minor"))?;
    if held.currency != asked.amount.currency {
        return Ok(other_currency(held));
    }
    let Some(rest) = held.minor.minor().checked_sub(asked.amount.minor.minor()).filter(|rest| *rest >= 0) else {
        let detail = format!("{} is more than the {held} that are held", asked.amount);
        return Ok(Answer::problem(StatusCode::UNPROCESSABLE_ENTITY, kinds::EXCEEDS_HELD, detail));
    };
    if row.card() == Some(Card::CaptureRefused) && row.refused_captures == 0 {
        let sql = "update sandbox.payments set refused_captures = refused_captures + 1 where id = $1";
        sqlx::query(sql).bind(row.id).execute(transaction).await?;
        let detail = "the bank does not release the money today";
        return Ok(Answer::problem(StatusCode::PAYMENT_REQUIRED, kinds::CAPTURE_REFUSED, detail));
    }
    let number = moved(transaction, row.id, "capture", asked.amount, None).await?;
    if rest > 0 {
        moved(transaction, row.id, "release", money(rest, held.currency.code())?, None).await?;
    }
    let sql = "
        update sandbox.payments set status = 'captured', capture_reference = $2 where id = $1 returning *";
    let reference = format!("capture-{number}");
    let row = sqlx::query_as(sql).bind(row.id).bind(reference).fetch_one(&mut *transaction).await?;
    Ok(Answer::payment(StatusCode::OK, &body(transaction, row).await?))
}

async fn refund(transaction: &mut PgConnection, row: Row, asked: &RefundBody) -> Result<Answer, sqlx::Error> {
    if row.status()? != FoundStatus::Captured {
        let detail = "nothing was taken, so nothing can be given back";
        return Ok(Answer::problem(StatusCode::CONFLICT, kinds::NOT_CAPTURED, detail));
    }
    let PaymentBody { captured, refunded, refunds, .. } = body(transaction, row.clone()).await?;
    if refunds.iter().any(|refund| refund.number == asked.number) {
        let detail = "there is a refund of this number, asked for with another Idempotency-Key";
        return Ok(Answer::problem(StatusCode::CONFLICT, kinds::REFUND_EXISTS, detail));
    }
    let (captured, refunded) = captured.zip(refunded).ok_or_else(|| unreadable("minor"))?;
    if captured.currency != asked.amount.currency {
        return Ok(other_currency(captured));
    }
    let left = captured.minor.minor().saturating_sub(refunded.minor.minor());
    let refused = if asked.amount.minor.minor() > left {
        let left = money(left, captured.currency.code())?;
        let detail = format!("{} is more than the {left} that are left of what was taken", asked.amount);
        Some(Answer::problem(StatusCode::UNPROCESSABLE_ENTITY, kinds::EXCEEDS_CAPTURED, detail))
    } else if row.card() == Some(Card::RefundRefused) {
        let detail = "the card was closed";
        Some(Answer::problem(StatusCode::PAYMENT_REQUIRED, kinds::REFUND_REFUSED, detail))
    } else {
        None
    };
    let (minor, currency) = (asked.amount.minor.minor(), asked.amount.currency.code());
    let sql = "
        insert into sandbox.refunds (payment, number, minor, currency, status, reason) values ($1, $2, $3, $4, $5, $6)";
    let (status, reason) = match &refused {
        Some(answer) => ("refused", answer.body["detail"].as_str()),
        None => ("done", None),
    };
    let insert = sqlx::query(sql).bind(row.id).bind(i64::from(asked.number)).bind(minor).bind(currency);
    insert.bind(status).bind(reason).execute(&mut *transaction).await?;
    if let Some(answer) = refused {
        return Ok(answer);
    }
    moved(transaction, row.id, "refund", asked.amount, Some(asked.number)).await?;
    Ok(Answer::payment(StatusCode::OK, &body(transaction, row).await?))
}

/// Writes down that money moved. Answers the movement's number.
async fn moved(
    transaction: &mut PgConnection,
    payment: Uuid,
    kind: &str,
    amount: Money,
    refund: Option<u32>,
) -> Result<i64, sqlx::Error> {
    let sql = "
        insert into sandbox.movements (payment, kind, minor, currency, refund) values ($1, $2, $3, $4, $5)
        returning number";
    let (minor, currency) = (amount.minor.minor(), amount.currency.code());
    let insert = sqlx::query_scalar(sql).bind(payment).bind(kind).bind(minor).bind(currency);
    insert.bind(refund.map(i64::from)).fetch_one(transaction).await
}

/// A payment as it is shown, with what moved for it.
async fn body(connection: &mut PgConnection, row: Row) -> Result<PaymentBody, sqlx::Error> {
    let sql = "
        select coalesce(sum(minor) filter (where kind = 'capture'), 0)::bigint,
               coalesce(sum(minor) filter (where kind = 'refund'), 0)::bigint
          from sandbox.movements where payment = $1";
    let (captured, refunded): (i64, i64) = sqlx::query_as(sql).bind(row.id).fetch_one(&mut *connection).await?;
    let sql = "
        select number, minor, currency, status = 'done', reason from sandbox.refunds where payment = $1 order by number";
    let refunds: Vec<(i64, i64, String, bool, Option<String>)> =
        sqlx::query_as(sql).bind(row.id).fetch_all(&mut *connection).await?;
    let refunds = refunds.into_iter().map(|(number, minor, currency, done, reason)| {
        let number = u32::try_from(number).map_err(|_| unreadable("number"))?;
        let status = if done { RefundStatus::Done } else { RefundStatus::Refused };
        Ok::<_, sqlx::Error>(RefundLine { number, amount: money(minor, &currency)?, status, reason })
    });
    let amount = row.amount()?;
    let in_currency = |minor: i64| amount.map(|amount| money(minor, amount.currency.code())).transpose();
    Ok(PaymentBody {
        id: PaymentId(row.id),
        status: row.status()?,
        amount,
        captured: in_currency(captured)?,
        refunded: in_currency(refunded)?,
        reference: row.reference,
        capture_reference: row.capture_reference,
        declined_reason: row.declined_reason,
        refunds: refunds.collect::<Result<_, _>>()?,
    })
}

fn money(minor: i64, currency: &str) -> Result<Money, sqlx::Error> {
    let minor = Price::try_from(minor).map_err(|_| unreadable("minor"))?;
    let currency = currency.parse().map_err(|_| unreadable("currency"))?;
    Ok(Money { minor, currency })
}

/// A column has what this program never writes.
fn unreadable(column: &str) -> sqlx::Error {
    sqlx::Error::Decode(format!("a row of the sandbox has something else in its column {column}").into())
}

fn unknown_payment() -> Answer {
    Answer::problem(StatusCode::NOT_FOUND, kinds::UNKNOWN_PAYMENT, "nobody has asked for this payment")
}

fn payment_voided() -> Answer {
    Answer::problem(StatusCode::CONFLICT, kinds::PAYMENT_VOIDED, "the payment was voided")
}

fn already_captured() -> Answer {
    Answer::problem(StatusCode::CONFLICT, kinds::ALREADY_CAPTURED, "the payment was captured before")
}

fn other_currency(held: Money) -> Answer {
    let detail = format!("the payment is in {}", held.currency);
    Answer::problem(StatusCode::UNPROCESSABLE_ENTITY, kinds::OTHER_CURRENCY, detail)
}
