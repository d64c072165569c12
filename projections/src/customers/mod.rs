//! Customers, and what each has bought.

#[cfg(test)]
mod tests;

use chrono::{DateTime, Utc};
use domain::customers::{Contact, Customer, Event};
use domain::decider::Decider;
use domain::ordering::{Order, SaleMade};
use domain::payments::Payment;
use uuid::Uuid;

use crate::read_model::{FoldError, ReadModel, missing, overflow};
use crate::rows::Rows;
use crate::sales::{self, Meaning, Standing};
use crate::shop_event::{Happened, ShopEvent};

crate::row! {
    /// A customer's account.
    pub struct CustomerRow in "customers", key { customer_id: Uuid } {
        reference: Option<String>,
        name: Option<String>,
        email: Option<String>,
        phone: Option<String>,
        status: String,
        registered_at: DateTime<Utc>,
        changed_at: DateTime<Utc>,
    }
}

crate::row! {
    /// What a customer has bought in one currency.
    pub struct SpendRow in "customer_spend", key { customer_id: Uuid, currency: String } {
        orders: i64,
        revenue_minor: i64,
    }
}

crate::row! {
    /// A customer's order that may still be confirmed, cancelled or refunded.
    pub struct OpenOrderRow in "customer_orders", key { order_id: Uuid } {
        customer_id: Uuid,
        currency: String,
        total_minor: i64,
        counted: bool,
        taken_back: bool,
    }
}

crate::tables! {
    /// The tables of `customers`.
    pub struct Tables {
        /// A row a customer.
        customers: Rows<CustomerRow>,
        /// A row a customer and currency.
        spend: Rows<SpendRow>,
        /// A row an open order.
        open_orders: Rows<OpenOrderRow>,
    }
}

/// The read model `customers`.
pub struct Customers;

impl ReadModel for Customers {
    const NAME: &'static str = "customers";
    const VERSION: i32 = 3;
    const CATEGORIES: &'static [&'static str] = &[Customer::CATEGORY, Order::CATEGORY, Payment::CATEGORY];
    const TABLES_SQL: &'static str = include_str!("../../../migrations/read_models/customers.sql");
    const KEYS_SQL: &'static str = include_str!("../../../migrations/read_models/customers.keys.sql");
    type Tables = Tables;

    fn fold(tables: &mut Tables, happened: &Happened) -> Result<(), FoldError> {
        match &happened.event {
            ShopEvent::Customers(customer, event) => account(tables, customer.0, event, happened.at),
            event => match sales::meaning(event) {
                Some((order, meaning)) => purchase(tables, order, meaning),
                None => Ok(()),
            },
        }
    }
}

fn account(tables: &mut Tables, customer_id: Uuid, event: &Event, at: DateTime<Utc>) -> Result<(), FoldError> {
    let row = match event {
        Event::Registered(registered) => CustomerRow {
            customer_id,
            reference: registered.reference.as_ref().map(ToString::to_string),
            name: None,
            email: None,
            phone: None,
            status: "open".to_owned(),
            registered_at: at,
            changed_at: at,
        },
        _ => {
            let row = tables.customers.get(&(customer_id,))?;
            row.ok_or_else(|| missing("customer", customer_id))?.clone()
        }
    };
    let row = match event {
        Event::Registered(registered) => reached_by(row, &registered.contact),
        Event::ContactChanged(changed) => reached_by(row, &changed.contact),
        Event::Closed(_) => CustomerRow { status: "closed".to_owned(), ..row },
    };
    tables.customers.put(CustomerRow { changed_at: at, ..row });
    Ok(())
}

fn reached_by(row: CustomerRow, contact: &Contact) -> CustomerRow {
    let text = |line: &Option<domain::ids::Line>| line.as_ref().map(ToString::to_string);
    CustomerRow { name: text(&contact.name), email: text(&contact.email), phone: text(&contact.phone), ..row }
}

fn purchase(tables: &mut Tables, order_id: Uuid, meaning: Meaning<'_>) -> Result<(), FoldError> {
    // A guest's order is on nobody's account.
    let open = |sale: &SaleMade| {
        let customer_id = sale.customer?.0;
        let (currency, total_minor) = (sale.currency.to_string(), sale.total_minor);
        Some(OpenOrderRow { order_id, customer_id, currency, total_minor, counted: false, taken_back: false })
    };
    match meaning {
        Meaning::Open(sale) => open(sale).into_iter().for_each(|row| tables.open_orders.put(row)),
        Meaning::Sold(sale) => open(sale).map_or(Ok(()), |row| count(tables, &row, 1))?,
        Meaning::Became(fate) => {
            if let Some(row) = tables.open_orders.get(&(order_id,))?.cloned() {
                let standing = Standing { counted: row.counted, taken_back: row.taken_back };
                let (Standing { counted, taken_back }, sign) = standing.after(fate);
                count(tables, &row, sign)?;
                tables.open_orders.put(OpenOrderRow { counted, taken_back, ..row });
            }
        }
    }
    Ok(())
}

/// Adds an order to the customer's account, or with `sign` -1 takes it off again. With 0 there is nothing to do.
fn count(tables: &mut Tables, order: &OpenOrderRow, sign: i64) -> Result<(), FoldError> {
    if sign == 0 {
        return Ok(());
    }
    let key = (order.customer_id, order.currency.clone());
    let (orders, revenue) = tables.spend.get(&key)?.map_or((0, 0), |row| (row.orders, row.revenue_minor));
    let revenue_minor = order.total_minor.checked_mul(sign).and_then(|more| revenue.checked_add(more));
    tables.spend.put(SpendRow {
        customer_id: key.0,
        currency: key.1,
        orders: orders + sign,
        revenue_minor: revenue_minor.ok_or_else(|| overflow("a customer's spend"))?,
    });
    Ok(())
}
