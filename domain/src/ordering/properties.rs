//! What holds for an order whatever is asked of it.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::*;
use crate::decider::{Decider, fold};
use crate::fixtures::{
    any_card, any_currency, any_price, any_quantity, any_sku, any_text, any_time, customer, lives, survives,
};

fn any_line() -> impl Strategy<Value = OrderLine> {
    (any_sku(), any_quantity(), any_price()).prop_map(|(sku, quantity, unit_price)| OrderLine {
        sku,
        quantity,
        unit_price,
    })
}

fn any_sale() -> impl Strategy<Value = Sale> {
    let customer = option::of(any::<u128>().prop_map(customer));
    let lines = vec(any_line(), 0..6);
    (option::of(any_text()), customer, any_text(), any_currency(), any_time(), lines, option::of(any_card())).prop_map(
        |(reference, customer, country, currency, placed_at, lines, card)| Sale {
            reference,
            customer,
            country,
            currency,
            placed_at,
            lines,
            card,
        },
    )
}

fn any_command() -> impl Strategy<Value = Command> {
    prop_oneof![
        3 => any_sale().prop_map(Command::Place),
        1 => any_sale().prop_map(Command::Record),
        3 => Just(Confirm {}.into()),
        1 => any_text().prop_map(|reason| Reject { reason }.into()),
        2 => any_text().prop_map(|reason| Cancel { reason }.into()),
        2 => Just(Dispatch {}.into()),
        1 => any_text().prop_map(|reason| CallOff { reason }.into()),
        1 => Just(Complete {}.into()),
    ]
}

/// Any at all: totals that are no sums, ends without a beginning.
fn any_event() -> impl Strategy<Value = Event> {
    let any_made = || {
        (any_sale(), any::<i64>()).prop_map(|(sale, total_minor)| {
            let Sale { reference, customer, country, currency, placed_at, lines, card } = sale;
            SaleMade { reference, customer, country, currency, placed_at, lines, total_minor, card }
        })
    };
    prop_oneof![
        any_made().prop_map(|made| Placed(made).into()),
        any_made().prop_map(|made| Recorded(made).into()),
        Just(Confirmed {}.into()),
        any_text().prop_map(|reason| CancellationRequested { reason }.into()),
        Just(CancellationDeclined {}.into()),
        Just(Dispatched {}.into()),
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
                assert_eq!(made.card, sale.card);
                assert!(sum == 0 || made.card.is_some());
            }
            Err(Refusal::NoCard { total }) => {
                assert_eq!((i128::from(total.minor.minor()), total.currency), (sum, sale.currency));
                assert!(sum > 0 && sale.card.is_none());
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
            let goes_on = [Status::Placed, Status::Confirmed, Status::Cancelling, Status::Dispatched];
            let last = status.is_some_and(|status| !goes_on.contains(&status));
            assert!(!last || outcome.is_err(), "{status:?}: {outcome:?}");
        });
        for (nth, event) in history.iter().enumerate() {
            assert_eq!(matches!(event, Event::Placed(_) | Event::Recorded(_)), nth == 0, "{history:?}");
        }
        if let Some(order) = fold::<Order>(&history) {
            assert_eq!(i128::from(order.total.minor.minor()), sum(&order.lines));
        }
    }

    /// A cancellation that is asked for is declined, or the order is called off, before the goods leave the house; and
    /// they leave it once, before they arrive.
    #[test]
    fn a_cancellation_is_answered_before_the_goods_leave_the_house(commands in vec(any_command(), 0..30)) {
        let history = lives::<Order>(commands, |_, _, _| {});
        let (mut asked, mut dispatched) = (false, false);
        for event in &history {
            match event {
                Event::CancellationRequested(_) => assert!(!std::mem::replace(&mut asked, true), "{history:?}"),
                Event::CancellationDeclined(_) => assert!(std::mem::take(&mut asked), "{history:?}"),
                Event::Dispatched(_) => assert!(!asked && !std::mem::replace(&mut dispatched, true), "{history:?}"),
                Event::Completed(_) => assert!(dispatched, "{history:?}"),
                Event::Cancelled(_) => asked = false,
                _ => {}
            }
        }
        let cancelling = fold::<Order>(&history).is_some_and(|order| order.status == Status::Cancelling);
        assert_eq!(cancelling, asked, "{history:?}");
    }

    #[test]
    fn any_history_folds(events in vec(any_event(), 0..30)) {
        survives::<Order>(&events);
    }
}
