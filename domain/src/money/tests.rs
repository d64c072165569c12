//! Money, by example and by property.

use proptest::prelude::*;
use serde_json::{from_value, json};

use super::*;
use crate::fixtures::{any_currency, any_money, money, price, quantity};

#[test]
fn an_amount_is_written_with_the_digits_of_its_currency() {
    let written = [
        (0, "GBP", "0.00 GBP"),
        (5, "GBP", "0.05 GBP"),
        (1250, "GBP", "12.50 GBP"),
        (1250, "JPY", "1250 JPY"),
        (1250, "BHD", "1.250 BHD"),
        (1250, "CLF", "0.1250 CLF"),
        (1250, "XAU", "1250 XAU"),
        (i64::MAX, "GBP", "92233720368547758.07 GBP"),
    ];
    for (minor, currency, text) in written {
        assert_eq!(money(minor, currency).to_string(), text);
    }
}

#[test]
fn money_is_stored_in_minor_units() {
    assert_eq!(json!(money(1250, "GBP")), json!({ "minor": 1250, "currency": "GBP" }));
}

#[test]
fn what_is_no_money_says_why() {
    let said = |value| from_value::<Money>(value).unwrap_err().to_string();
    assert_eq!(said(json!({ "minor": -1, "currency": "GBP" })), "a price is not negative: -1");
    for code in ["gbp", "GB", "POUNDS", ""] {
        let expected = format!("{code:?} is not an ISO 4217 currency code such as GBP");
        assert_eq!(said(json!({ "minor": 1, "currency": code })), expected);
    }
    assert!(said(json!({ "minor": 1 })).starts_with("missing field `currency`"));
    assert!(said(json!({ "minor": 1, "currency": "GBP", "vat": 0 })).starts_with("unknown field `vat`"));
}

#[test]
fn a_price_is_not_negative() {
    assert_eq!(Price::try_from(-1), Err(NegativePrice { given: -1 }));
    assert_eq!(Price::try_from(0), Ok(Price::ZERO));
    assert_eq!(crate::codec::json_schema_of::<Price>().to_value()["minimum"], 0);
}

#[test]
fn a_product_out_of_range_is_none() {
    assert_eq!(price(255).times(quantity(6)), Some(1530));
    assert_eq!(price(i64::MAX).times(quantity(1)), Some(i64::MAX));
    assert_eq!(price(i64::MAX).times(quantity(2)), None);
}

proptest! {
    #[test]
    fn a_currency_is_read_as_it_is_written(currency in any_currency()) {
        assert_eq!(currency.to_string().parse(), Ok(currency));
        assert_eq!(from_value::<Currency>(json!(currency)).unwrap(), currency);
    }

    #[test]
    fn three_letters_are_a_currency_or_are_repeated_in_the_refusal(code in "\\PC{0,6}") {
        match code.parse::<Currency>() {
            Ok(currency) => assert_eq!(currency.code(), code),
            Err(unknown) => assert_eq!(unknown, UnknownCurrency { code }),
        }
    }

    #[test]
    fn money_is_read_as_it_is_written(money in any_money()) {
        assert_eq!(from_value::<Money>(json!(money)).unwrap(), money);
    }

    /// The digits are those of the minor units, with the point in its place.
    #[test]
    fn money_is_written_without_loss(money in any_money()) {
        let text = money.to_string();
        let (amount, code) = text.split_once(' ').unwrap();
        let digits: String = amount.chars().filter(char::is_ascii_digit).collect();
        assert_eq!((digits.parse(), code), (Ok(money.minor.minor()), money.currency.code()));
        let behind_the_point = amount.split_once('.').map_or(0, |(_, behind)| behind.len());
        assert_eq!(behind_the_point, money.currency.exponent() as usize);
    }
}
