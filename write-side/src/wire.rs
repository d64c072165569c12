//! A command as it comes in: its name in the address, its fields in the body.

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Deserialize as _;
use serde::de::value::StrDeserializer;
use serde::de::{DeserializeOwned, DeserializeSeed, EnumAccess, IntoDeserializer, VariantAccess, Visitor};
use serde_json::Value;

use crate::objects::Objects;

/// Why a body is not the command that it should be.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// The body is not JSON.
    #[error("the body is not JSON: {0}")]
    Syntax(#[source] serde_json::Error),
    /// The body is JSON, but no object.
    #[error("the body is not an object with the fields of the command")]
    NotAnObject,
    /// A field is missing, unknown or wrong.
    #[error("{at}: {problem}")]
    Field {
        /// Where in the body, for example `lines[2].quantity`; or `the body`.
        at: String,
        /// What is wrong with it.
        problem: String,
    },
}

/// Reads the variant `name` of an enum of commands from its fields. A command without fields takes `{}`.
pub(crate) fn read<T: DeserializeOwned>(name: &'static str, body: &[u8]) -> Result<T, WireError> {
    // serde would take a list of the fields' values for the fields; nobody means that.
    if body.trim_ascii_start().first().is_some_and(|first| *first != b'{') {
        return Err(WireError::NotAnObject);
    }
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let mut track = serde_path_to_error::Track::new();
    let fields = serde_path_to_error::Deserializer::new(Objects(&mut deserializer), &mut track);
    let command = T::deserialize(Named { name, fields });
    let problem = match command.and_then(|command| deserializer.end().map(|()| command)) {
        Ok(command) => return Ok(command),
        Err(problem) => problem,
    };
    if problem.is_syntax() || problem.is_eof() {
        return Err(WireError::Syntax(problem));
    }
    // What serde_json adds about lines and columns counts within the body; the path says it better.
    let problem = problem.to_string();
    let problem = problem.split(" at line ").next().unwrap_or_default().to_owned();
    let at = match track.path().to_string() {
        root if root == "." => "the body".to_owned(),
        path => path,
    };
    Err(WireError::Field { at, problem })
}

/// The names of the variants of an enum of commands with their fields' schemas, as its JSON Schema has them.
pub(crate) fn commands<T: JsonSchema>(generator: &mut SchemaGenerator) -> Vec<(String, Value)> {
    let schema: Schema = T::json_schema(generator);
    let variants = schema.get("oneOf").and_then(Value::as_array).cloned().unwrap_or_default();
    let fields = |variant: &Value| {
        let (name, fields) = variant.get("properties")?.as_object()?.iter().next()?;
        let mut fields = fields.clone();
        // What is said of the command goes with its fields.
        if let (Some(fields), Some(description)) = (fields.as_object_mut(), variant.get("description")) {
            fields.insert("description".to_owned(), description.clone());
        }
        Some((name.clone(), fields))
    };
    variants.iter().filter_map(fields).collect()
}

/// An enum whose variant is known by name and whose content comes from elsewhere.
struct Named<D> {
    name: &'static str,
    fields: D,
}

impl<'de, D: serde::Deserializer<'de>> serde::Deserializer<'de> for Named<D> {
    type Error = D::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        visitor.visit_enum(self)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

impl<'de, D: serde::Deserializer<'de>> EnumAccess<'de> for Named<D> {
    type Error = D::Error;
    type Variant = Fields<D>;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Fields<D>), D::Error> {
        let name: StrDeserializer<'_, D::Error> = self.name.into_deserializer();
        Ok((seed.deserialize(name)?, Fields(self.fields)))
    }
}

/// The content of a variant.
struct Fields<D>(D);

impl<'de, D: serde::Deserializer<'de>> VariantAccess<'de> for Fields<D> {
    type Error = D::Error;

    fn unit_variant(self) -> Result<(), D::Error> {
        serde::de::IgnoredAny::deserialize(self.0).map(drop)
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, D::Error> {
        seed.deserialize(self.0)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_seq(visitor)
    }

    fn struct_variant<V: Visitor<'de>>(self, _: &'static [&'static str], visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_map(visitor)
    }
}

#[cfg(test)]
mod tests {
    use domain::inventory::Command;

    use super::*;

    fn problem(name: &'static str, body: &str) -> String {
        read::<Command>(name, body.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn a_command_is_read_by_its_name() {
        let command: Command = read("receive", br#"{"quantity": 10}"#).unwrap();
        assert!(matches!(command, Command::Receive(receive) if receive.quantity.units() == 10));
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert!(problem("receive", r#"{"quantity": -1}"#).starts_with("quantity: a quantity is a whole number from 1"));
        assert!(problem("receive", r#"{"quantity": 1, "colour": 2}"#).contains("unknown field `colour`"));
        assert!(problem("receive", "{}").contains("missing field `quantity`"));
        assert!(problem("receive", "[1]").contains("not an object"));
        assert!(problem("receive", "{").starts_with("the body is not JSON"));
        assert!(problem("receive", r#"{"quantity": 1} {}"#).starts_with("the body is not JSON"));
    }

    #[test]
    fn the_schema_names_every_command() {
        let names: Vec<_> =
            commands::<Command>(&mut SchemaGenerator::default()).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["receive", "adjust", "reserve", "release", "ship", "set-threshold"]);
    }
}
