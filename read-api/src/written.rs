//! Lists that are written as JSON at once. Where a list is resolved field by field, every field of every row takes a future
//! and a value of its own, which costs several times what reading the rows does. So a type says how its fields are
//! written, and a list in which nothing else is selected is written into one text, which the answer takes in as it is.
//!
//! What a field is called, what it is and who may read it stays with the schema and the table of permissions, which is asked
//! before anything is executed. A field that is not in [`Written::FIELDS`] is resolved as ever, and with it its list.

use std::collections::HashMap;

use async_graphql::parser::types::{Field, FragmentDefinition, Selection, SelectionSet};
use async_graphql::resolver_utils::EnumType;
use async_graphql::{Context, ContextSelectionSet, ID, Name, OutputType, Positioned, Value};
use chrono::{Datelike as _, SecondsFormat, Timelike as _};
use futures::future::BoxFuture;
use serde::Serialize;

use crate::error::Failure;
use crate::position::Position;
use crate::scalars::{Currency, DateTime, Long, Sku, Uuid};

/// A type of which lists are written at once.
pub(crate) trait Written: OutputType + Sized + 'static {
    /// How its fields are written.
    const FIELDS: &'static [(&'static str, Write<Self>)];
}

/// How a field is written.
pub(crate) enum Write<T: 'static> {
    /// As a scalar.
    Plain(fn(&T, &mut Json)),
    /// As something with fields of its own: [`Selected`] makes the part from the function that finds it. `None` if it cannot
    /// be written at once.
    Within(fn(&Selected<'_>) -> Option<Box<dyn Part<T>>>),
}

/// In the data of a request: its transport takes in what is written already.
pub(crate) struct TakenIn;

/// The rows of a list, if they can be written at once. If not, and also when something fails, resolvers have the word.
pub(crate) async fn list<T: Written>(
    ctx: &ContextSelectionSet<'_>,
    field: &Positioned<Field>,
    rows: &[&T],
) -> Option<Value> {
    ctx.data_opt::<TakenIn>()?;
    let selected = Selected { set: &field.node.selection_set.node, fragments: &ctx.query_env.fragments };
    let plan = Plan::of(&selected)?;
    if plan.loads {
        plan.load(rows, &ctx.with_field(field)).await.ok()?;
    }
    let mut json = Json::default();
    json.list(rows.iter().copied(), |row, json| plan.write(row, json));
    (!json.broken).then(|| Value::Binary(json.bytes.into()))
}

/// Adds a value to an answer, with what was written already as it is.
pub(crate) fn write(value: &Value, out: &mut Vec<u8>) -> serde_json::Result<()> {
    match value {
        Value::Binary(written) => out.extend_from_slice(written),
        Value::List(values) => {
            out.push(b'[');
            for (number, value) in values.iter().enumerate() {
                if number > 0 {
                    out.push(b',');
                }
                write(value, out)?;
            }
            out.push(b']');
        }
        Value::Object(fields) => {
            out.push(b'{');
            for (number, (name, value)) in fields.iter().enumerate() {
                if number > 0 {
                    out.push(b',');
                }
                serde_json::to_writer(&mut *out, name.as_str())?;
                out.push(b':');
                write(value, out)?;
            }
            out.push(b'}');
        }
        scalar => serde_json::to_writer(out, scalar)?,
    }
    Ok(())
}

/// What is selected of something.
pub(crate) struct Selected<'a> {
    set: &'a SelectionSet,
    fragments: &'a HashMap<Name, Positioned<FragmentDefinition>>,
}

