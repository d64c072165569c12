//! Rows and tables as a fold sees them: typed structs in memory, whatever is behind.

use std::collections::HashMap;
use std::fmt::Debug;
use std::hash::Hash;

use chrono::{DateTime, NaiveDate, Utc};
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::types::Json;
use uuid::Uuid;

use crate::runtime::Comparison;

/// A query with its arguments, borrowed for as long as the rows that are bound to it.
pub type Query<'q> = sqlx::query::Query<'q, sqlx::Postgres, PgArguments>;

/// A row of a table. Declared with [`row!`](crate::row).
pub trait Row: Clone + Debug + PartialEq + Send + Sync + 'static {
    /// The table's name, without a schema.
    const TABLE: &'static str;
    /// The columns and their SQL types, those of the primary key first.
    const COLUMNS: &'static [(&'static str, &'static str)];
    /// How many of the columns make the primary key.
    const KEY_COLUMNS: usize;
    /// The primary key.
    type Key: Clone + Debug + Eq + Hash + Ord + Send + Sync;

    /// The row's primary key.
    fn key(&self) -> Self::Key;
    /// Reads a row whose columns come in the order of [`COLUMNS`](Self::COLUMNS).
    ///
    /// # Errors
    /// When the table has other columns.
    fn read(row: &PgRow) -> Result<Self, sqlx::Error>;
    /// Binds one array a key column.
    fn bind_keys<'q>(query: Query<'q>, keys: &'q [Self::Key]) -> Query<'q>;
    /// Binds one array a column.
    fn bind_rows<'q>(query: Query<'q>, rows: &[&'q Self]) -> Query<'q>;
    /// Appends the row in the binary format of `copy`.
    fn copy(&self, out: &mut Vec<u8>);
    /// The columns with their values, to be shown, in the order of [`COLUMNS`](Self::COLUMNS).
    fn shown(&self) -> Vec<(&'static str, String)>;
}

/// A type that a column can have.
pub trait Column {
    /// Its name in SQL.
    const SQL: &'static str;
    /// Appends the value in the binary format of `copy`: its length in bytes, then its bytes.
    fn copy(&self, out: &mut Vec<u8>);
}

/// Implements [`Column`] for a type by the bytes of its binary form.
macro_rules! column {
    ($($type:ty, $sql:literal, |$value:ident| $bytes:expr;)*) => { $(
        impl Column for $type {
            const SQL: &'static str = $sql;
            fn copy(&self, out: &mut Vec<u8>) {
                let $value = self;
                sized(out, $bytes.as_ref());
            }
        }
    )* };
}

column! {
    Uuid, "uuid", |id| id.as_bytes();
    String, "text", |text| text.as_bytes();
    i32, "int4", |number| number.to_be_bytes();
    i64, "int8", |number| number.to_be_bytes();
    bool, "bool", |flag| [u8::from(*flag)];
    // Postgres counts microseconds, and days, from the start of 2000.
    DateTime<Utc>, "timestamptz", |time| (time.timestamp_micros() - 946_684_800_000_000).to_be_bytes();
    NaiveDate, "date", |day| (day.to_epoch_days() - 10_957).to_be_bytes();
}

impl<T: Column> Column for Option<T> {
    const SQL: &'static str = T::SQL;
    fn copy(&self, out: &mut Vec<u8>) {
        match self {
            Some(value) => value.copy(out),
            None => out.extend((-1_i32).to_be_bytes()),
        }
    }
}

impl<T: serde::Serialize> Column for Json<T> {
    const SQL: &'static str = "jsonb";
    fn copy(&self, out: &mut Vec<u8>) {
        // The first byte is the version of the format. A value without a JSON form is null, as sqlx has it.
        let mut bytes = vec![1];
        if serde_json::to_writer(&mut bytes, &self.0).is_err() {
            bytes.truncate(1);
            bytes.extend(b"null");
        }
        sized(out, &bytes);
    }
}

fn sized(out: &mut Vec<u8>, bytes: &[u8]) {
    // A value past 2 GiB does not fit into a row anyway; the server refuses the length.
    out.extend(i32::try_from(bytes.len()).unwrap_or(i32::MAX).to_be_bytes());
    out.extend(bytes);
}

/// Declares a row: the table it stands in, its primary key, its other columns, and columns that a row has either all
/// together or not at all. Such a group costs a row without it nothing but a pointer; it is there when the first of its
/// columns is not null.
#[macro_export]
macro_rules! row {
    (
        $(#[$meta:meta])*
        pub struct $name:ident in $table:literal, key { $($(#[$kmeta:meta])* $key:ident : $ktype:ty),+ $(,)? } {
            $($(#[$cmeta:meta])* $column:ident : $ctype:ty),* $(,)?
        }
        $(
            $(#[$gmeta:meta])*
            optional $group:ident : $gname:ident { $first:ident : $ftype:ty $(, $more:ident : $mtype:ty)* $(,)? }
        )*
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq)]
        #[allow(missing_docs, reason = "what a column holds is said where its table is created")]
        pub struct $name {
            $($(#[$kmeta])* pub $key: $ktype,)+
            $($(#[$cmeta])* pub $column: $ctype,)*
            $(pub $group: Option<Box<$gname>>,)*
        }

        $(
            $(#[$gmeta])*
            #[derive(Debug, Clone, PartialEq)]
            #[allow(missing_docs, reason = "what a column holds is said where its table is created")]
            pub struct $gname {
                pub $first: $ftype,
                $(pub $more: $mtype,)*
            }
        )*

        impl $crate::rows::Row for $name {
            const TABLE: &'static str = $table;
            const COLUMNS: &'static [(&'static str, &'static str)] = &[
                $((stringify!($key), <$ktype as $crate::rows::Column>::SQL),)+
                $((stringify!($column), <$ctype as $crate::rows::Column>::SQL),)*
                $(
                    (stringify!($first), <$ftype as $crate::rows::Column>::SQL),
                    $((stringify!($more), <$mtype as $crate::rows::Column>::SQL),)*
                )*
            ];
            const KEY_COLUMNS: usize = [$(stringify!($key)),+].len();
            type Key = ($($ktype,)+);

            fn key(&self) -> Self::Key {
                ($(self.$key.clone(),)+)
            }

            fn read(row: &sqlx::postgres::PgRow) -> Result<Self, sqlx::Error> {
                use sqlx::Row as _;
                Ok(Self {
                    $($key: row.try_get(stringify!($key))?,)+
                    $($column: row.try_get(stringify!($column))?,)*
                    $($group: match row.try_get(stringify!($first))? {
                        Some($first) => Some(Box::new($gname {
                            $first,
                            $($more: row.try_get(stringify!($more))?,)*
                        })),
                        None => None,
                    },)*
                })
            }

            fn bind_keys<'q>(query: $crate::rows::Query<'q>, keys: &'q [Self::Key]) -> $crate::rows::Query<'q> {
                let ($($key,)+): ($(Vec<&$ktype>,)+) = keys.iter().map(|($($key,)+)| ($($key,)+)).collect();
                query $(.bind($key))+
            }

            fn bind_rows<'q>(query: $crate::rows::Query<'q>, rows: &[&'q Self]) -> $crate::rows::Query<'q> {
                query
                    $(.bind(rows.iter().map(|row| &row.$key).collect::<Vec<_>>()))+
                    $(.bind(rows.iter().map(|row| &row.$column).collect::<Vec<_>>()))*
                    $(
                        .bind(rows.iter().map(|row| row.$group.as_deref().map(|it| &it.$first)).collect::<Vec<_>>())
                        $(.bind(rows.iter().map(|row| row.$group.as_deref().map(|it| &it.$more)).collect::<Vec<_>>()))*
                    )*
            }

            fn shown(&self) -> Vec<(&'static str, String)> {
                vec![
                    $((stringify!($key), format!("{:?}", self.$key)),)+
                    $((stringify!($column), format!("{:?}", self.$column)),)*
                    $(
                        (stringify!($first), format!("{:?}", self.$group.as_deref().map(|it| &it.$first))),
                        $((stringify!($more), format!("{:?}", self.$group.as_deref().map(|it| &it.$more))),)*
                    )*
                ]
            }

            fn copy(&self, out: &mut Vec<u8>) {
                // Every row says how many columns follow.
                out.extend((Self::COLUMNS.len() as i16).to_be_bytes());
                $($crate::rows::Column::copy(&self.$key, out);)+
                $($crate::rows::Column::copy(&self.$column, out);)*
                $(match self.$group.as_deref() {
                    Some(group) => {
                        $crate::rows::Column::copy(&group.$first, out);
                        $($crate::rows::Column::copy(&group.$more, out);)*
                    }
                    None => {
                        $crate::rows::Column::copy(&None::<$ftype>, out);
                        $($crate::rows::Column::copy(&None::<$mtype>, out);)*
                    }
                })*
            }
        }
    };
}

/// A row that the fold asked for is not in memory. The runtime loads it and folds again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotLoaded;

/// The rows of one table that a batch touches.
///
/// A fold reads with [`get`](Self::get) and writes whole rows with [`put`](Self::put). Nothing it writes counts until
/// the batch is folded to its end.
#[derive(Debug)]
pub struct Rows<R: Row> {
    /// What is in the table, as far as it was loaded; `None` for a row that is not there.
    loaded: HashMap<R::Key, Option<R>>,
    /// What the fold made of it; `None` for a row that goes.
    changed: HashMap<R::Key, Option<R>>,
    /// What the fold asked for in vain.
    wanted: Vec<R::Key>,
    /// What stood in `changed` before the event that is being folded.
    before: Vec<(R::Key, Option<Option<R>>)>,
    /// Whether a row that is not in memory is not in the table either, as in a rebuild.
    complete: bool,
}

impl<R: Row> Rows<R> {
    /// No rows in memory. With `complete` the table is empty too, and everything that will be in it is put here.
    pub fn new(complete: bool) -> Self {
        Self { loaded: HashMap::new(), changed: HashMap::new(), wanted: Vec::new(), before: Vec::new(), complete }
    }

    /// The row with this key, or `None` when there is none.
    ///
    /// # Errors
    /// [`NotLoaded`] when it has to be loaded first; pass it on with `?`.
    pub fn get(&mut self, key: &R::Key) -> Result<Option<&R>, NotLoaded> {
        match self.changed.get(key).or_else(|| self.loaded.get(key)) {
            Some(row) => Ok(row.as_ref()),
            None if self.complete => Ok(None),
            None => {
                self.wanted.push(key.clone());
                Err(NotLoaded)
            }
        }
    }

    /// Writes a row over what has its key.
    pub fn put(&mut self, row: R) {
        let key = row.key();
        let before = self.changed.insert(key.clone(), Some(row));
        self.before.push((key, before));
    }

    /// Takes a row away.
    pub fn remove(&mut self, key: R::Key) {
        let before = self.changed.insert(key.clone(), None);
        self.before.push((key, before));
    }

    /// From here on the next event is folded: what was made so far stays.
    #[doc(hidden)]
    pub fn begin(&mut self) {
        self.before.clear();
    }

    /// Takes back what the event made that was being folded.
    #[doc(hidden)]
    pub fn take_back(&mut self) {
        while let Some((key, before)) = self.before.pop() {
            match before {
                Some(row) => self.changed.insert(key, row),
                None => self.changed.remove(&key),
            };
        }
    }

    /// The rows that were put, in the order of their keys.
    pub fn written(&self) -> Vec<&R> {
        let mut rows: Vec<&R> = self.changed.values().flatten().collect();
        rows.sort_unstable_by_key(|row| row.key());
        rows
    }

    /// The keys that were taken away.
    pub(crate) fn removed(&self) -> Vec<R::Key> {
        self.changed.iter().filter(|(_, row)| row.is_none()).map(|(key, _)| key.clone()).collect()
    }

    /// What the fold asked for in vain since the last time, each key once.
    pub(crate) fn take_wanted(&mut self) -> Vec<R::Key> {
        let mut wanted = std::mem::take(&mut self.wanted);
        wanted.sort_unstable();
        wanted.dedup();
        wanted
    }

    /// Takes in what was found under the wanted keys.
    pub(crate) fn load(&mut self, wanted: Vec<R::Key>, found: Vec<R>) {
        self.loaded.extend(wanted.into_iter().map(|key| (key, None)));
        self.loaded.extend(found.into_iter().map(|row| (row.key(), Some(row))));
    }

    /// Takes in what was asked for from rows that are all there are. Says whether there was anything.
    #[doc(hidden)]
    pub fn load_from(&mut self, all: &Self) -> bool {
        let wanted = self.take_wanted();
        let any = !wanted.is_empty();
        let found = wanted.iter().filter_map(|key| all.changed.get(key).cloned().flatten()).collect();
        self.load(wanted, found);
        any
    }

    /// Writes what the fold made over rows that are all there are.
    #[doc(hidden)]
    pub fn write_to(self, all: &mut Self) {
        all.changed.extend(self.changed);
    }

    /// Forgets what the fold made, so that it can fold again.
    #[doc(hidden)]
    pub fn reset(&mut self) {
        self.changed.clear();
        self.before.clear();
    }

    /// Forgets everything.
    #[doc(hidden)]
    pub fn clear(&mut self) {
        self.loaded.clear();
        self.reset();
    }
}

/// The tables of a read model. Declared with [`tables!`](crate::tables).
#[async_trait::async_trait]
pub trait Tables: Send + Sync + 'static {
    /// No rows in memory; see [`Rows::new`].
    fn new(complete: bool) -> Self;
    /// The names of the tables.
    fn names() -> Vec<&'static str>;
    /// Loads what the fold asked for in vain. Says whether there was anything.
    async fn load(&mut self, schema: &str, connection: &mut sqlx::PgConnection) -> Result<bool, sqlx::Error>;
    /// Writes what the fold made: each changed row once.
    async fn write(&self, schema: &str, connection: &mut sqlx::PgConnection) -> Result<(), sqlx::Error>;
    /// Compares everything that was put with the rows in the tables: all of them, or those that have a value, as text, in a
    /// column.
    async fn compare(
        &self,
        schema: &str,
        connection: &mut sqlx::PgConnection,
        only: Option<(&'static str, &str)>,
        comparison: &mut Comparison,
    ) -> Result<(), sqlx::Error>;
    /// As [`load`](Self::load), from tables in memory that hold everything.
    fn load_from(&mut self, all: &Self) -> bool;
    /// As [`write`](Self::write), into tables in memory that hold everything.
    fn write_to(self, all: &mut Self);
    /// Every row that was put, to compare: by table, and in the order of the keys.
    fn shown(&self) -> Vec<String>;
    /// Copies everything that was put into tables that were made in the same transaction. Returns the number of rows.
    async fn copy(&self, schema: &str, connection: &mut sqlx::PgConnection) -> Result<u64, sqlx::Error>;
    /// From here on the next event is folded: what was made so far stays.
    fn begin(&mut self);
    /// Takes back what the event made that was being folded.
    fn take_back(&mut self);
    /// Forgets what the fold made, so that it can fold again.
    fn reset(&mut self);
    /// Forgets everything.
    fn clear(&mut self);
}

/// Declares the tables of a read model.
#[macro_export]
macro_rules! tables {
    ($(#[$meta:meta])* pub struct $name:ident { $($(#[$tmeta:meta])* $table:ident : $row:ty),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Debug)]
        pub struct $name {
            $($(#[$tmeta])* pub $table: $crate::rows::Rows<$row>,)+
        }

        #[async_trait::async_trait]
        impl $crate::rows::Tables for $name {
            fn new(complete: bool) -> Self {
                Self { $($table: $crate::rows::Rows::new(complete),)+ }
            }

            fn names() -> Vec<&'static str> {
                vec![$(<$row as $crate::rows::Row>::TABLE),+]
            }

            async fn load(&mut self, schema: &str, connection: &mut sqlx::PgConnection) -> Result<bool, sqlx::Error> {
                let mut any = false;
                $(any |= $crate::runtime::sql::load(&mut self.$table, schema, connection).await?;)+
                Ok(any)
            }

            async fn write(&self, schema: &str, connection: &mut sqlx::PgConnection) -> Result<(), sqlx::Error> {
                $($crate::runtime::sql::write(&self.$table, schema, connection).await?;)+
                Ok(())
            }

            async fn compare(
                &self,
                schema: &str,
                connection: &mut sqlx::PgConnection,
                only: Option<(&'static str, &str)>,
                comparison: &mut $crate::runtime::Comparison,
            ) -> Result<(), sqlx::Error> {
                $($crate::runtime::sql::compare(&self.$table, schema, connection, only, comparison).await?;)+
                Ok(())
            }

            fn load_from(&mut self, all: &Self) -> bool {
                let mut any = false;
                $(any |= self.$table.load_from(&all.$table);)+
                any
            }

            fn write_to(self, all: &mut Self) {
                $(self.$table.write_to(&mut all.$table);)+
            }

            fn shown(&self) -> Vec<String> {
                let mut shown = Vec::new();
                $(shown.extend(self.$table.written().into_iter().map(|row| format!("{row:?}")));)+
                shown
            }

            async fn copy(&self, schema: &str, connection: &mut sqlx::PgConnection) -> Result<u64, sqlx::Error> {
                let mut rows = 0;
                $(rows += $crate::runtime::sql::copy(&self.$table, schema, connection).await?;)+
                Ok(rows)
            }

            fn begin(&mut self) {
                $(self.$table.begin();)+
            }

            fn take_back(&mut self) {
                $(self.$table.take_back();)+
            }

            fn reset(&mut self) {
                $(self.$table.reset();)+
            }

            fn clear(&mut self) {
                $(self.$table.clear();)+
            }
        }
    };
}
