//! What names things, by example and by property.

use proptest::prelude::*;
use serde_json::{from_value, json};

use super::*;
use crate::fixtures::{any_quantity, any_sku, card, order, payment, quantity, shipment, sku, text};

/// What a client reads about a value that is none.
fn said<T: serde::de::DeserializeOwned + fmt::Debug>(value: serde_json::Value) -> String {
    from_value::<T>(value).unwrap_err().to_string()
}

#[test]
fn an_id_is_a_uuid_in_its_one_spelling() {
    let canonical = "0190f3c4-7a51-7bd4-9f2e-6d1c8a40b5e2";
    let id: OrderId = canonical.parse().unwrap();
    assert_eq!(id.to_string(), canonical);
    assert_eq!(json!(id), json!(canonical));
    for other in [canonical.to_uppercase(), canonical.replace('-', ""), format!("{{{canonical}}}"), String::new()] {
        assert_eq!(other.parse::<OrderId>(), Err(InvalidId::NotAUuid { text: other }));
    }
    assert!(said::<CustomerId>(json!("17850")).contains("UUID"));
}

#[test]
fn a_sku_is_short_and_plain() {
    for text in ["", "a b", "ä", "a/b", &"x".repeat(65)] {
        assert_eq!(text.parse::<Sku>(), Err(InvalidId::NotASku { text: text.to_owned() }));
    }
    let said = said::<Sku>(json!("a/b"));
    assert_eq!(said, r#""a/b" is no SKU: 1 to 64 letters, digits, '_', '.' or '-'"#);
    // An error is no place for a flood.
    let InvalidId::NotASku { text } = "é".repeat(10_000).parse::<Sku>().unwrap_err() else { panic!("no SKU") };
    assert_eq!(text.chars().count(), 80);
}

#[test]
fn a_quantity_is_at_least_one_and_at_most_a_billion() {
    for given in [i64::MIN, -1, 0, Quantity::MAX + 1, i64::MAX] {
        assert_eq!(Quantity::try_from(given), Err(InvalidQuantity { given }));
    }
    assert_eq!(said::<Quantity>(json!(0)), "a quantity is a whole number from 1 to 1000000000, not 0");
    assert!(said::<Quantity>(json!(1.5)).starts_with("invalid type: floating point `1.5`"));
    assert_eq!(quantity(12).to_string(), "12");
}

#[test]
fn a_text_says_what_is_wrong_with_it() {
    let fault = |text: &str| text.parse::<Text<5>>().unwrap_err().fault;
    assert_eq!(fault(""), TextFault::Empty);
    assert_eq!(fault("sixsix"), TextFault::TooLong { length: 6 });
    assert_eq!(fault("a\nb"), TextFault::ControlCharacter);
    assert_eq!(fault("a\t"), TextFault::ControlCharacter);
    assert_eq!(fault(" a"), TextFault::BlankEnds);
    assert_eq!(fault("a\u{a0}"), TextFault::BlankEnds);
    // Characters count, not bytes.
    assert_eq!("漢字漢字漢".parse::<Text<5>>().unwrap().as_str(), "漢字漢字漢");

    let said = said::<Line>(json!(""));
    let rule = "a text here has 1 to 200 characters, no control characters and no blanks at its ends";
    assert_eq!(said, format!("the text is empty; {rule}"));
}

#[test]
fn a_text_is_clipped_to_what_fits() {
    let clipped = |text: &str| Text::<5>::clipped(text).to_string();
    assert_eq!(clipped("abc"), "abc");
    assert_eq!(clipped("sixsix"), "sixsi");
    assert_eq!(clipped("  a b "), "a b");
    assert_eq!(clipped("a\nb\tc"), "a b c");
    assert_eq!(clipped("\r\nabc\0"), "abc");
    // Where it is cut off, no blank is left at the end.
    assert_eq!(clipped("four five"), "four");
    // Characters count, not bytes.
    assert_eq!(clipped("漢字漢字漢字"), "漢字漢字漢");
    for nothing in ["", "   ", "\n\t", "\u{a0}\u{2003}"] {
        assert_eq!(clipped(nothing), "-");
    }
    // Whatever can be shown can be clipped: an error, for one.
    assert_eq!(
        Line::clipped(InvalidQuantity { given: 0 }),
        text("a quantity is a whole number from 1 to 1000000000, not 0")
    );
}

#[test]
fn a_card_is_not_shown_in_debug_output() {
    let token = card("tok_visa");
    assert_eq!(format!("{token:?} {:?}", Some(&token)), "CardToken(…) Some(CardToken(…))");
    assert_eq!(token.as_str(), "tok_visa");
    // It is stored as it is.
    assert_eq!(json!(token), json!("tok_visa"));
    assert_eq!(from_value::<CardToken>(json!("tok_visa")).unwrap(), token);
    // And what is no token is not repeated either.
    let said = said::<CardToken>(json!("4242 4242 4242 4242 "));
    assert!(!said.contains("4242"), "{said}");
    assert!(said.starts_with("the text begins or ends with a blank; "), "{said}");
}

#[test]
fn an_order_names_its_payment_and_its_shipment() {
    assert_eq!(PaymentId::of(order(7)), payment(7));
    assert_eq!(ShipmentId::of(order(7)), shipment(7));
    assert_eq!((payment(7).order(), shipment(7).order()), (order(7), order(7)));
    let id = "00000000-0000-0000-0000-000000000007";
    assert_eq!((payment(7).to_string(), shipment(7).to_string()), (id.to_owned(), id.to_owned()));
}

#[test]
fn the_json_schemas_say_the_rules() {
    use crate::codec::json_schema_of;
    let sku = json_schema_of::<Sku>().to_value();
    assert_eq!((&sku["type"], &sku["pattern"]), (&json!("string"), &json!("^[A-Za-z0-9_.-]{1,64}$")));
    let quantity = json_schema_of::<Quantity>().to_value();
    assert_eq!((&quantity["minimum"], &quantity["maximum"]), (&json!(1), &json!(1_000_000_000)));
    let line = json_schema_of::<Line>().to_value();
    assert_eq!((&line["minLength"], &line["maxLength"]), (&json!(1), &json!(200)));
    assert_eq!(json_schema_of::<OrderId>().to_value()["format"], "uuid");
}

proptest! {
    #[test]
    fn a_sku_is_read_as_it_is_written(it in any_sku()) {
        assert_eq!(sku(&it.to_string()), it);
        assert_eq!(from_value::<Sku>(json!(it)).unwrap(), it);
    }

    #[test]
    fn a_quantity_is_read_as_it_is_written(it in any_quantity()) {
        assert_eq!(quantity(it.to_string().parse().unwrap()), it);
        assert_eq!(from_value::<Quantity>(json!(it)).unwrap(), it);
    }

    #[test]
    fn an_id_is_read_as_it_is_written(number in any::<u128>()) {
        let id = CustomerId(Uuid::from_u128(number));
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(from_value::<CustomerId>(json!(id)).unwrap(), id);
    }

    /// Any text at all is either taken as it is, or refused for a fault that it has.
    #[test]
    fn a_text_is_taken_as_it_is_or_not_at_all(given in prop_oneof![any::<String>(), "[ a-c\\n]{0,12}"]) {
        match given.parse::<Text<10>>() {
            Ok(text) => {
                assert_eq!(text.to_string(), given);
                assert_eq!(from_value::<Text<10>>(json!(text)).unwrap(), text);
            }
            Err(InvalidText { fault: TextFault::Empty, .. }) => assert!(given.is_empty()),
            Err(InvalidText { fault: TextFault::TooLong { length }, .. }) => {
                assert!(length > 10 && length == given.chars().count());
            }
            Err(InvalidText { fault: TextFault::ControlCharacter, .. }) => assert!(given.contains(char::is_control)),
            Err(InvalidText { fault: TextFault::BlankEnds, .. }) => assert_ne!(given.trim(), given),
        }
    }

    /// Any text at all can be clipped, and nothing is changed that fits.
    #[test]
    fn whatever_is_clipped_fits(given in prop_oneof![any::<String>(), "[ a-c\\n\u{2003}]{0,24}"]) {
        let clipped = Text::<10>::clipped(&given);
        assert_eq!(clipped.as_str().parse(), Ok(clipped.clone()));
        assert_eq!(Text::<10>::clipped(&clipped), clipped);
        if let Ok(text) = given.parse::<Text<10>>() {
            assert_eq!(clipped, text);
        }
    }

    #[test]
    fn a_sku_of_other_characters_is_refused(given in any::<String>()) {
        let plain = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
        assert_eq!(given.parse::<Sku>().is_ok(), (1..=64).contains(&given.len()) && given.chars().all(plain));
    }
}
