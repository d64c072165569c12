//! What holds for an order whatever is asked of it.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::*;
use crate::decider::{Decider, fold};
use crate::fixtures::{any_currency, any_price, any_quantity, any_sku, any_text, any_time, customer, lives, survives};

fn any_line() -> impl Strategy<Value = OrderLine> {
    (any_sku(), any_quantity(), any_price()).prop_map(|(sku, quantity, unit_price)| OrderLine {
        sku,
        quantity,
        unit_price,
    })
}

fn any_sale() -> impl Strategy<Value = Sale> {
    let customer = option::of(any::<u128>().prop_map(customer));
    (option::of(any_text()), customer, any_text(), any_currency(), any_time(), vec(any_line(), 0..6)).prop_map(
        |(reference, customer, country, currency, placed_at, lines)| Sale {
            reference,
            customer,
            country,
            currency,
            placed_at,
            lines,
        },
    )
}

fn any_command() -> impl Strategy<Value = Command> {
    prop_oneof![
        3 => any_sale().prop_map(Command::Place),
        1 => any_sale().prop_map(Command::Record),
        2 => Just(Confirm {}.into()),
        1 => any_text().prop_map(|reason| Reject { reason }.into()),
        1 => any_text().prop_map(|reason| Cancel { reason }.into()),
        2 => Just(Complete {}.into()),
    ]
}

/// Any at all: totals that are no sums, ends without a beginning.
fn any_event() -> impl Strategy<Value = Event> {
    let any_made = || {
        (any_sale(), any::<i64>()).prop_map(|(sale, total_minor)| {
            let Sale { reference, customer, country, currency, placed_at, lines } = sale;
            SaleMade { reference, customer, country, currency, placed_at, lines, total_minor }
        })
    };
    prop_oneof![
        any_made().prop_map(|made| Placed(made).into()),
        any_made().prop_map(|made| Recorded(made).into()),
        Just(Confirmed {}.into()),
        any_text().prop_map(|reason| Rejected { reason }.into()),
        any_text().prop_map(|reason| Cancelled { reason }.into()),
        Just(Completed {}.into()),
    ]
}

/// The sum of the lines, whatever no total can hold.
fn sum(lines: &[OrderLine]) -> i128 {
    lines.iter().map(|line| i128::from(line.quantity.units()) * i128::from(line.unit_price.minor())).sum()
}

proptest! {
    /// The total is the sum of the lines, and a sum that no total can hold is refused.
    #[test]
    fn a_total_is_the_sum_of_its_lines(sale in any_sale()) {
        let sum = sum(&sale.lines);
        match Order::decide(&None, Command::Place(sale.clone())).as_deref() {
            Ok([Event::Placed(Placed(made))]) => {
                assert_eq!(i128::from(made.total_minor), sum);
                assert_eq!(made.lines, sale.lines);
            }
            Err(Refusal::NoLines) => assert!(sale.lines.is_empty()),
            Err(Refusal::TotalOverflow { .. }) => assert!(sum > i128::from(Order::MAX_TOTAL)),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_order_begins_once_and_nothing_follows_its_end(commands in vec(any_command(), 0..30)) {
        let history = lives::<Order>(commands, |before, _, outcome| {
            let status = before.as_ref().map(|order| order.status);
            let last = !matches!(status, None | Some(Status::Placed | Status::Confirmed));
            assert!(!last || outcome.is_err(), "{status:?}: {outcome:?}");
        });
        for (nth, event) in history.iter().enumerate() {
            assert_eq!(matches!(event, Event::Placed(_) | Event::Recorded(_)), nth == 0, "{history:?}");
        }
        if let Some(order) = fold::<Order>(&history) {
            assert_eq!(i128::from(order.total.minor.minor()), sum(&order.lines));
        }
    }

    #[test]
    fn any_history_folds(events in vec(any_event(), 0..30)) {
        survives::<Order>(&events);
    }
}
