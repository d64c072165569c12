//! The tables of a read model, together.

use std::io;

use crate::runtime::Comparison;
use crate::runtime::sql::Statement;

/// Takes rows of a table, in the binary format of `copy`.
pub type Pour<'a> = &'a mut (dyn FnMut(&'static str, Vec<u8>) + Send);

/// The tables of a read model. Declared with [`tables!`](crate::tables).
#[async_trait::async_trait]
pub trait Tables: Send + Sync + 'static {
    /// No rows in memory; see [`Rows::new`](super::Rows::new).
    fn new(complete: bool) -> Self;
    /// The names of the tables.
    fn names() -> Vec<&'static str>;
    /// The statements that copy rows into the tables, in a schema, by table.
    fn copies(schema: &str) -> Vec<(&'static str, String)>;
    /// Loads what the fold asked for in vain. Says whether there was anything.
    async fn load(&mut self, schema: &str, connection: &mut sqlx::PgConnection) -> Result<bool, sqlx::Error>;
    /// Adds what the fold made to a statement: each changed row once.
    ///
    /// # Errors
    /// When a value is larger than the protocol can carry.
    fn write(&self, schema: &str, statement: &mut Statement) -> Result<(), sqlx::Error>;
    /// What the fold made is in the tables now, and stays in memory for what comes next, as far as there is room.
    fn keep(&mut self);
    /// Compares everything that was put with the rows in the tables: all of them, or those that have a value, as text, in a
    /// column. Nothing is left in here afterwards.
    async fn compare(
        &mut self,
        schema: &str,
        connection: &mut sqlx::PgConnection,
        only: Option<(&'static str, &str)>,
        comparison: &mut Comparison,
    ) -> Result<(), sqlx::Error>;
    /// Deletes the rows that have a value, as text, in a column.
    async fn delete_key(
        schema: &str,
        connection: &mut sqlx::PgConnection,
        column: &'static str,
        key: &str,
    ) -> Result<(), sqlx::Error>;
    /// As [`load`](Self::load), from tables in memory that hold everything.
    fn load_from(&mut self, all: &Self) -> bool;
    /// As [`write`](Self::write), into tables in memory that hold everything.
    fn write_to(self, all: &mut Self);
    /// Every row that was put, to compare: by table, and in the order of the keys.
    fn shown(&self) -> Vec<String>;
    /// From here on the next event is folded: what was made so far stays.
    fn begin(&mut self);
    /// Takes back what the event made that was being folded.
    fn take_back(&mut self);
    /// Whether the fold made nothing.
    fn is_unchanged(&self) -> bool;
    /// Forgets what the fold made, so that it can fold again.
    fn reset(&mut self);
    /// Forgets everything.
    fn clear(&mut self);
    /// How many bytes of memory all rows together may take, about. What was not touched lately is then kept in a file.
    fn limit(&mut self, bytes: usize);
    /// Nothing that was folded so far is taken back. What does not fit into memory leaves it.
    ///
    /// # Errors
    /// When the file cannot be written.
    fn settle(&mut self) -> io::Result<()>;
    /// As [`settle`](Self::settle), and hands over the rows that will not change any more.
    ///
    /// # Errors
    /// When the file cannot be written.
    fn pour_settled(&mut self, out: Pour<'_>) -> io::Result<()>;
    /// Hands over all rows.
    ///
    /// # Errors
    /// When the file cannot be read.
    fn pour(&mut self, out: Pour<'_>) -> io::Result<()>;
    /// Why a row that a fold asked for could not be had, if so.
    fn failed(&mut self) -> Option<io::Error>;
}

/// Declares the tables of a read model: [`Rows`](crate::rows::Rows) that a fold reads and writes over, and rows that are only
/// ever [`Appended`](crate::rows::Appended).
#[macro_export]
macro_rules! tables {
    ($(#[$meta:meta])* pub struct $name:ident { $($(#[$tmeta:meta])* $field:ident : $table:ty),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Debug)]
        pub struct $name {
            $($(#[$tmeta])* pub $field: $table,)+
        }

        #[async_trait::async_trait]
        impl $crate::rows::Tables for $name {
            fn new(complete: bool) -> Self {
                Self { $($field: $crate::rows::Table::new(complete),)+ }
            }

            fn names() -> Vec<&'static str> {
                vec![$($crate::runtime::sql::name::<$table>()),+]
            }

            fn copies(schema: &str) -> Vec<(&'static str, String)> {
                vec![$(($crate::runtime::sql::name::<$table>(), $crate::runtime::sql::copy::<$table>(schema))),+]
            }

            async fn load(&mut self, schema: &str, connection: &mut sqlx::PgConnection) -> Result<bool, sqlx::Error> {
                let mut any = false;
                $(any |= $crate::runtime::sql::load(&mut self.$field, schema, connection).await?;)+
                Ok(any)
            }

            fn write(&self, schema: &str, statement: &mut $crate::runtime::sql::Statement) -> Result<(), sqlx::Error> {
                $(statement.write(&self.$field, schema)?;)+
                Ok(())
            }

            fn keep(&mut self) {
                $($crate::rows::Table::keep(&mut self.$field);)+
            }

            async fn compare(
                &mut self,
                schema: &str,
                connection: &mut sqlx::PgConnection,
                only: Option<(&'static str, &str)>,
                comparison: &mut $crate::runtime::Comparison,
            ) -> Result<(), sqlx::Error> {
                $($crate::runtime::sql::compare(&mut self.$field, schema, connection, only, comparison).await?;)+
                Ok(())
            }

            async fn delete_key(
                schema: &str,
                connection: &mut sqlx::PgConnection,
                column: &'static str,
                key: &str,
            ) -> Result<(), sqlx::Error> {
                $($crate::runtime::sql::delete_key::<$table>(schema, connection, column, key).await?;)+
                Ok(())
            }

            fn load_from(&mut self, all: &Self) -> bool {
                let mut any = false;
                $(any |= $crate::rows::Table::load_from(&mut self.$field, &all.$field);)+
                any
            }

            fn write_to(self, all: &mut Self) {
                $($crate::rows::Table::write_to(self.$field, &mut all.$field);)+
            }

            fn shown(&self) -> Vec<String> {
                let mut shown = Vec::new();
                $(shown.extend(self.$field.written().into_iter().map(|row| format!("{row:?}")));)+
                shown
            }

            fn begin(&mut self) {
                $($crate::rows::Table::begin(&mut self.$field);)+
            }

            fn take_back(&mut self) {
                $($crate::rows::Table::take_back(&mut self.$field);)+
            }

            fn is_unchanged(&self) -> bool {
                $($crate::rows::Table::is_unchanged(&self.$field))&&+
            }

            fn reset(&mut self) {
                $($crate::rows::Table::reset(&mut self.$field);)+
            }

            fn clear(&mut self) {
                $($crate::rows::Table::clear(&mut self.$field);)+
            }

            fn limit(&mut self, bytes: usize) {
                let each = bytes / Self::names().len();
                $($crate::rows::Table::limit(&mut self.$field, each);)+
            }

            fn settle(&mut self) -> std::io::Result<()> {
                $($crate::rows::Table::settle(&mut self.$field)?;)+
                Ok(())
            }

            fn pour_settled(&mut self, out: $crate::rows::Pour<'_>) -> std::io::Result<()> {
                $($crate::rows::Table::pour_settled(&mut self.$field, &mut |rows| {
                    out($crate::runtime::sql::name::<$table>(), rows);
                })?;)+
                Ok(())
            }

            fn pour(&mut self, out: $crate::rows::Pour<'_>) -> std::io::Result<()> {
                $($crate::rows::Table::pour(&mut self.$field, &mut |rows| {
                    out($crate::runtime::sql::name::<$table>(), rows);
                })?;)+
                Ok(())
            }

            fn failed(&mut self) -> Option<std::io::Error> {
                $(if let Some(error) = $crate::rows::Table::failed(&mut self.$field) {
                    return Some(error);
                })+
                None
            }
        }
    };
}
