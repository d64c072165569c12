//! What a query may ask for at most. The limits are checked on the document, before anything is executed; all but the
//! cost even before it is validated, since validating a document that spreads its fragments often enough is itself too
//! much work.

use std::collections::{HashMap, HashSet};

use async_graphql::parser::parse_query;
use async_graphql::parser::types::{
    DocumentOperations, ExecutableDocument, OperationDefinition, OperationType, Selection, SelectionSet,
};
use async_graphql::{Name, ServerError};

use crate::error::{Code, request_error, with_code};

/// How deep fields may be nested. The introspection query of the usual tools needs 15.
pub(crate) const DEPTH: usize = 15;
/// How deep fields and fragments together may be nested.
pub(crate) const LEVELS: usize = 32;
/// What a query may cost. Every field costs 1 and, in a list, as often as the list has rows: a page counts by its size,
/// the lines of an order as 10, its timeline as 12, the spend of a customer as 2, the keys of salesBy as 400. A page of
/// 200 orders with five fields each and five of each line costs 200 × (1 + 5 + 10 × 5), which is 11,200.
pub(crate) const COMPLEXITY: usize = 20_000;
/// How many fields a query may have at its root.
pub(crate) const ROOT_FIELDS: usize = 20;
/// How many fields a query may have altogether.
pub(crate) const FIELDS: usize = 2_000;
/// How many of them may have an alias.
pub(crate) const ALIASES: usize = 50;
/// How many directives it may have.
pub(crate) const DIRECTIVES: usize = 50;
/// How long a document may be, in bytes.
pub(crate) const DOCUMENT: usize = 64 * 1024;
/// How deep brackets may be nested. The parser recurses into them, and a stack has an end.
pub(crate) const NESTING: usize = 64;

/// Reads a document and refuses one that asks for too much, whichever of its operations is meant.
pub(crate) fn parse(query: &str) -> Result<ExecutableDocument, ServerError> {
    let too_much = |what| request_error(Code::ParseFailed, what);
    if query.len() > DOCUMENT {
        return Err(too_much(format!("The document has {} bytes; {DOCUMENT} is the most.", query.len())));
    }
    if nesting(query.as_bytes()) > NESTING {
        return Err(too_much(format!("The document nests brackets more than {NESTING} deep.")));
    }
    let document = parse_query(query).map_err(|error| with_code(error.into(), Code::ParseFailed))?;
    check(&document)?;
    Ok(document)
}

/// The operation that a name, or its absence, means.
pub(crate) fn operation<'a>(
    document: &'a ExecutableDocument,
    name: Option<&str>,
) -> Result<&'a OperationDefinition, ServerError> {
    let unresolved = |message| request_error(Code::OperationResolutionFailure, message);
    let operation = match (&document.operations, name) {
        (DocumentOperations::Single(operation), None) => Some(operation),
        (DocumentOperations::Multiple(operations), None) if operations.len() == 1 => operations.values().next(),
        (_, None) => {
            return Err(unresolved("The document has several operations: say which by operationName.".to_owned()));
        }
        (DocumentOperations::Single(_), Some(_)) => None,
        (DocumentOperations::Multiple(operations), Some(name)) => operations.get(name),
    };
    let operation = operation
        .ok_or_else(|| unresolved(format!("The document has no operation named {:?}.", name.unwrap_or_default())))?;
    if operation.node.ty == OperationType::Subscription {
        check_subscription(&operation.node)?;
    }
    Ok(&operation.node)
}

/// A subscription has one field at its root, and always has it.
fn check_subscription(operation: &OperationDefinition) -> Result<(), ServerError> {
    match &*operation.selection_set.node.items {
        [root] if matches!(&root.node, Selection::Field(field) if field.node.directives.is_empty()) => Ok(()),
        _ => {
            let message =
                "A subscription has exactly one field at its root, outside of fragments and without directives.";
            Err(request_error(Code::ValidationFailed, message))
        }
    }
}

/// Whether a document asks for the schema anywhere.
pub(crate) fn introspects(document: &ExecutableDocument) -> bool {
    fn asks(set: &SelectionSet) -> bool {
        set.items.iter().any(|selection| match &selection.node {
            Selection::Field(field) => {
                matches!(&*field.node.name.node, "__schema" | "__type") || asks(&field.node.selection_set.node)
            }
            Selection::InlineFragment(fragment) => asks(&fragment.node.selection_set.node),
            Selection::FragmentSpread(_) => false,
        })
    }
    document.operations.iter().any(|(_, operation)| asks(&operation.node.selection_set.node))
        || document.fragments.values().any(|fragment| asks(&fragment.node.selection_set.node))
}