/// What loads what belongs to rows, for all of them.
pub(crate) type Load<T> = for<'a> fn(&'a [&'a T], &'a Context<'_>) -> BoxFuture<'a, Result<(), Failure>>;

/// A [`Load`] by a method that loads, with what it is asked for, what belongs to all rows that were read together.
macro_rules! each {
    ($load:ident) => {
        |rows, ctx| {
            Box::pin(async move {
                for row in rows {
                    row.$load(ctx).await?;
                }
                Ok(())
            })
        }
    };
}
pub(crate) use each;

impl Selected<'_> {
    /// Something that is made of the row; null if there is none.
    pub(crate) fn made<T: Written, U: Written>(&self, find: fn(&T) -> Option<U>) -> Option<Box<dyn Part<T>>> {
        let plan = Plan::of(self)?;
        // It is gone before anything could be loaded for it.
        (!plan.loads).then(|| Box::new(Made { plan, find }) as Box<dyn Part<T>>)
    }

    /// Something that is made of the row; if there is none, the resolver has to tell why.
    pub(crate) fn tried<T: Written, U: Written>(&self, find: fn(&T) -> Option<U>) -> Option<Box<dyn Part<T>>> {
        let plan = Plan::of(self)?;
        (!plan.loads).then(|| Box::new(Tried { plan, find }) as Box<dyn Part<T>>)
    }

    /// Something that the row has, or that was loaded with it; null if there is none.
    pub(crate) fn one<T: Written, U: Written>(
        &self,
        load: Option<Load<T>>,
        find: fn(&T) -> Option<&U>,
    ) -> Option<Box<dyn Part<T>>> {
        Some(Box::new(One { plan: Plan::of(self)?, load, find }))
    }

    /// A list that was loaded with the row.
    pub(crate) fn many<T: Written, U: Written>(
        &self,
        load: Option<Load<T>>,
        find: fn(&T) -> &[U],
    ) -> Option<Box<dyn Part<T>>> {
        Some(Box::new(Many { plan: Plan::of(self)?, load, find }))
    }
}

/// What is written of each row.
struct Plan<T: 'static> {
    parts: Vec<(String, How<T>)>,
    /// Whether anything is loaded first.
    loads: bool,
}

enum How<T: 'static> {
    Plain(fn(&T, &mut Json)),
    TypeName,
    Within(Box<dyn Part<T>>),
}

impl<T: Written> Plan<T> {
    fn of(selected: &Selected<'_>) -> Option<Self> {
        let mut plan = Self { parts: Vec::with_capacity(selected.set.items.len()), loads: false };
        plan.add(selected)?;
        Some(plan)
    }

    fn add(&mut self, selected: &Selected<'_>) -> Option<()> {
        for selection in &selected.set.items {
            let (condition, set) = match &selection.node {
                Selection::Field(field) => {
                    self.add_field(&field.node, selected)?;
                    continue;
                }
                Selection::InlineFragment(fragment) => {
                    (fragment.node.type_condition.as_ref(), &fragment.node.selection_set)
                }
                Selection::FragmentSpread(spread) => {
                    let fragment = &selected.fragments.get(&spread.node.fragment_name.node)?.node;
                    (Some(&fragment.type_condition), &fragment.selection_set)
                }
            };
            // An interface's name is as good, but rare.
            if condition.is_some_and(|condition| T::type_name() != condition.node.on.node.as_str()) {
                return None;
            }
            self.add(&Selected { set: &set.node, fragments: selected.fragments })?;
        }
        Some(())
    }

    fn add_field(&mut self, field: &Field, selected: &Selected<'_>) -> Option<()> {
        let key = &field.response_key().node;
        let start = format!("\"{key}\":");
        let (name, set) = (field.name.node.as_str(), &field.selection_set.node);
        if self.parts.iter().any(|(other, _)| *other == start) {
            // A scalar is the same a second time, or the validation would have refused it.
            return set.items.is_empty().then_some(());
        }
        let how = match name {
            "__typename" => How::TypeName,
            _ => match &T::FIELDS.iter().find(|(of, _)| *of == name)?.1 {
                Write::Plain(write) => How::Plain(*write),
                Write::Within(part) => {
                    let part = part(&Selected { set, fragments: selected.fragments })?;
                    self.loads |= part.loads();
                    How::Within(part)
                }
            },
        };
        self.parts.push((start, how));
        Some(())
    }

