//! Between a domain event and what is stored of it.
//!
//! A stored event is a type name, a schema number and JSON. The codec writes the newest schema and reads every schema
//! there ever was: an old one is upcast step by step, each step a pure function from one schema to the next.

use serde_json::Value;

/// One step from schema `n` to schema `n + 1` of an event type.
pub type Upcast = fn(Value) -> Result<Value, String>;

/// The stored form of one event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded {
    /// The type name, unique in the whole log.
    pub event_type: &'static str,
    /// The schema number of `data`, from 1.
    pub schema: u32,
    /// The event as UTF-8 JSON.
    pub data: Vec<u8>,
}

/// What is known of an event type: its name, its newest schema, and how older ones reach it.
#[derive(Clone, Copy)]
pub struct EventSchema {
    /// The type name, unique in the whole log.
    pub event_type: &'static str,
    /// The newest schema number; the first is 1.
    pub schema: u32,
    /// The JSON Schema of the newest version.
    pub json_schema: fn() -> schemars::Schema,
    /// The steps from schema 1 upwards: `upcasts[0]` leads from 1 to 2. Always `schema - 1` long.
    pub upcasts: &'static [Upcast],
}

/// A set of events that can be stored and read back. Implemented by [`stored_events!`](crate::stored_events).
pub trait StoredEvent: Sized {
    /// Every event type of the set.
    const SCHEMAS: &'static [EventSchema];

    /// The type name of this event.
    fn event_type(&self) -> &'static str;

    /// The stored form, in the newest schema.
    ///
    /// # Errors
    /// [`CodecError::Encode`] when the event has no JSON form.
    fn encode(&self) -> Result<Encoded, CodecError>;

    /// The event that was stored as `data` with this type and schema.
    ///
    /// # Errors
    /// [`CodecError`] when the type or the schema is unknown, or the data is not of that schema.
    fn decode(event_type: &str, schema: u32, data: &[u8]) -> Result<Self, CodecError>;
}

/// Why an event could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// The event type is not one of this set.
    #[error("unknown event type {event_type}")]
    UnknownType {
        /// The type as stored.
        event_type: String,
    },
    /// The schema number is 0, or newer than this program knows.
    #[error("{event_type} has schema {schema}, this program knows 1 to {newest}")]
    UnknownSchema {
        /// The type as stored.
        event_type: &'static str,
        /// The schema number as stored.
        schema: u32,
        /// The newest schema known here.
        newest: u32,
    },
    /// A step from one schema to the next failed.
    #[error("{event_type} could not be lifted from schema {from}: {reason}")]
    Upcast {
        /// The type as stored.
        event_type: &'static str,
        /// The schema the step starts from.
        from: u32,
        /// What the step said.
        reason: String,
    },
    /// The data is not JSON, or not of its schema.
    #[error("{event_type} is not of schema {schema}")]
    Decode {
        /// The type as stored.
        event_type: &'static str,
        /// The schema number as stored.
        schema: u32,
        /// Where it differs.
        #[source]
        source: serde_json::Error,
    },
    /// The event has no JSON form.
    #[error("{event_type} could not be written as JSON")]
    Encode {
        /// The type to be stored.
        event_type: &'static str,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
}

/// The JSON Schema of a payload as it is read back, in one piece: it names no Rust type, so renaming one changes nothing.
pub fn json_schema_of<P: schemars::JsonSchema>() -> schemars::Schema {
    schemars::generate::SchemaSettings::draft2020_12()
        .with(|settings| settings.inline_subschemas = true)
        .into_generator()
        .into_root_schema_for::<P>()
}

/// Writes `payload` as the newest schema of its type.
///
/// # Errors
/// [`CodecError::Encode`] when it has no JSON form.
pub fn encode<P: serde::Serialize>(schema: &EventSchema, payload: &P) -> Result<Encoded, CodecError> {
    let EventSchema { event_type, schema, .. } = *schema;
    let data = serde_json::to_vec(payload).map_err(|source| CodecError::Encode { event_type, source })?;
    Ok(Encoded { event_type, schema, data })
}

