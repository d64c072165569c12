//! A made-up warehouse: it sends whatever it is asked to send, at once, and everything arrives. For the sandbox.

use serde::{Deserialize, Serialize};

use crate::decider::Decider as _;
use crate::ids::{Line, ShipmentId};
use crate::process::{Never, Process};
use crate::shipping::{self, Deliver, Dispatch, Event, Shipment};
use crate::shop_event::ShopEvent;

/// The process of the made-up warehouse, an instance a shipment.
pub struct Warehouse;

/// The warehouse remembers nothing: what it does follows from the last event alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nothing;

impl Process for Warehouse {
    const NAME: &'static str = "warehouse";
    const VERSION: i32 = 1;
    const CATEGORIES: &'static [&'static str] = &[Shipment::CATEGORY];
    const TIMEOUTS: &'static [Never] = &[];

    type Id = ShipmentId;
    type State = Nothing;
    type Event = ShopEvent;
    type Command = shipping::Command;
    type Timeout = Never;

    fn instance(event: &ShopEvent) -> Option<ShipmentId> {
        match event {
            ShopEvent::Shipping(shipment, _) => Some(*shipment),
            _ => None,
        }
    }

    fn initial() -> Nothing {
        Nothing
    }

    fn evolve(_: Nothing, _: &ShopEvent) -> Nothing {
        Nothing
    }

    fn react(_: &Nothing, event: &ShopEvent) -> Vec<shipping::Command> {
        match event {
            ShopEvent::Shipping(shipment, Event::Requested(_)) => {
                let (carrier, tracking) = (Line::clipped("Sandbox Post"), Line::clipped(shipment));
                vec![Dispatch { carrier, tracking }.into()]
            }
            ShopEvent::Shipping(_, Event::Dispatched(_)) => vec![Deliver {}.into()],
            _ => vec![],
        }
    }

    fn is_over(_: &Nothing) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decider::fold;
    use crate::fixtures::{order, payment, quantity, shipment, sku, text};
    use crate::ordering::Confirmed;
    use crate::payments::Voided;
    use crate::shipping::{Cancelled, Delivered, Dispatched, Lost, ParcelLine, Requested, Status};
    use crate::testing::given_process;

    fn of_shipment(event: impl Into<Event>) -> ShopEvent {
        ShopEvent::Shipping(shipment(1), event.into())
    }

    fn requested() -> Requested {
        let lines = vec![ParcelLine { sku: sku("85123A"), quantity: quantity(6) }];
        Requested { country: text("United Kingdom"), lines }
    }

    fn dispatch() -> Dispatch {
        Dispatch { carrier: text("Sandbox Post"), tracking: text("00000000-0000-0000-0000-000000000001") }
    }

    fn dispatched() -> Dispatched {
        let Dispatch { carrier, tracking } = dispatch();
        Dispatched { carrier, tracking }
    }

    #[test]
    fn what_is_requested_is_sent_at_once_and_what_is_sent_arrives() {
        given_process::<Warehouse>([]).when(of_shipment(requested())).then([dispatch().into()]);
        given_process::<Warehouse>([of_shipment(requested())])
            .when(of_shipment(dispatched()))
            .then([Deliver {}.into()]);
    }

    #[test]
    fn nothing_follows_from_an_end() {
        let dispatched = || given_process::<Warehouse>([of_shipment(requested()), of_shipment(dispatched())]);
        dispatched().when(of_shipment(Delivered {})).then_nothing();
        dispatched().when(of_shipment(Lost { reason: text("The van burned down") })).then_nothing();
        given_process::<Warehouse>([of_shipment(requested())])
            .when(of_shipment(Cancelled { reason: text("Changed my mind") }))
            .then_nothing();
    }

    #[test]
    fn an_instance_is_a_shipment() {
        assert_eq!(Warehouse::instance(&of_shipment(requested())), Some(shipment(1)));
        for elsewhere in
            [ShopEvent::Ordering(order(1), Confirmed {}.into()), ShopEvent::Payments(payment(1), Voided {}.into())]
        {
            assert_eq!(Warehouse::instance(&elsewhere), None);
            given_process::<Warehouse>([]).when(elsewhere).then_nothing();
        }
        assert_eq!(Warehouse::CATEGORIES, ["shipment"]);
    }

    #[test]
    fn it_remembers_nothing_and_waits_for_nothing() {
        let state = Warehouse::evolve(Warehouse::initial(), &of_shipment(requested()));
        assert_eq!(state, Nothing);
        assert!(Warehouse::is_over(&state));
        assert_eq!(Warehouse::waits_for(&state), None);
        assert_eq!(serde_json::to_value(state).unwrap(), serde_json::Value::Null);
        assert_eq!(serde_json::from_value::<Nothing>(serde_json::Value::Null).unwrap(), Nothing);
    }

    /// What it asks for is granted, and nobody else has to do anything for a parcel to arrive.
    #[test]
    fn every_parcel_arrives() {
        let mut history: Vec<Event> = vec![requested().into()];
        let mut seen = 0;
        while let Some(event) = history.get(seen).cloned() {
            seen += 1;
            for command in Warehouse::react(&Nothing, &of_shipment(event)) {
                history.extend(Shipment::decide(&fold::<Shipment>(&history), command).unwrap());
            }
        }
        assert_eq!(history, [requested().into(), dispatched().into(), Delivered {}.into()]);
        assert_eq!(fold::<Shipment>(&history).unwrap().status, Status::Delivered);
    }
}
