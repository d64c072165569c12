//! What of a schema's changes breaks a client that was written for the schema before.

use std::collections::BTreeMap;

use async_graphql::parser::parse_schema;
use async_graphql::parser::types::{
    BaseType, FieldDefinition, InputValueDefinition, Type, TypeDefinition, TypeKind, TypeSystemDefinition,
};
use async_graphql::{Name, Positioned};

/// A text that is no schema.
#[derive(Debug, thiserror::Error)]
#[error("this is no schema in GraphQL's schema definition language: {0}")]
pub struct NotASchema(String);

/// The changes from one schema to another that break clients, each as a line, by the name of what has changed: something
/// that was taken away, that has another type, or that has to be given and had not.
///
/// # Errors
/// [`NotASchema`], of either.
pub fn breaking_changes(before: &str, after: &str) -> Result<Vec<String>, NotASchema> {
    let (before, after) = (types(before)?, types(after)?);
    let mut broken = Vec::new();
    for (name, old) in &before {
        match after.get(name) {
            None => broken.push(format!("{name} is gone")),
            Some(new) => compare_types(name, &old.kind, &new.kind, &mut broken),
        }
    }
    broken.sort();
    Ok(broken)
}

fn types(sdl: &str) -> Result<BTreeMap<Name, TypeDefinition>, NotASchema> {
    let document = parse_schema(sdl).map_err(|error| NotASchema(error.to_string()))?;
    let types = document.definitions.into_iter().filter_map(|definition| match definition {
        TypeSystemDefinition::Type(definition) => Some((definition.node.name.node.clone(), definition.node)),
        TypeSystemDefinition::Schema(_) | TypeSystemDefinition::Directive(_) => None,
    });
    Ok(types.collect())
}

fn compare_types(name: &str, old: &TypeKind, new: &TypeKind, broken: &mut Vec<String>) {
    match (old, new) {
        (TypeKind::Scalar, TypeKind::Scalar) => {}
        (TypeKind::Object(old), TypeKind::Object(new)) => {
            compare_names(name, &names(&old.implements), &names(&new.implements), broken);
            compare_fields(name, &old.fields, &new.fields, broken);
        }
        (TypeKind::Interface(old), TypeKind::Interface(new)) => {
            compare_names(name, &names(&old.implements), &names(&new.implements), broken);
            compare_fields(name, &old.fields, &new.fields, broken);
        }
        (TypeKind::Union(old), TypeKind::Union(new)) => {
            compare_names(name, &names(&old.members), &names(&new.members), broken);
        }
        (TypeKind::Enum(old), TypeKind::Enum(new)) => {
            let values = |values: &[Positioned<async_graphql::parser::types::EnumValueDefinition>]| {
                values.iter().map(|value| value.node.value.node.to_string()).collect::<Vec<_>>()
            };
            compare_names(name, &values(&old.values), &values(&new.values), broken);
        }
        (TypeKind::InputObject(old), TypeKind::InputObject(new)) => {
            compare_inputs(name, &old.fields, &new.fields, broken);
        }
        _ => broken.push(format!("{name} is another kind of type")),
    }
}

fn names(names: &[Positioned<Name>]) -> Vec<String> {
    names.iter().map(|name| name.node.to_string()).collect()
}

fn compare_names(of: &str, old: &[String], new: &[String], broken: &mut Vec<String>) {
    broken.extend(old.iter().filter(|name| !new.contains(name)).map(|name| format!("{of}.{name} is gone")));
}

fn compare_fields(
    of: &str,
    old: &[Positioned<FieldDefinition>],
    new: &[Positioned<FieldDefinition>],
    broken: &mut Vec<String>,
) {
    for Positioned { node: old, .. } in old {
        let name = format!("{of}.{}", old.name.node);
        let Some(new) = new.iter().find(|new| new.node.name.node == old.name.node) else {
            broken.push(format!("{name} is gone"));
            continue;
        };
        if !reads_as(&new.node.ty.node, &old.ty.node) {
            broken.push(format!("{name} is {} and was {}", new.node.ty.node, old.ty.node));
        }
        compare_inputs(&name, &old.arguments, &new.node.arguments, broken);
    }
}

