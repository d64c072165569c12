//! Money as answers show it: an exact decimal beside the minor units.

use async_graphql::{ComplexObject, SimpleObject};

use crate::scalars::{Currency, Long};
use crate::written::Write::Plain;
use crate::written::{Write, Written};

/// An amount of money in one currency.
#[derive(Debug, Clone, PartialEq, SimpleObject)]
#[graphql(complex)]
pub(crate) struct Money {
    /// The amount in the currency's smallest unit: 1250 is 12.50 GBP, or 1250 JPY.
    minor: Long,
    /// The currency.
    currency: Currency,
}

#[ComplexObject]
impl Money {
    /// The amount as a decimal with as many digits as ISO 4217 gives the currency: "12.50" GBP, "1250" JPY, "1.250" BHD.
    async fn amount(&self) -> String {
        self.decimal()
    }
}

impl Written for Money {
    const FIELDS: &'static [(&'static str, Write<Self>)] = &[
        ("minor", Plain(|row, json| json.put(&row.minor))),
        ("currency", Plain(|row, json| json.put(&row.currency))),
        ("amount", Plain(|row, json| json.put(&row.decimal()))),
    ];
}

impl Money {
    pub(crate) fn new(minor: i64, currency: &Currency) -> Self {
        Self { minor: Long(minor), currency: currency.clone() }
    }

    fn decimal(&self) -> String {
        decimal(self.minor.0, exponent(&self.currency.0))
    }
}

/// How many decimal digits the currency's smallest unit has. A currency without one (gold, XAU) counts as 0, as it does
/// where the money is decided on.
fn exponent(code: &str) -> u32 {
    iso_currency::Currency::from_code(code).and_then(|currency| currency.exponent()).map_or(0, u32::from)
}

fn decimal(minor: i64, digits: u32) -> String {
    let sign = if minor < 0 { "-" } else { "" };
    let (unit, minor) = (10_u64.pow(digits), minor.unsigned_abs());
    match digits {
        0 => format!("{sign}{minor}"),
        _ => format!("{sign}{}.{:0width$}", minor / unit, minor % unit, width = digits as usize),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_currency_has_its_digits() {
        let shown = |minor, code| decimal(minor, exponent(code));
        assert_eq!(shown(1250, "GBP"), "12.50");
        assert_eq!(shown(1250, "JPY"), "1250");
        assert_eq!(shown(1250, "BHD"), "1.250");
        assert_eq!(shown(1250, "XAU"), "1250");
        assert_eq!(shown(-5, "EUR"), "-0.05");
        assert_eq!(shown(0, "EUR"), "0.00");
        assert_eq!(shown(i64::MAX, "EUR"), "92233720368547758.07");
        assert_eq!(shown(i64::MIN, "EUR"), "-92233720368547758.08");
    }

    proptest! {
        #[test]
        fn the_digits_of_a_decimal_are_its_minor_units(minor: i64, digits in 0_u32..=4) {
            let shown = decimal(minor, digits);
            prop_assert_eq!(shown.split_once('.').map_or(0, |(_, rest)| rest.len()), digits as usize);
            prop_assert_eq!(shown.replace('.', "").parse::<i64>().unwrap(), minor);
        }
    }
}
