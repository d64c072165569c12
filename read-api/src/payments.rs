//! The payments of the read model `payments_ledger`: how far each has come, what is held, taken and given back of it, and which
//! of them need a person.

use std::collections::HashMap;
use std::sync::Arc;

use async_graphql::{ComplexObject, Context, Enum, InputObject, Object, SimpleObject};
use sqlx::FromRow;

use crate::batch::{Batch, grouped};
use crate::connection::{self, List, Listed, Page, list_cost, page_cost};
use crate::error::Failure;
use crate::money::Money;
use crate::orders::{self, Order, PaymentStatus, TimeRange};
use crate::own_writes::{ReadModel, Reads};
use crate::scalars::{Currency, DateTime, Long, Uuid};
use crate::sql::{Bind, Conditions, Key, Sort, Table};
use crate::written::Write::{Plain, Within};
use crate::written::{Write, Written, each};

/// The payments of a query.
#[derive(Default)]
pub(crate) struct PaymentsQuery;

#[Object]
impl PaymentsQuery {
    /// The payments that this shop asked the gateway for, a page at a time. What was paid elsewhere has none.
    #[expect(clippy::too_many_arguments, reason = "they are the arguments of the field")]
    #[graphql(complexity = "page_cost(first, last, child_complexity)")]
    async fn payments(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which payments; all of them by default.")] filter: Option<PaymentFilter>,
        #[graphql(desc = "In which order.", default)] order_by: PaymentSort,
        #[graphql(desc = "The size of a page from the start, 20 by default and 200 at most.")] first: Option<i32>,
        #[graphql(desc = "The cursor after which the page begins.")] after: Option<String>,
        #[graphql(desc = "The size of a page from the end, instead of first.")] last: Option<i32>,
        #[graphql(desc = "The cursor before which the page ends.")] before: Option<String>,
    ) -> Result<List<PaymentRecord>, Failure> {
        let conditions = filter.unwrap_or_default().conditions().bounded()?;
        connection::list(ctx, order_by.sort(), conditions, Page { first, after, last, before }).await
    }
}

/// A payment as the ledger knows it.
#[derive(Debug, Clone, FromRow, SimpleObject)]
#[graphql(complex)]
pub(crate) struct PaymentRecord {
    /// The payment's id, which is the order's.
    payment_id: Uuid,
    /// How far it has come.
    status: PaymentStatus,
    /// Whether the gateway did not do what it was asked for, and a person has to see to it: a capture failed that was not
    /// tried again since, or a refund.
    in_trouble: bool,
    /// The gateway's own name for the authorisation.
    reference: Option<String>,
    /// The gateway's own name for the capture.
    capture_reference: Option<String>,
    /// Why the gateway would not hold the money, if so.
    declined_reason: Option<String>,
    /// Why it was given up, if so.
    void_reason: Option<String>,
    /// Why it could not be taken, until that is tried again; null if no capture failed.
    capture_failure: Option<String>,
    /// When it was asked for.
    requested_at: DateTime,
    /// When the gateway agreed to hold it; null if it has not.
    authorised_at: Option<DateTime>,
    /// When it was taken; null if it was not.
    captured_at: Option<DateTime>,
    /// When it was declined, let go or given back in full, after which no money of it can move; null if it may.
    ended_at: Option<DateTime>,
    /// When something last happened to it.
    changed_at: DateTime,
    #[graphql(skip)]
    currency: Currency,
    #[graphql(skip)]
    amount_minor: i64,
    #[graphql(skip)]
    authorised_minor: i64,
    #[graphql(skip)]
    held_minor: i64,
    #[graphql(skip)]
    captured_minor: i64,
    #[graphql(skip)]
    refunded_minor: i64,
    #[graphql(skip)]
    pending_refund_minor: i64,
    #[graphql(skip)]
    #[sqlx(skip)]
    siblings: Arc<Siblings>,
}

#[ComplexObject]
impl PaymentRecord {
    /// What was asked for.
    async fn amount(&self) -> Money {
        Money::new(self.amount_minor, &self.currency)
    }

    /// What the gateway agreed to hold; it may have been taken or let go since.
    async fn authorised(&self) -> Money {
        Money::new(self.authorised_minor, &self.currency)
    }

    /// What is held now.
    async fn held(&self) -> Money {
        Money::new(self.held_minor, &self.currency)
    }

    /// What was taken; part or all of it may have been given back since.
    async fn captured(&self) -> Money {
        Money::new(self.captured_minor, &self.currency)
    }

    /// What was given back.
    async fn refunded(&self) -> Money {
        Money::new(self.refunded_minor, &self.currency)
    }

    /// What is to be given back, and the gateway has not answered for yet.
    async fn pending_refund(&self) -> Money {
        Money::new(self.pending_refund_minor, &self.currency)
    }

    /// What was or is to be given back, by number.
    #[graphql(complexity = "list_cost(3, child_complexity)")]
    async fn refunds(&self, ctx: &Context<'_>) -> Result<&[PaymentRefund], Failure> {
        let load = |ids| load_refunds(ctx, ids, &self.siblings.currencies);
        Ok(self.siblings.refunds.get(&self.payment_id, load).await?.map_or(&[], Vec::as_slice))
    }