/// Reads a payload of any schema of its type.
///
/// # Errors
/// [`CodecError`] when the schema is unknown, a step fails, or the data is not of its schema.
pub fn decode<P: serde::de::DeserializeOwned>(known: &EventSchema, schema: u32, data: &[u8]) -> Result<P, CodecError> {
    let event_type = known.event_type;
    let unreadable = |source| CodecError::Decode { event_type, schema, source };
    if schema == known.schema {
        return serde_json::from_slice(data).map_err(unreadable);
    }
    if schema == 0 || schema > known.schema {
        return Err(CodecError::UnknownSchema { event_type, schema, newest: known.schema });
    }
    let mut value: Value = serde_json::from_slice(data).map_err(unreadable)?;
    for (from, step) in (1..).zip(known.upcasts).skip(schema as usize - 1) {
        value = step(value).map_err(|reason| CodecError::Upcast { event_type, from, reason })?;
    }
    serde_json::from_value(value).map_err(unreadable)
}

/// Declares the event enum of a context together with its codec.
///
/// Each variant holds a payload of its own name and says under which type name and schema number it is stored, and,
/// when the schema is past 1, the upcasts that lead there:
///
/// ```ignore
/// stored_events! {
///     /// What happens to a product.
///     pub enum Event {
///         /// It entered the catalogue.
///         Listed => "ProductListed" schema 1,
///         /// It got another price.
///         PriceChanged => "ProductPriceChanged" schema 2 upcasts [price_gets_a_currency],
///     }
/// }
/// ```
#[macro_export]
macro_rules! stored_events {
    (
        $(#[$meta:meta])*
        $vis:vis enum $name:ident {
            $( $(#[$vmeta:meta])* $variant:ident => $stored:literal schema $schema:literal
               $(upcasts [$($step:path),* $(,)?])? ),* $(,)?
        }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq)]
        $vis enum $name {
            $( $(#[$vmeta])* $variant($variant), )*
        }

        $( impl From<$variant> for $name {
            fn from(payload: $variant) -> Self { Self::$variant(payload) }
        } )*

        impl $crate::codec::StoredEvent for $name {
            const SCHEMAS: &'static [$crate::codec::EventSchema] = &[
                $( $crate::codec::EventSchema {
                    event_type: $stored,
                    schema: $schema,
                    json_schema: $crate::codec::json_schema_of::<$variant>,
                    upcasts: {
                        const STEPS: &[$crate::codec::Upcast] = &[$($($step),*)?];
                        const { assert!(STEPS.len() == $schema - 1, "a schema past 1 needs a step from each before it") };
                        STEPS
                    },
                }, )*
            ];

            fn event_type(&self) -> &'static str {
                match self { $( Self::$variant(_) => $stored, )* }
            }

            fn encode(&self) -> Result<$crate::codec::Encoded, $crate::codec::CodecError> {
                match self {
                    $( Self::$variant(payload) => {
                        $crate::codec::encode($crate::codec::schema_of(Self::SCHEMAS, $stored)?, payload)
                    } )*
                }
            }

            fn decode(event_type: &str, schema: u32, data: &[u8]) -> Result<Self, $crate::codec::CodecError> {
                let known = $crate::codec::schema_of(Self::SCHEMAS, event_type)?;
                match event_type {
                    $( $stored => $crate::codec::decode::<$variant>(known, schema, data).map(Self::$variant), )*
                    _ => Err($crate::codec::CodecError::UnknownType { event_type: event_type.to_owned() }),
                }
            }
        }
    };
}

/// Finds an event type by its name in a set.
///
/// # Errors
/// [`CodecError::UnknownType`] when the set has no such type.
pub fn schema_of(schemas: &'static [EventSchema], event_type: &str) -> Result<&'static EventSchema, CodecError> {
    schemas
        .iter()
        .find(|known| known.event_type == event_type)
        .ok_or_else(|| CodecError::UnknownType { event_type: event_type.to_owned() })
}

#[cfg(test)]
mod tests;
