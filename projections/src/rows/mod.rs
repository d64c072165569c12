//! Rows and tables as a fold sees them: typed structs in memory, whatever is behind.

mod column;
mod spill;
mod table;
mod tables;

use std::fmt::Debug;
use std::hash::Hash;

use sqlx::error::BoxDynError;
use sqlx::postgres::{PgArguments, PgRow};

pub use column::{Column, Fields};
pub use table::{Appended, NotLoaded, Rows, Table};
pub use tables::{Pour, Tables};

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
    ///
    /// # Errors
    /// When a value is larger than the protocol can carry.
    fn bind_keys(arguments: &mut PgArguments, keys: &[Self::Key]) -> Result<(), BoxDynError>;
    /// Binds one array a column.
    ///
    /// # Errors
    /// As [`bind_keys`](Self::bind_keys).
    fn bind_rows(arguments: &mut PgArguments, rows: &[&Self]) -> Result<(), BoxDynError>;
    /// Appends the row in the binary format of `copy`.
    fn copy(&self, out: &mut Vec<u8>);
    /// Reads what [`copy`](Self::copy) has written; `None` when these bytes are no such row.
    fn parse(bytes: &[u8]) -> Option<Self>;
    /// The columns with their values, to be shown, in the order of [`COLUMNS`](Self::COLUMNS).
    fn shown(&self) -> Vec<(&'static str, String)>;
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

            fn bind_keys(
                arguments: &mut sqlx::postgres::PgArguments,
                keys: &[Self::Key],
            ) -> Result<(), sqlx::error::BoxDynError> {
                use sqlx::Arguments as _;
                let ($($key,)+): ($(Vec<&$ktype>,)+) = keys.iter().map(|($($key,)+)| ($($key,)+)).collect();
                $(arguments.add($key)?;)+
                Ok(())
            }

            fn bind_rows(
                arguments: &mut sqlx::postgres::PgArguments,
                rows: &[&Self],
            ) -> Result<(), sqlx::error::BoxDynError> {
                use sqlx::Arguments as _;
                $(arguments.add(rows.iter().map(|row| &row.$key).collect::<Vec<_>>())?;)+
                $(arguments.add(rows.iter().map(|row| &row.$column).collect::<Vec<_>>())?;)*
                $(
                    arguments.add(rows.iter().map(|row| row.$group.as_deref().map(|it| &it.$first)).collect::<Vec<_>>())?;
                    $(
                        let values = rows.iter().map(|row| row.$group.as_deref().map(|it| &it.$more));
                        arguments.add(values.collect::<Vec<_>>())?;
                    )*
                )*
                Ok(())
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

            fn parse(bytes: &[u8]) -> Option<Self> {
                let mut fields = $crate::rows::Fields::of(bytes)?;
                Some(Self {
                    $($key: fields.next()?,)+
                    $($column: fields.next()?,)*
                    $($group: match fields.next()? {
                        Some($first) => Some(Box::new($gname { $first, $($more: fields.next()?,)* })),
                        None => {
                            $(fields.next::<Option<$mtype>>()?;)*
                            None
                        }
                    },)*
                })
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