/// Whether a document selects something with fields of its own twice under one name, in one place.
pub(crate) fn merges(document: &ExecutableDocument) -> bool {
    fn again<'a>(document: &'a ExecutableDocument, set: &'a SelectionSet, seen: &mut HashSet<&'a Name>) -> bool {
        set.items.iter().any(|selection| match &selection.node {
            Selection::Field(field) => {
                let inner = &field.node.selection_set.node;
                !inner.items.is_empty()
                    && (!seen.insert(&field.node.response_key().node) || again(document, inner, &mut HashSet::new()))
            }
            Selection::InlineFragment(fragment) => again(document, &fragment.node.selection_set.node, seen),
            Selection::FragmentSpread(spread) => {
                let fragment = document.fragments.get(&spread.node.fragment_name.node);
                fragment.is_some_and(|fragment| again(document, &fragment.node.selection_set.node, seen))
            }
        })
    }
    let mut operations = document.operations.iter();
    operations.any(|(_, operation)| again(document, &operation.node.selection_set.node, &mut HashSet::new()))
}

/// Gives an error of async-graphql's validation its code.
pub(crate) fn code_of_validation(error: ServerError) -> ServerError {
    // Its text is all that tells this error from others.
    if error.message == "Query is too complex." {
        return request_error(
            Code::TooExpensive,
            format!("The query costs more than {COMPLEXITY}: ask for fewer fields or smaller pages."),
        );
    }
    with_code(error, Code::ValidationFailed)
}

fn check(document: &ExecutableDocument) -> Result<(), ServerError> {
    let mut scale = Scale { document, fragments: HashMap::new() };
    let mut total = Weight::default();
    for (_, operation) in document.operations.iter() {
        total = total.beside(scale.weigh(&operation.node.selection_set.node, 0)?);
        total.directives = total.directives.saturating_add(operation.node.directives.len());
    }
    // The validation walks through fragments that nobody spreads, too.
    for (name, fragment) in &document.fragments {
        let fragment = scale.fragment(name, &fragment.node.selection_set.node, 0)?;
        total.fields = total.fields.max(fragment.fields);
    }
    let limits = [
        (total.depth, DEPTH, Code::MaxDepth, "levels of fields"),
        (total.levels, LEVELS, Code::MaxDepth, "levels of fields and fragments"),
        (total.aliases, ALIASES, Code::MaxAliases, "aliases"),
        (total.roots, ROOT_FIELDS, Code::MaxRootFields, "fields at its root"),
        (total.directives, DIRECTIVES, Code::MaxDirectives, "directives"),
        (total.fields, FIELDS, Code::MaxFields, "fields"),
    ];
    match limits.into_iter().find(|(has, limit, _, _)| has > limit) {
        None => Ok(()),
        Some((has, limit, code, what)) => {
            Err(request_error(code, format!("The query has {has} {what}; {limit} is the most.")))
        }
    }
}

/// What a selection amounts to once its fragments are spread.
#[derive(Debug, Clone, Copy, Default)]
struct Weight {
    /// Levels of fields.
    depth: usize,
    /// Levels of fields and fragments.
    levels: usize,
    /// Fields at the uppermost level.
    roots: usize,
    fields: usize,
    aliases: usize,
    directives: usize,
}

impl Weight {
    fn beside(self, other: Self) -> Self {
        Self {
            depth: self.depth.max(other.depth),
            levels: self.levels.max(other.levels),
            roots: self.roots.saturating_add(other.roots),
            fields: self.fields.saturating_add(other.fields),
            aliases: self.aliases.saturating_add(other.aliases),
            directives: self.directives.saturating_add(other.directives),
        }
    }
}

/// Weighs each fragment once, however often it is spread.
struct Scale<'a> {
    document: &'a ExecutableDocument,
    /// `None` while a fragment is being weighed.
    fragments: HashMap<&'a Name, Option<Weight>>,
}

impl<'a> Scale<'a> {
    fn weigh(&mut self, set: &'a SelectionSet, level: usize) -> Result<Weight, ServerError> {
        if level > LEVELS {
            let message = format!("The query has more than {LEVELS} levels of fields and fragments.");
            return Err(request_error(Code::MaxDepth, message));
        }
        let mut sum = Weight::default();
        for selection in &set.items {
            let mut weight = match &selection.node {
                Selection::Field(field) => {
                    let inner = self.weigh(&field.node.selection_set.node, level + 1)?;
                    Weight {
                        depth: inner.depth + 1,
                        roots: 1,
                        fields: inner.fields.saturating_add(1),
                        aliases: inner.aliases.saturating_add(usize::from(field.node.alias.is_some())),
                        ..inner
                    }
                }
                Selection::InlineFragment(fragment) => self.weigh(&fragment.node.selection_set.node, level + 1)?,
                Selection::FragmentSpread(spread) => {
                    match self.document.fragments.get_key_value(&spread.node.fragment_name.node) {
                        Some((name, fragment)) => self.fragment(name, &fragment.node.selection_set.node, level + 1)?,
                        // The validation has the better words for a fragment that does not exist.
                        None => Weight::default(),
                    }
                }
            };
            weight.levels += 1;
            weight.directives = weight.directives.saturating_add(selection.node.directives().len());
            sum = sum.beside(weight);
        }
        Ok(sum)
    }