    async fn load(&self, rows: &[&T], ctx: &Context<'_>) -> Result<(), Failure> {
        for (_, how) in &self.parts {
            if let How::Within(part) = how
                && part.loads()
            {
                part.load(rows, ctx).await?;
            }
        }
        Ok(())
    }

    fn write(&self, row: &T, json: &mut Json) {
        json.bytes.push(b'{');
        for (number, (start, how)) in self.parts.iter().enumerate() {
            if number > 0 {
                json.bytes.push(b',');
            }
            json.bytes.extend_from_slice(start.as_bytes());
            match how {
                How::Plain(write) => write(row, json),
                How::TypeName => json.string(&T::type_name()),
                How::Within(part) => part.write(row, json),
            }
        }
        json.bytes.push(b'}');
    }
}

/// Something within a row that has fields of its own.
pub(crate) trait Part<T>: Send + Sync {
    fn loads(&self) -> bool;

    fn load<'a>(&'a self, rows: &'a [&'a T], ctx: &'a Context<'_>) -> BoxFuture<'a, Result<(), Failure>>;

    fn write(&self, row: &T, json: &mut Json);
}

struct Made<T: 'static, U: 'static> {
    plan: Plan<U>,
    find: fn(&T) -> Option<U>,
}

impl<T: Written, U: Written> Part<T> for Made<T, U> {
    fn loads(&self) -> bool {
        false
    }

    fn load<'a>(&'a self, _: &'a [&'a T], _: &'a Context<'_>) -> BoxFuture<'a, Result<(), Failure>> {
        Box::pin(async { Ok(()) })
    }

    fn write(&self, row: &T, json: &mut Json) {
        match (self.find)(row) {
            Some(found) => self.plan.write(&found, json),
            None => json.null(),
        }
    }
}

struct Tried<T: 'static, U: 'static> {
    plan: Plan<U>,
    find: fn(&T) -> Option<U>,
}

impl<T: Written, U: Written> Part<T> for Tried<T, U> {
    fn loads(&self) -> bool {
        false
    }

    fn load<'a>(&'a self, _: &'a [&'a T], _: &'a Context<'_>) -> BoxFuture<'a, Result<(), Failure>> {
        Box::pin(async { Ok(()) })
    }

    fn write(&self, row: &T, json: &mut Json) {
        match (self.find)(row) {
            Some(found) => self.plan.write(&found, json),
            None => json.broken = true,
        }
    }
}

struct One<T: 'static, U: 'static> {
    plan: Plan<U>,
    load: Option<Load<T>>,
    find: fn(&T) -> Option<&U>,
}

impl<T: Written, U: Written> Part<T> for One<T, U> {
    fn loads(&self) -> bool {
        self.load.is_some() || self.plan.loads
    }

    fn load<'a>(&'a self, rows: &'a [&'a T], ctx: &'a Context<'_>) -> BoxFuture<'a, Result<(), Failure>> {
        Box::pin(async move {
            if let Some(load) = self.load {
                load(rows, ctx).await?;
            }
            let found: Vec<&U> = rows.iter().filter_map(|row| (self.find)(row)).collect();
            self.plan.load(&found, ctx).await
        })
    }

    fn write(&self, row: &T, json: &mut Json) {
        match (self.find)(row) {
            Some(found) => self.plan.write(found, json),
            None => json.null(),
        }
    }
}

struct Many<T: 'static, U: 'static> {
    plan: Plan<U>,
    load: Option<Load<T>>,
    find: fn(&T) -> &[U],
}

impl<T: Written, U: Written> Part<T> for Many<T, U> {
    fn loads(&self) -> bool {
        self.load.is_some() || self.plan.loads
    }

    fn load<'a>(&'a self, rows: &'a [&'a T], ctx: &'a Context<'_>) -> BoxFuture<'a, Result<(), Failure>> {
        Box::pin(async move {
            if let Some(load) = self.load {
                load(rows, ctx).await?;
            }
            if self.plan.loads {
                let found: Vec<&U> = rows.iter().flat_map(|row| (self.find)(row)).collect();
                self.plan.load(&found, ctx).await?;
            }
            Ok(())
        })
    }

    fn write(&self, row: &T, json: &mut Json) {
        json.list((self.find)(row), |found, json| self.plan.write(found, json));
    }
}