/// The arguments of a field, or the fields of an input.
fn compare_inputs(
    of: &str,
    old: &[Positioned<InputValueDefinition>],
    new: &[Positioned<InputValueDefinition>],
    broken: &mut Vec<String>,
) {
    for Positioned { node: old, .. } in old {
        let name = format!("{of}({})", old.name.node);
        match new.iter().find(|new| new.node.name.node == old.name.node) {
            None => broken.push(format!("{name} is gone")),
            // What was given before must do now.
            Some(new) if !reads_as(&old.ty.node, &new.node.ty.node) => {
                broken.push(format!("{name} is {} and was {}", new.node.ty.node, old.ty.node));
            }
            Some(_) => {}
        }
    }
    let is_new =
        |new: &&Positioned<InputValueDefinition>| old.iter().all(|old| old.node.name.node != new.node.name.node);
    for Positioned { node: new, .. } in new.iter().filter(is_new) {
        if !new.ty.node.nullable && new.default_value.is_none() {
            broken.push(format!("{of}({}) is new and has to be given", new.name.node));
        }
    }
}

/// Whether a value of one type is one of another: the same, but perhaps never null.
fn reads_as(value: &Type, wanted: &Type) -> bool {
    if value.nullable && !wanted.nullable {
        return false;
    }
    match (&value.base, &wanted.base) {
        (BaseType::Named(value), BaseType::Named(wanted)) => value == wanted,
        (BaseType::List(value), BaseType::List(wanted)) => reads_as(value, wanted),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: &str = "
        interface Node { id: ID! }
        union Thing = A | B
        enum Colour { RED GREEN }
        scalar Date
        input Filter { name: String size: [Int!] must: Int! }
        type A implements Node { id: ID! name: String sizes(first: Int, after: String!): [Int!]! }
        type B { b: Int }
        type Query { a: A }";

    #[track_caller]
    fn broken(from: &str, to: &str) -> Vec<String> {
        assert!(BEFORE.contains(from), "{from}");
        breaking_changes(BEFORE, &BEFORE.replacen(from, to, 1)).unwrap()
    }

    #[test]
    fn what_is_taken_away_or_asked_for_breaks() {
        for (from, to, said) in [
            ("type B { b: Int }", "", "B is gone"),
            ("scalar Date", "enum Date { TODAY }", "Date is another kind of type"),
            ("name: String sizes", "sizes", "A.name is gone"),
            ("name: String sizes", "name: Int sizes", "A.name is Int and was String"),
            ("type A implements Node", "type A", "A.Node is gone"),
            ("[Int!]! }", "[Int]! }", "A.sizes is [Int]! and was [Int!]!"),
            ("[Int!]! }", "[Int!] }", "A.sizes is [Int!] and was [Int!]!"),
            ("(first: Int, ", "(", "A.sizes(first) is gone"),
            ("first: Int,", "first: Int!,", "A.sizes(first) is Int! and was Int"),
            ("first: Int,", "first: Int, last: Int!,", "A.sizes(last) is new and has to be given"),
            ("| B", "", "Thing.B is gone"),
            ("RED", "", "Colour.RED is gone"),
            ("name: String size", "size", "Filter(name) is gone"),
            ("size: [Int!]", "size: [Int!] new: Int!", "Filter(new) is new and has to be given"),
            ("size: [Int!]", "size: [String!]", "Filter(size) is [String!] and was [Int!]"),
        ] {
            assert_eq!(broken(from, to), [said], "{to}");
        }
    }

    #[test]
    fn what_is_added_or_promised_does_not() {
        for (from, to) in [
            ("type B", "type C { c: Int } type B"),
            ("name: String sizes", "name: String! sizes"),
            ("RED", "RED BLUE"),
            ("first: Int,", "first: Int, last: Int, size: Int! = 3,"),
            ("after: String!", "after: String"),
            ("must: Int!", "must: Int"),
            ("type Query {", "type Query { \"A word.\" b: B"),
        ] {
            assert_eq!(broken(from, to), [""; 0], "{to}");
        }
        assert!(breaking_changes("nonsense", BEFORE).is_err());
    }
}