    fn fragment(&mut self, name: &'a Name, set: &'a SelectionSet, level: usize) -> Result<Weight, ServerError> {
        match self.fragments.get(name) {
            Some(Some(weight)) => Ok(*weight),
            Some(None) => Err(request_error(Code::ValidationFailed, format!("The fragment {name:?} contains itself."))),
            None => {
                self.fragments.insert(name, None);
                let weight = self.weigh(set, level)?;
                self.fragments.insert(name, Some(weight));
                Ok(weight)
            }
        }
    }
}

/// How deep the brackets of a document are nested, outside of its strings and comments.
fn nesting(document: &[u8]) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    let mut rest = document;
    while let [byte, tail @ ..] = rest {
        rest = match byte {
            b'{' | b'[' | b'(' => {
                depth += 1;
                deepest = deepest.max(depth);
                tail
            }
            b'}' | b']' | b')' => {
                depth = depth.saturating_sub(1);
                tail
            }
            b'#' => {
                let end = tail.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
                end.map_or(&[], |end| &tail[end..])
            }
            b'"' => block_string(tail).unwrap_or_else(|| string(tail)),
            _ => tail,
        };
    }
    deepest
}

/// What follows a block string of which the first quote is gone. One without an end is none: the parser then takes its
/// first two quotes for an empty string, and so must this.
fn block_string(document: &[u8]) -> Option<&[u8]> {
    let mut rest = document.strip_prefix(b"\"\"")?;
    loop {
        rest = match rest {
            [] => return None,
            [b'\\', b'"', b'"', b'"', tail @ ..] => tail,
            [b'"', b'"', b'"', tail @ ..] => return Some(tail),
            [_, tail @ ..] => tail,
        }
    }
}

/// What follows a string of which the first quote is gone.
fn string(mut rest: &[u8]) -> &[u8] {
    loop {
        rest = match rest {
            // A string ends with its line; what follows is not a document any more, and the parser stops there.
            [] | [b'\n' | b'\r', ..] => return rest,
            [b'"', tail @ ..] => return tail,
            [b'\\', _, tail @ ..] | [_, tail @ ..] => tail,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn brackets_count_outside_of_strings_and_comments() {
        for (document, deepest) in [
            ("", 0),
            ("{ a(b: [1]) { c } }", 3),
            ("{ } ] ] { [", 2),
            ("\"[[\" [", 1),
            ("\"\\\"[[\" [", 1),
            ("\"[[\n [", 1),
            ("\"\" [", 1),
            ("\"\"\"[[\" \\\"\"\" [[\"\"\" [", 1),
            ("\"\"\"a\" [[", 2),
            ("# [[\n[ # [[\r[ # [[", 2),
        ] {
            assert_eq!(nesting(document.as_bytes()), deepest, "{document}");
        }
    }

    #[test]
    fn what_is_selected_twice_is_found_in_fragments_too() {
        let merges = |document: &str| merges(&parse(document).unwrap());
        for document in [
            "{ orders { nodes { id } } orders { nodes { units } } }",
            "{ orders { nodes { id } ... on OrderConnection { nodes { id } } } }",
            "{ orders { ...A nodes { id } } } fragment A on OrderConnection { nodes { units } }",
            "query A { a } query B { b { c { d } c { e } } }",
        ] {
            assert!(merges(document), "{document}");
        }
        for document in
            ["{ a { id id } b: a { id } }", "{ orders { ...A } } fragment A on OrderConnection { nodes { id } }"]
        {
            assert!(!merges(document), "{document}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]

        /// Were there a way to hide brackets from the count, the parser would recurse until the stack is gone.
        #[test]
        fn no_document_exhausts_the_stack(tokens in prop::collection::vec(0..TOKENS.len(), 0..12), bracket in 0..3_usize) {
            let hidden: String = tokens.into_iter().map(|token| TOKENS[token]).collect();
            let document = format!("{{ a(b: [ {hidden} {}", ["[", "{a:", "{a(b:"][bracket].repeat(10_000));
            prop_assert!(parse(&document).is_err());
        }
    }

    const TOKENS: [&str; 12] = ["\"", "\"\"", "\"\"\"", "\\", "\\\"", "[", "]", "{", "}", "a", "#", "\n"];
}