/// JSON that is being written.
#[derive(Default)]
pub(crate) struct Json {
    bytes: Vec<u8>,
    /// Whether something could not be written.
    broken: bool,
}

impl Json {
    /// Writes a scalar.
    pub(crate) fn put(&mut self, scalar: &(impl Put + ?Sized)) {
        scalar.put(self);
    }

    /// Writes a value of an enum by its name.
    pub(crate) fn name<E: EnumType>(&mut self, value: E) {
        match E::items().iter().find(|item| item.value == value) {
            Some(item) => self.string(item.name),
            None => self.broken = true,
        }
    }

    /// Writes a scalar, or leaves it to its resolver to tell why there is none.
    pub(crate) fn tried<E>(&mut self, scalar: Result<impl Put, E>) {
        match scalar {
            Ok(scalar) => scalar.put(self),
            Err(_) => self.broken = true,
        }
    }

    fn null(&mut self) {
        self.bytes.extend_from_slice(b"null");
    }

    fn string(&mut self, text: &str) {
        self.serialised(text);
    }

    /// Writes characters that need no escape.
    fn quoted(&mut self, text: &[u8]) {
        self.bytes.push(b'"');
        self.bytes.extend_from_slice(text);
        self.bytes.push(b'"');
    }

    fn serialised(&mut self, value: &(impl Serialize + ?Sized)) {
        // Nothing that is put here can fail, and memory has no errors.
        self.broken |= serde_json::to_writer(&mut self.bytes, value).is_err();
    }

    fn list<T>(&mut self, values: impl IntoIterator<Item = T>, mut write: impl FnMut(T, &mut Self)) {
        self.bytes.push(b'[');
        for (number, value) in values.into_iter().enumerate() {
            if number > 0 {
                self.bytes.push(b',');
            }
            write(value, self);
        }
        self.bytes.push(b']');
    }
}

/// A scalar, as its `OutputType` has it.
pub(crate) trait Put {
    fn put(&self, json: &mut Json);
}

impl<T: Put> Put for Option<T> {
    fn put(&self, json: &mut Json) {
        match self {
            Some(value) => value.put(json),
            None => json.null(),
        }
    }
}

impl Put for Uuid {
    fn put(&self, json: &mut Json) {
        json.quoted(self.0.hyphenated().encode_lower(&mut [0; 36]).as_bytes());
    }
}

impl Put for DateTime {
    fn put(&self, json: &mut Json) {
        let (day, time) = (self.0.date_naive(), self.0.time());
        let (Ok(year @ 0..=9999), micros @ 0..1_000_000) = (u32::try_from(day.year()), time.nanosecond() / 1000) else {
            return json.quoted(self.0.to_rfc3339_opts(SecondsFormat::AutoSi, true).as_bytes());
        };
        if time.nanosecond() % 1000 > 0 {
            return json.quoted(self.0.to_rfc3339_opts(SecondsFormat::AutoSi, true).as_bytes());
        }
        let mut text = *b"0000-00-00T00:00:00.000000";
        let mut at = |from: usize, digits: usize, mut number: u32| {
            for digit in text[from..from + digits].iter_mut().rev() {
                *digit = b'0' + (number % 10) as u8;
                number /= 10;
            }
        };
        at(0, 4, year);
        at(5, 2, day.month());
        at(8, 2, day.day());
        at(11, 2, time.hour());
        at(14, 2, time.minute());
        at(17, 2, time.second());
        at(20, 6, micros);
        let length = match micros {
            0 => 19,
            micros if micros % 1000 == 0 => 23,
            _ => 26,
        };
        json.bytes.push(b'"');
        json.bytes.extend_from_slice(&text[..length]);
        json.bytes.extend_from_slice(b"Z\"");
    }
}

impl Put for Sku {
    fn put(&self, json: &mut Json) {
        json.string(&self.0);
    }
}

