//! The real deciders and processes behind small numbers.
//!
//! What was once decided, folded or reacted to is remembered, so that a world of many thousand nodes calls the domain only
//! some hundred times.

use std::collections::HashMap;
use std::fmt::Debug;
use std::rc::Rc;

use serde::Serialize;
use serde_json::Value;

use crate::decider::Decider;
use crate::ids::OrderId;
use crate::inventory::Stock;
use crate::ordering::Order;
use crate::payments::Payment;
use crate::process::Process;
use crate::processes::charging::{Call, Charging};
use crate::processes::checkout::{Case, Checkout, Command, Refusal, foreseen};
use crate::shipping::Shipment;
use crate::shop_event::ShopEvent;
use crate::supervision::{self, Supervision};

/// Declares the numbers of values of a kind. Equal values have one number.
macro_rules! numbers {
    ($($name:ident),*) => {
        $(#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub(super) struct $name(u16);

        impl From<usize> for $name {
            fn from(index: usize) -> Self {
                Self(u16::try_from(index).expect("few values"))
            }
        }

        impl From<$name> for usize {
            fn from(number: $name) -> usize {
                usize::from(number.0)
            }
        })*
    };
}

numbers!(EventNo, AskNo, AggregateNo, MindNo, CallsNo);

/// A command to any aggregate of the world.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Ask {
    Of(Command),
    Supervision(OrderId, supervision::Command),
}

/// The state of an aggregate.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Aggregate {
    Order(<Order as Decider>::State),
    Stock(<Stock as Decider>::State),
    Payment(<Payment as Decider>::State),
    Shipment(<Shipment as Decider>::State),
    Supervision(<Supervision as Decider>::State),
}

/// The state of a checkout.
pub(super) type Mind = Option<Case>;
/// The state of a charging.
pub(super) type Calls = Vec<Call>;

/// What came of a command.
#[derive(Debug, Clone)]
pub(super) enum Outcome {
    Granted(Rc<[EventNo]>),
    Refused {
        /// Whether the checkout counts on it.
        foreseen: bool,
        /// What was refused and why, without the figures.
        race: Rc<str>,
    },
}

/// Values by number, and numbers by what the values look like.
struct Register<N, T> {
    values: Vec<Rc<T>>,
    numbers: HashMap<String, N>,
}

impl<N: Copy + From<usize> + Into<usize>, T: Debug> Register<N, T> {
    fn new() -> Self {
        Self { values: Vec::new(), numbers: HashMap::new() }
    }

    fn number(&mut self, value: T) -> N {
        let Self { values, numbers } = self;
        *numbers.entry(format!("{value:?}")).or_insert_with(|| {
            values.push(Rc::new(value));
            N::from(values.len() - 1)
        })
    }

    fn value(&self, number: N) -> Rc<T> {
        Rc::clone(&self.values[number.into()])
    }
}

pub(super) struct Lab {
    events: Register<EventNo, ShopEvent>,
    asks: Register<AskNo, Ask>,
    aggregates: Register<AggregateNo, Aggregate>,
    minds: Register<MindNo, Mind>,
    calls: Register<CallsNo, Calls>,
    decided: HashMap<(AggregateNo, AskNo), Outcome>,
    folded: HashMap<(AggregateNo, EventNo), AggregateNo>,
    reacted: HashMap<(MindNo, EventNo), Rc<[AskNo]>>,
    thought: HashMap<(MindNo, EventNo), MindNo>,
    listed: HashMap<(CallsNo, EventNo), CallsNo>,
}

impl Lab {
    pub(super) fn new() -> Self {
        Self {
            events: Register::new(),
            asks: Register::new(),
            aggregates: Register::new(),
            minds: Register::new(),
            calls: Register::new(),
            decided: HashMap::new(),
            folded: HashMap::new(),
            reacted: HashMap::new(),
            thought: HashMap::new(),
            listed: HashMap::new(),
        }
    }

    pub(super) fn event(&self, event: EventNo) -> Rc<ShopEvent> {
        self.events.value(event)
    }

    pub(super) fn ask(&self, ask: AskNo) -> Rc<Ask> {
        self.asks.value(ask)
    }

    pub(super) fn aggregate(&self, aggregate: AggregateNo) -> Rc<Aggregate> {
        self.aggregates.value(aggregate)
    }

    pub(super) fn mind(&self, mind: MindNo) -> Rc<Mind> {
        self.minds.value(mind)
    }

    pub(super) fn calls(&self, calls: CallsNo) -> Rc<Calls> {
        self.calls.value(calls)
    }

    pub(super) fn number_ask(&mut self, ask: Ask) -> AskNo {
        self.asks.number(ask)
    }

    pub(super) fn number_aggregate(&mut self, aggregate: Aggregate) -> AggregateNo {
        self.aggregates.number(aggregate)
    }

    pub(super) fn no_mind(&mut self) -> MindNo {
        self.minds.number(Checkout::initial())
    }

    pub(super) fn no_calls(&mut self) -> CallsNo {
        self.calls.number(Charging::initial())
    }

    pub(super) fn decide(&mut self, aggregate: AggregateNo, ask: AskNo) -> Outcome {
        if let Some(outcome) = self.decided.get(&(aggregate, ask)) {
            return outcome.clone();
        }
        let outcome = match decide(&self.aggregate(aggregate), &self.ask(ask)) {
            Ok(events) => Outcome::Granted(events.into_iter().map(|event| self.events.number(event)).collect()),
            Err((foreseen, race)) => Outcome::Refused { foreseen, race: race.into() },
        };
        self.decided.insert((aggregate, ask), outcome.clone());
        outcome
    }