    /// The order that it pays for; null if the read model of orders does not have it.
    async fn order(&self, ctx: &Context<'_>) -> Option<Result<&Order, Failure>> {
        self.its_order(ctx).await.transpose()
    }
}

impl PaymentRecord {
    async fn its_order(&self, ctx: &Context<'_>) -> Result<Option<&Order>, Failure> {
        self.siblings.orders.get(&self.payment_id, |ids| orders::load(ctx, ids)).await
    }
}

impl Written for PaymentRecord {
    const FIELDS: &'static [(&'static str, Write<Self>)] = &[
        ("paymentId", Plain(|row, json| json.put(&row.payment_id))),
        ("status", Plain(|row, json| json.name(row.status))),
        ("inTrouble", Plain(|row, json| json.put(&row.in_trouble))),
        ("reference", Plain(|row, json| json.put(&row.reference))),
        ("captureReference", Plain(|row, json| json.put(&row.capture_reference))),
        ("declinedReason", Plain(|row, json| json.put(&row.declined_reason))),
        ("voidReason", Plain(|row, json| json.put(&row.void_reason))),
        ("captureFailure", Plain(|row, json| json.put(&row.capture_failure))),
        ("requestedAt", Plain(|row, json| json.put(&row.requested_at))),
        ("authorisedAt", Plain(|row, json| json.put(&row.authorised_at))),
        ("capturedAt", Plain(|row, json| json.put(&row.captured_at))),
        ("endedAt", Plain(|row, json| json.put(&row.ended_at))),
        ("changedAt", Plain(|row, json| json.put(&row.changed_at))),
        ("amount", Within(|selected| selected.made(|row: &Self| Some(Money::new(row.amount_minor, &row.currency))))),
        (
            "authorised",
            Within(|selected| selected.made(|row: &Self| Some(Money::new(row.authorised_minor, &row.currency)))),
        ),
        ("held", Within(|selected| selected.made(|row: &Self| Some(Money::new(row.held_minor, &row.currency))))),
        (
            "captured",
            Within(|selected| selected.made(|row: &Self| Some(Money::new(row.captured_minor, &row.currency)))),
        ),
        (
            "refunded",
            Within(|selected| selected.made(|row: &Self| Some(Money::new(row.refunded_minor, &row.currency)))),
        ),
        (
            "pendingRefund",
            Within(|selected| selected.made(|row: &Self| Some(Money::new(row.pending_refund_minor, &row.currency)))),
        ),
        (
            "refunds",
            Within(|selected| {
                selected.many(Some(each!(refunds)), |row: &Self| {
                    row.siblings.refunds.loaded(&row.payment_id).map_or(&[], Vec::as_slice)
                })
            }),
        ),
        (
            "order",
            Within(|selected| {
                selected.one(Some(each!(its_order)), |row: &Self| row.siblings.orders.loaded(&row.payment_id))
            }),
        ),
    ];
}

/// What the payments that were read together load together.
#[derive(Debug, Default)]
struct Siblings {
    currencies: HashMap<Uuid, Currency>,
    refunds: Batch<Uuid, Vec<PaymentRefund>>,
    orders: Batch<Uuid, Order>,
}

/// What makes trouble of a payment, as SQL, with something before and behind it.
macro_rules! in_trouble {
    ($before:literal, $after:literal) => {
        concat!(
            $before,
            "(capture_failure is not null or exists (select from read.payment_refunds as refund ",
            "where refund.payment_id = payments.payment_id and refund.status = 'failed'))",
            $after
        )
    };
}

impl Listed for PaymentRecord {
    const TABLE: Table = Table {
        name: "read.payments",
        columns: in_trouble!(
            "payment_id, status, currency, amount_minor, authorised_minor, held_minor, captured_minor, refunded_minor, \
             pending_refund_minor, reference, capture_reference, declined_reason, void_reason, capture_failure, \
             requested_at, authorised_at, captured_at, ended_at, changed_at, ",
            " as in_trouble"
        ),
        id: &["payment_id"],
        owner: None,
    };
    const MODELS: &'static [ReadModel] = &[ReadModel::PaymentsLedger];

    fn key(&self, _: &Sort) -> Key {
        Key { value: Some(Bind::Time(self.requested_at.0)), id: vec![Bind::Uuid(self.payment_id.0)] }
    }

    fn make_siblings(rows: Vec<&mut Self>) {
        let siblings = Arc::new(Siblings {
            currencies: rows.iter().map(|payment| (payment.payment_id, payment.currency.clone())).collect(),
            refunds: Batch::new(rows.iter().map(|payment| payment.payment_id)),
            orders: Batch::new(rows.iter().map(|payment| payment.payment_id)),
        });
        for payment in rows {
            payment.siblings = siblings.clone();
        }
    }
}

