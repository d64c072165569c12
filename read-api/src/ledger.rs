//! The read model `payments_ledger`: the money of the shop in double entry.

use std::sync::Arc;

use async_graphql::{ComplexObject, Context, Enum, ID, InputObject, Object, SimpleObject};
use sqlx::FromRow;

use crate::connection::{self, List, Listed, Page, list_cost, page_cost};
use crate::error::Failure;
use crate::money::Money;
use crate::orders::TimeRange;
use crate::own_writes::{ReadModel, Reads};
use crate::scalars::{Currency, DateTime, Uuid};
use crate::sql::{Bind, Conditions, Key, Sort, Table};
use crate::written::Write::{Plain, Within};
use crate::written::{Write, Written};

/// The ledger of a query.
#[derive(Default)]
pub(crate) struct LedgerQuery;

#[Object]
impl LedgerQuery {
    /// The entries of the ledger, a page at a time. Each movement of money has two, a debit and a credit.
    #[expect(clippy::too_many_arguments, reason = "they are the arguments of the field")]
    #[graphql(complexity = "page_cost(first, last, child_complexity)")]
    async fn ledger(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which entries; all of them by default.")] filter: Option<LedgerFilter>,
        #[graphql(desc = "In which order.", default)] order_by: LedgerSort,
        #[graphql(desc = "The size of a page from the start, 20 by default and 200 at most.")] first: Option<i32>,
        #[graphql(desc = "The cursor after which the page begins.")] after: Option<String>,
        #[graphql(desc = "The size of a page from the end, instead of first.")] last: Option<i32>,
        #[graphql(desc = "The cursor before which the page ends.")] before: Option<String>,
    ) -> Result<List<LedgerEntry>, Failure> {
        let conditions = filter.unwrap_or_default().conditions().bounded()?;
        connection::list(ctx, order_by.sort(), conditions, Page { first, after, last, before }).await
    }

    /// What each account holds in a currency, by the account's name; one that nothing has moved on is left out.
    /// Together they hold nothing: what one has gained, another has lost.
    #[graphql(complexity = "list_cost(5, child_complexity)")]
    async fn ledger_balances(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The currency: amounts in different ones do not add up.")] currency: Currency,
        #[graphql(desc = "What was posted from this moment on does not count; everything counts by default.")]
        to: Option<DateTime>,
    ) -> Result<Vec<LedgerBalance>, Failure> {
        let pool = ctx.data_unchecked::<Arc<Reads>>().of(&[ReadModel::PaymentsLedger]).await?;
        let sql = "select account, sum(amount_minor)::text from read.ledger_entries \
                   where currency = $1 and ($2::timestamptz is null or at < $2) \
                   group by account order by account collate \"C\"";
        let rows: Vec<(LedgerAccount, String)> = pool.all(sqlx::query_as(sql).bind(&currency).bind(to)).await?;
        let balance = |(account, sum): (LedgerAccount, String)| {
            // One payment fits; the sum of several may not.
            let minor = sum.parse().map_err(|_| Failure::internal(&BalanceOverflow { sum }))?;
            Ok(LedgerBalance { account, balance: Money::new(minor, &currency) })
        };
        rows.into_iter().map(balance).collect()
    }
}

#[derive(Debug, thiserror::Error)]
#[error("an account holds {sum}, which is past the range of an i64")]
struct BalanceOverflow {
    sum: String,
}

/// One side of a movement of money: what an account gained (the debit) or lost (the credit).
#[derive(Debug, Clone, FromRow, SimpleObject)]
#[graphql(complex)]
pub(crate) struct LedgerEntry {
    /// The payment that the money moved for; its id is the order's.
    payment_id: Uuid,
    /// Its number within the payment, from 1.
    entry_no: i32,
    /// Which movement of the payment it is a side of, from 1.
    movement_no: i32,
    /// What kind of movement.
    movement: LedgerMovement,
    /// The account.
    account: LedgerAccount,
    /// When the money moved.
    at: DateTime,
    #[graphql(skip)]
    currency: Currency,
    #[graphql(skip)]
    amount_minor: i64,
}

#[ComplexObject]
impl LedgerEntry {
    /// What tells it from all other entries.
    async fn id(&self) -> ID {
        self.name()
    }

    /// What the account gained, or with a minus what it lost.
    async fn amount(&self) -> Money {
        Money::new(self.amount_minor, &self.currency)
    }
}

impl LedgerEntry {
    fn name(&self) -> ID {
        format!("{}/{}", self.payment_id.0, self.entry_no).into()
    }
}