    pub(super) fn fold(&mut self, aggregate: AggregateNo, event: EventNo) -> AggregateNo {
        if let Some(folded) = self.folded.get(&(aggregate, event)) {
            return *folded;
        }
        let folded = match ((*self.aggregate(aggregate)).clone(), &*self.event(event)) {
            (Aggregate::Order(state), ShopEvent::Ordering(_, event)) => Aggregate::Order(Order::evolve(state, event)),
            (Aggregate::Stock(state), ShopEvent::Inventory(_, event)) => Aggregate::Stock(Stock::evolve(state, event)),
            (Aggregate::Payment(state), ShopEvent::Payments(_, event)) => {
                Aggregate::Payment(Payment::evolve(state, event))
            }
            (Aggregate::Shipment(state), ShopEvent::Shipping(_, event)) => {
                Aggregate::Shipment(Shipment::evolve(state, event))
            }
            (Aggregate::Supervision(state), ShopEvent::Supervision(_, event)) => {
                Aggregate::Supervision(Supervision::evolve(state, event))
            }
            (aggregate, event) => panic!("{event:?} is none of {aggregate:?}"),
        };
        let number = self.aggregates.number(folded);
        self.folded.insert((aggregate, event), number);
        number
    }

    pub(super) fn react(&mut self, mind: MindNo, event: EventNo) -> Rc<[AskNo]> {
        if let Some(asks) = self.reacted.get(&(mind, event)) {
            return Rc::clone(asks);
        }
        let commands = Checkout::react(&self.mind(mind), &self.event(event));
        let asks: Rc<[AskNo]> = commands.into_iter().map(|command| self.asks.number(Ask::Of(command))).collect();
        self.reacted.insert((mind, event), Rc::clone(&asks));
        asks
    }

    pub(super) fn think(&mut self, mind: MindNo, event: EventNo) -> MindNo {
        if let Some(mind) = self.thought.get(&(mind, event)) {
            return *mind;
        }
        let after = Checkout::evolve((*self.mind(mind)).clone(), &self.event(event));
        let kept = serde_json::to_string(&after).unwrap();
        assert_eq!(
            serde_json::from_str::<Mind>(&kept).unwrap(),
            after,
            "it comes back from the store as it was: {kept}"
        );
        let number = self.minds.number(after);
        self.thought.insert((mind, event), number);
        number
    }

    pub(super) fn list(&mut self, calls: CallsNo, event: EventNo) -> CallsNo {
        if let Some(calls) = self.listed.get(&(calls, event)) {
            return *calls;
        }
        let after = Charging::evolve((*self.calls(calls)).clone(), &self.event(event));
        let number = self.calls.number(after);
        self.listed.insert((calls, event), number);
        number
    }
}

fn decide(aggregate: &Aggregate, ask: &Ask) -> Result<Vec<ShopEvent>, (bool, String)> {
    let decided = match (aggregate, ask) {
        (Aggregate::Order(state), Ask::Of(Command::Order(id, command))) => Order::decide(state, command.clone())
            .map(|events| all(events, |event| ShopEvent::Ordering(*id, event)))
            .map_err(|refusal| (race(command, &refusal), Refusal::from(refusal))),
        (Aggregate::Stock(state), Ask::Of(Command::Stock(id, command))) => Stock::decide(state, command.clone())
            .map(|events| all(events, |event| ShopEvent::Inventory(id.clone(), event)))
            .map_err(|refusal| (race(command, &refusal), Refusal::from(refusal))),
        (Aggregate::Payment(state), Ask::Of(Command::Payment(id, command))) => Payment::decide(state, command.clone())
            .map(|events| all(events, |event| ShopEvent::Payments(*id, event)))
            .map_err(|refusal| (race(command, &refusal), Refusal::from(refusal))),
        (Aggregate::Shipment(state), Ask::Of(Command::Shipment(id, command))) => {
            Shipment::decide(state, command.clone())
                .map(|events| all(events, |event| ShopEvent::Shipping(*id, event)))
                .map_err(|refusal| (race(command, &refusal), Refusal::from(refusal)))
        }
        (Aggregate::Supervision(state), Ask::Supervision(id, command)) => {
            return Supervision::decide(state, command.clone())
                .map(|events| all(events, |event| ShopEvent::Supervision(*id, event)))
                .map_err(|refusal| (false, race(command, &refusal)));
        }
        (aggregate, ask) => panic!("{ask:?} is not for {aggregate:?}"),
    };
    decided.map_err(|(race, refusal)| match ask {
        Ask::Of(command) => (foreseen(command, &refusal), race),
        Ask::Supervision(..) => (false, race),
    })
}

fn all<E>(events: Vec<E>, of: impl Fn(E) -> ShopEvent) -> Vec<ShopEvent> {
    events.into_iter().map(of).collect()
}

/// The names of a command and of its refusal, and the status that stood in the way.
fn race(command: &impl Serialize, refusal: &impl Serialize) -> String {
    let (command, refusal) = (serde_json::to_value(command).unwrap(), serde_json::to_value(refusal).unwrap());
    let command = command.as_object().and_then(|command| command.keys().next()).cloned().unwrap();
    let name = refusal["refusal"].as_str().unwrap();
    let status = refusal.get("status").and_then(Value::as_str).map(|status| format!(" {status}")).unwrap_or_default();
    format!("{command}: {name}{status}")
}