/// Something that was or is to be given back of a payment.
#[derive(Debug, Clone, SimpleObject)]
pub(crate) struct PaymentRefund {
    /// Its number within the payment, from 1.
    refund_no: Long,
    /// What became of it.
    status: RefundStatus,
    /// How much.
    amount: Money,
    /// Why it is given back; null if nobody said.
    reason: Option<String>,
    /// Why the gateway did not give it back; null if it did, or has not answered yet.
    failure: Option<String>,
    /// When it was asked for.
    requested_at: DateTime,
    /// When the gateway answered; null if it has not.
    answered_at: Option<DateTime>,
}

impl Written for PaymentRefund {
    const FIELDS: &'static [(&'static str, Write<Self>)] = &[
        ("refundNo", Plain(|row, json| json.put(&row.refund_no))),
        ("status", Plain(|row, json| json.name(row.status))),
        ("amount", Within(|selected| selected.one(None, |row: &Self| Some(&row.amount)))),
        ("reason", Plain(|row, json| json.put(&row.reason))),
        ("failure", Plain(|row, json| json.put(&row.failure))),
        ("requestedAt", Plain(|row, json| json.put(&row.requested_at))),
        ("answeredAt", Plain(|row, json| json.put(&row.answered_at))),
    ];
}

/// What became of a refund.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum, sqlx::Type)]
#[sqlx(type_name = "text", rename_all = "lowercase")]
pub(crate) enum RefundStatus {
    /// The gateway is asked to give the money back.
    Requested,
    /// The gateway gave it back.
    Refunded,
    /// The gateway did not give it back.
    Failed,
}

/// Payments that fulfil all that is given.
#[derive(Debug, Default, InputObject)]
pub(crate) struct PaymentFilter {
    /// In one of these states.
    status: Option<Vec<PaymentStatus>>,
    /// In this currency.
    currency: Option<Currency>,
    /// Asked for in this time.
    requested_at: Option<TimeRange>,
    /// Whether a capture or a refund failed and a person has to see to it.
    in_trouble: Option<bool>,
    /// Of which something was asked more than so many seconds ago that the gateway has not answered yet.
    unanswered_for_seconds: Option<i32>,
    /// That fulfil all of these besides.
    and: Option<Vec<PaymentFilter>>,
    /// That fulfil at least one of these besides; one of none, nothing does.
    or: Option<Vec<PaymentFilter>>,
    /// That do not fulfil this.
    not: Option<Box<PaymentFilter>>,
}

impl PaymentFilter {
    fn conditions(self) -> Conditions {
        let each = |filters: Vec<Self>| filters.into_iter().map(Self::conditions).collect();
        let (and, or, not) = (self.and.map(each), self.or.map(each), self.not.map(|not| not.conditions()));
        let requested_at = self.requested_at.unwrap_or_default();
        let seconds = self.unanswered_for_seconds.map(|seconds| Bind::Int(i64::from(seconds)));
        Conditions::default()
            .combined(and, or, not)
            .and("status = any(?)", self.status.map(|all| Bind::names(all, PaymentStatus::name)))
            .and("currency = ?", self.currency.map(|currency| Bind::Text(currency.0)))
            .and("requested_at >= ?", requested_at.from.map(|time| Bind::Time(time.0)))
            .and("requested_at < ?", requested_at.to.map(|time| Bind::Time(time.0)))
            .and(in_trouble!("", " = ?"), self.in_trouble.map(Bind::Bool))
            .and(
                "(status in ('requested', 'capturing', 'voiding') or pending_refund_minor > 0) \
                 and changed_at < now() - ? * interval '1 second'",
                seconds,
            )
    }
}

/// How payments are sorted. Those of the same moment are sorted by their id.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Enum)]
pub(crate) enum PaymentSort {
    /// The oldest first.
    RequestedAtAsc,
    /// The newest first.
    #[default]
    RequestedAtDesc,
}

impl PaymentSort {
    fn sort(self) -> Sort {
        Sort { column: Some("requested_at"), nullable: false, descending: self == Self::RequestedAtDesc }
    }
}

/// A refund as its table has it: the payment, the number, and what is shown.
type RefundRow = (Uuid, Long, RefundStatus, i64, Option<String>, Option<String>, DateTime, Option<DateTime>);

async fn load_refunds(
    ctx: &Context<'_>,
    payments: &[Uuid],
    currencies: &HashMap<Uuid, Currency>,
) -> Result<HashMap<Uuid, Vec<PaymentRefund>>, Failure> {
    let pool = ctx.data_unchecked::<Arc<Reads>>().of(PaymentRecord::MODELS).await?;
    let sql = "select payment_id, refund_no, status, amount_minor, reason, failure, requested_at, answered_at \
               from read.payment_refunds where payment_id = any($1) order by payment_id, refund_no";
    let rows: Vec<RefundRow> = pool.all(sqlx::query_as(sql).bind(payments)).await?;
    let refund = |(payment, refund_no, status, minor, reason, failure, requested_at, answered_at): RefundRow| {
        let amount = Money::new(minor, currencies.get(&payment)?);
        Some((payment, PaymentRefund { refund_no, status, amount, reason, failure, requested_at, answered_at }))
    };
    Ok(grouped(rows.into_iter().filter_map(refund)))
}