impl Put for Currency {
    fn put(&self, json: &mut Json) {
        json.string(&self.0);
    }
}

impl Put for Long {
    fn put(&self, json: &mut Json) {
        json.serialised(&self.0);
    }
}

impl Put for Position {
    fn put(&self, json: &mut Json) {
        json.string(&self.to_string());
    }
}

impl Put for ID {
    fn put(&self, json: &mut Json) {
        json.string(self.as_str());
    }
}

impl Put for String {
    fn put(&self, json: &mut Json) {
        json.string(self);
    }
}

impl Put for i32 {
    fn put(&self, json: &mut Json) {
        json.serialised(self);
    }
}

impl Put for f64 {
    fn put(&self, json: &mut Json) {
        json.serialised(self);
    }
}

impl Put for bool {
    fn put(&self, json: &mut Json) {
        json.serialised(self);
    }
}

#[cfg(test)]
mod tests {
    use async_graphql::ScalarType as _;
    use async_graphql::parser::parse_schema;
    use async_graphql::parser::types::{TypeKind, TypeSystemDefinition};
    use proptest::prelude::*;

    use super::*;
    use crate::checkouts::Checkout;
    use crate::customers::{Customer, CustomerSpend};
    use crate::ledger::LedgerEntry;
    use crate::low_stock::LowStock;
    use crate::money::Money;
    use crate::orders::{Order, OrderLine};
    use crate::parked::ParkedEvent;
    use crate::payments::{PaymentRecord, PaymentRefund};
    use crate::products::Product;
    use crate::stock::{Stock, StockMovement};

    /// A field that is missing here makes every list slow that selects it.
    #[test]
    fn every_field_without_arguments_is_written() {
        fn written<T: Written>() -> (String, Vec<&'static str>) {
            (T::type_name().into_owned(), T::FIELDS.iter().map(|(name, _)| *name).collect())
        }
        let written: HashMap<_, _> = HashMap::from([
            written::<Order>(),
            written::<OrderLine>(),
            written::<Money>(),
            written::<Customer>(),
            written::<CustomerSpend>(),
            written::<Product>(),
            written::<Stock>(),
            written::<StockMovement>(),
            written::<Checkout>(),
            written::<LedgerEntry>(),
            written::<PaymentRecord>(),
            written::<PaymentRefund>(),
            written::<LowStock>(),
            written::<ParkedEvent>(),
        ]);
        let mut held = 0;
        for definition in parse_schema(crate::sdl()).unwrap().definitions {
            let TypeSystemDefinition::Type(definition) = definition else { continue };
            let (name, TypeKind::Object(object)) = (definition.node.name.node, definition.node.kind) else { continue };
            let Some(written) = written.get(name.as_str()) else { continue };
            held += 1;
            for field in object.fields.iter().filter(|field| field.node.arguments.is_empty()) {
                assert!(written.contains(&field.node.name.node.as_str()), "{name}.{}", field.node.name.node);
            }
        }
        assert_eq!(held, written.len());
    }

    proptest! {
        #[test]
        fn a_time_is_written_as_its_scalar_is(seconds in -99_999_999_999_i64..=999_999_999_999, fraction in 0..1_000_000_000_u32, per in 0..4_u32) {
            // A whole number of nanoseconds, microseconds, milliseconds or seconds.
            let unit = 1000_u32.pow(per);
            let time = DateTime(chrono::DateTime::from_timestamp(seconds, fraction / unit * unit).unwrap());
            let mut json = Json::default();
            json.put(&time);
            prop_assert_eq!(String::from_utf8(json.bytes).unwrap(), serde_json::to_string(&time.to_value()).unwrap());
        }

        #[test]
        fn an_id_is_written_as_its_scalar_is(id: u128) {
            let id = Uuid(uuid::Uuid::from_u128(id));
            let mut json = Json::default();
            json.put(&id);
            prop_assert_eq!(String::from_utf8(json.bytes).unwrap(), serde_json::to_string(&id.to_value()).unwrap());
        }
    }
}