impl Written for LedgerEntry {
    const FIELDS: &'static [(&'static str, Write<Self>)] = &[
        ("paymentId", Plain(|row, json| json.put(&row.payment_id))),
        ("entryNo", Plain(|row, json| json.put(&row.entry_no))),
        ("movementNo", Plain(|row, json| json.put(&row.movement_no))),
        ("movement", Plain(|row, json| json.name(row.movement))),
        ("account", Plain(|row, json| json.name(row.account))),
        ("at", Plain(|row, json| json.put(&row.at))),
        ("id", Plain(|row, json| json.put(&row.name()))),
        ("amount", Within(|selected| selected.made(|row: &Self| Some(Money::new(row.amount_minor, &row.currency))))),
    ];
}

impl Listed for LedgerEntry {
    const TABLE: Table = Table {
        name: "read.ledger_entries",
        columns: "payment_id, entry_no, movement_no, movement, account, currency, amount_minor, at",
        id: &["payment_id", "entry_no"],
        owner: None,
    };
    const MODELS: &'static [ReadModel] = &[ReadModel::PaymentsLedger];

    fn key(&self, _: &Sort) -> Key {
        let id = vec![Bind::Uuid(self.payment_id.0), Bind::Int(i64::from(self.entry_no))];
        Key { value: Some(Bind::Time(self.at.0)), id }
    }
}

/// What an account holds.
#[derive(Debug, Clone, SimpleObject)]
pub(crate) struct LedgerBalance {
    /// The account.
    account: LedgerAccount,
    /// The sum of its entries: what it gained, less what it lost.
    balance: Money,
}

/// An account of the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum, sqlx::Type)]
#[sqlx(type_name = "text", rename_all = "snake_case")]
pub(crate) enum LedgerAccount {
    /// Money that is held on customers' cards.
    Holds,
    /// The counterpart of the holds, which are nobody's money yet.
    HoldsContra,
    /// Money that was taken and not given back.
    Cash,
    /// What was sold for it; negative, as revenue is in double entry.
    Sales,
    /// What was given back of that.
    Refunds,
}

impl LedgerAccount {
    fn name(self) -> &'static str {
        match self {
            Self::Holds => "holds",
            Self::HoldsContra => "holds_contra",
            Self::Cash => "cash",
            Self::Sales => "sales",
            Self::Refunds => "refunds",
        }
    }
}

/// A kind of movement of money.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum, sqlx::Type)]
#[sqlx(type_name = "text", rename_all = "lowercase")]
pub(crate) enum LedgerMovement {
    /// Money is held on a card: from HOLDS_CONTRA to HOLDS.
    Hold,
    /// All that was held is let go, also when it or part of it is taken: from HOLDS to HOLDS_CONTRA.
    Release,
    /// Money is taken: from SALES to CASH.
    Capture,
    /// Money is given back: from CASH to REFUNDS.
    Refund,
}

impl LedgerMovement {
    fn name(self) -> &'static str {
        match self {
            Self::Hold => "hold",
            Self::Release => "release",
            Self::Capture => "capture",
            Self::Refund => "refund",
        }
    }
}

/// Entries that fulfil all that is given.
#[derive(Debug, Default, InputObject)]
pub(crate) struct LedgerFilter {
    /// Of this payment.
    payment_id: Option<Uuid>,
    /// On one of these accounts.
    account: Option<Vec<LedgerAccount>>,
    /// Of one of these kinds of movement.
    movement: Option<Vec<LedgerMovement>>,
    /// In this currency.
    currency: Option<Currency>,
    /// Posted in this time.
    at: Option<TimeRange>,
    /// That fulfil all of these besides.
    and: Option<Vec<LedgerFilter>>,
    /// That fulfil at least one of these besides; one of none, nothing does.
    or: Option<Vec<LedgerFilter>>,
    /// That do not fulfil this.
    not: Option<Box<LedgerFilter>>,
}

impl LedgerFilter {
    fn conditions(self) -> Conditions {
        let each = |filters: Vec<Self>| filters.into_iter().map(Self::conditions).collect();
        let (and, or, not) = (self.and.map(each), self.or.map(each), self.not.map(|not| not.conditions()));
        let at = self.at.unwrap_or_default();
        Conditions::default()
            .combined(and, or, not)
            .and("payment_id = ?", self.payment_id.map(|id| Bind::Uuid(id.0)))
            .and("account = any(?)", self.account.map(|all| Bind::names(all, LedgerAccount::name)))
            .and("movement = any(?)", self.movement.map(|all| Bind::names(all, LedgerMovement::name)))
            .and("currency = ?", self.currency.map(|currency| Bind::Text(currency.0)))
            .and("at >= ?", at.from.map(|time| Bind::Time(time.0)))
            .and("at < ?", at.to.map(|time| Bind::Time(time.0)))
    }
}

/// How entries are sorted. Those of the same moment are sorted by their payment, and then by their number.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Enum)]
pub(crate) enum LedgerSort {
    /// The oldest first.
    AtAsc,
    /// The newest first.
    #[default]
    AtDesc,
}

impl LedgerSort {
    fn sort(self) -> Sort {
        Sort { column: Some("at"), nullable: false, descending: self == Self::AtDesc }
    }
}
