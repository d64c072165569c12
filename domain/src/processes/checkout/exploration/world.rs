//! A small world: two streams of each kind at most, a gateway, a warehouse, and people who do what they like.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::rc::Rc;

use uuid::Uuid;

use super::lab::{Aggregate, AggregateNo, Ask, AskNo, CallsNo, EventNo, Lab, MindNo, Outcome};
use crate::decider::Decider as _;
use crate::fixtures::{card, money, price, quantity, sku, text, time};
use crate::ids::{OrderId, PaymentId, ShipmentId};
use crate::inventory::{self, Receive, Release, Stock};
use crate::ordering::{self, Order, OrderLine, OrderState, Sale, Status};
use crate::payments::{
    Payment, PaymentState, RecordAuthorised, RecordCaptureFailed, RecordCaptured, RecordDeclined, RecordRefundFailed,
    RecordRefunded, RecordVoided, Refund,
};
use crate::process::Process;
use crate::processes::charging::{Call, Charging};
use crate::processes::checkout::{Checkout, Command, stuck};
use crate::shipping::{self, Shipment, ShipmentState, Status as ShipmentStatus};
use crate::shop_event::ShopEvent;
use crate::supervision::{Park, Retry, Supervision, TimeOut, Timeout};

/// A line of an order: SKU, units, and the price of one.
pub(super) type Item = (&'static str, i64, i64);

/// Who is in a world, and what they may do.
#[derive(Default)]
pub(super) struct World {
    /// The orders, with their lines.
    pub(super) orders: Vec<(OrderId, Vec<Item>)>,
    /// What is in the house at first.
    pub(super) stock: Vec<(&'static str, i64)>,
    /// The gateway may decline.
    pub(super) declines: bool,
    /// Timeouts may fire whenever somebody waits.
    pub(super) times_out: bool,
    /// The warehouse may lose what it has dispatched.
    pub(super) loses: bool,
    /// Somebody lets a checkout try again that is stuck.
    pub(super) helps: bool,
    /// What people may ask for at any moment, as often as it is granted.
    pub(super) people: Vec<Command>,
    /// How often each of these may happen.
    pub(super) may: May,
}

/// How often something may happen yet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(super) struct May {
    /// The process manager crashes and goes on from what it has saved.
    pub(super) crash: u8,
    /// An answer of the gateway comes twice.
    pub(super) repeat: u8,
    /// The gateway does not take what it holds.
    pub(super) fail_capture: u8,
    /// The gateway does not give back what it took.
    pub(super) fail_refund: u8,
    /// Somebody refunds three by hand.
    pub(super) refund: u8,
}

/// The world at a moment.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Node {
    aggregates: Vec<AggregateNo>,
    pub(super) checkouts: Vec<Run>,
    pub(super) gateway: Vec<Account>,
    may: May,
}

/// A checkout, as the process manager runs it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Run {
    /// What is saved of it.
    saved: MindNo,
    /// What it is by now.
    pub(super) mind: MindNo,
    /// How many events of the log it has seen since it was saved.
    pub(super) seen: usize,
    /// What of the log it has not seen or what was not saved since; with each event, which commands of the reaction to it
    /// were granted already, as bits.
    pub(super) log: VecDeque<(EventNo, u8)>,
    /// Which commands of the reaction to the next event were executed since the last crash, as bits.
    executed: u8,
}

/// What the gateway knows of a payment, and what it is asked.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Account {
    pub(super) calls: CallsNo,
    /// Whether it held the money, once it has decided.
    pub(super) authorised: Option<bool>,
    pub(super) voided: bool,
    pub(super) captured: i64,
    pub(super) refunded: i64,
    /// Answers that are on their way.
    answers: BTreeSet<AskNo>,
}

/// What can happen next.
pub(super) struct Move {
    pub(super) what: What,
    /// Whether it happens sooner or later. Other things may happen, or never.
    pub(super) is_due: bool,
    pub(super) then: Node,
}

/// What happens.
#[derive(Debug, Clone)]
pub(super) enum What {
    /// The process manager executes a command of a reaction: for the n-th order, the n-th command.
    Execute(usize, usize, AskNo),
    Save(usize),
    Crash(usize),
    /// The gateway decides.
    Decide(AskNo),
    /// An answer of the gateway arrives.
    Answer(AskNo),
    /// Somebody asks for something.
    Ask(AskNo),
}

/// What is said around an order, over and over again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Word {
    Authorised,
    Declined,
    Captured,
    NotCaptured,
    Voided,
    Refunded(u32),
    NotRefunded(u32),
    Dispatch,
    Deliver,
    Lose,
    RefundThree,
    TimeOut(Timeout),
    Park,
    Retry,
}

impl Word {
    fn about(self, order: OrderId) -> Ask {
        let payment = |command| Ask::Of(Command::Payment(PaymentId::of(order), command));
        let shipment = |command| Ask::Of(Command::Shipment(ShipmentId::of(order), command));
        match self {
            Self::Authorised => payment(RecordAuthorised { reference: text("gw-1") }.into()),
            Self::Declined => payment(RecordDeclined { reason: text("Declined") }.into()),
            Self::Captured => payment(RecordCaptured { reference: text("gw-1") }.into()),
            Self::NotCaptured => payment(RecordCaptureFailed { reason: text("Expired") }.into()),
            Self::Voided => payment(RecordVoided {}.into()),
            Self::Refunded(number) => payment(RecordRefunded { number }.into()),
            Self::NotRefunded(number) => payment(RecordRefundFailed { number, reason: text("Closed") }.into()),
            Self::RefundThree => payment(Refund { amount: money(300, "GBP"), reason: text("Scratched") }.into()),
            Self::Dispatch => {
                shipment(shipping::Dispatch { carrier: text("Royal Mail"), tracking: text("RM-1") }.into())
            }
            Self::Deliver => shipment(shipping::Deliver {}.into()),
            Self::Lose => shipment(shipping::ReportLost { reason: text("Lost") }.into()),
            Self::TimeOut(timeout) => Ask::Supervision(order, TimeOut { timeout }.into()),
            Self::Park => Ask::Supervision(order, Park { event: Uuid::nil(), reason: text("Stuck") }.into()),
            Self::Retry => Ask::Supervision(order, Retry {}.into()),
        }
    }
}

/// The aggregates of one order.
pub(super) struct Concerning {
    order: Rc<Aggregate>,
    payment: Rc<Aggregate>,
    shipment: Rc<Aggregate>,
}

impl Concerning {
    pub(super) fn order(&self) -> &OrderState {
        match &*self.order {
            Aggregate::Order(Some(order)) => order,
            other => panic!("no order was placed: {other:?}"),
        }
    }

    pub(super) fn payment(&self) -> Option<&PaymentState> {
        match &*self.payment {
            Aggregate::Payment(payment) => payment.as_ref(),
            other => panic!("not a payment: {other:?}"),
        }
    }

    pub(super) fn shipment(&self) -> Option<&ShipmentState> {
        match &*self.shipment {
            Aggregate::Shipment(shipment) => shipment.as_ref(),
            other => panic!("not a shipment: {other:?}"),
        }
    }
}

/// How many events an instance sees at most before it is saved.
const UNSAVED: usize = 2;

/// What went wrong.
pub(super) type Wrong = String;

pub(super) struct Explored {
    pub(super) world: World,
    pub(super) lab: Lab,
    words: HashMap<(usize, Word), AskNo>,
    people: Vec<AskNo>,
    /// The races that the checkouts lost.
    pub(super) races: BTreeSet<Rc<str>>,
}

impl Explored {
    /// A world, and how it begins: with goods in the house, and with orders just placed.
    pub(super) fn begin(world: World) -> (Self, Node) {
        let mut lab = Lab::new();
        // Where they stand, `slot` knows.
        let of_order = || {
            [
                Aggregate::Order(Order::initial()),
                Aggregate::Payment(Payment::initial()),
                Aggregate::Shipment(Shipment::initial()),
                Aggregate::Supervision(Supervision::initial()),
            ]
        };
        let of_orders = world.orders.iter().flat_map(|_| of_order());
        let of_stock = world.stock.iter().map(|_| Aggregate::Stock(Stock::initial()));
        let aggregates = of_orders.chain(of_stock).map(|nothing| lab.number_aggregate(nothing)).collect();
        let (mind, calls) = (lab.no_mind(), lab.no_calls());
        let run = Run { saved: mind, mind, seen: 0, log: VecDeque::new(), executed: 0 };
        let account =
            Account { calls, authorised: None, voided: false, captured: 0, refunded: 0, answers: BTreeSet::new() };
        let count = world.orders.len();
        let mut node = Node { aggregates, checkouts: vec![run; count], gateway: vec![account; count], may: world.may };
        let receive =
            |(name, units): &(&str, i64)| Command::Stock(sku(name), Receive { quantity: quantity(*units) }.into());
        let receive = world.stock.iter().filter(|(_, units)| *units > 0).map(receive);
        let place = |(order, lines): &(OrderId, Vec<_>)| Command::Order(*order, ordering::Command::Place(sale(lines)));
        let commands: Vec<Command> = receive.chain(world.orders.iter().map(place)).collect();
        let people = world.people.iter().map(|command| lab.number_ask(Ask::Of(command.clone()))).collect();
        let mut explored = Self { world, lab, words: HashMap::new(), people, races: BTreeSet::new() };
        for command in commands {
            let ask = explored.lab.number_ask(Ask::Of(command));
            match explored.decide(&node, ask) {
                Outcome::Granted(events) => explored.append(&mut node, &events),
                Outcome::Refused { race, .. } => panic!("{race}"),
            }
        }
        (explored, node)
    }

    /// Everything that can happen next.
    ///
    /// # Errors
    /// What should never happen, and would.
    pub(super) fn moves(&mut self, node: &Node) -> Result<Vec<Move>, (What, Wrong)> {
        let mut moves = Vec::new();
        for index in 0..node.checkouts.len() {
            self.manager(node, index, &mut moves)?;
            self.gateway(node, index, &mut moves)?;
            self.surroundings(node, index, &mut moves);
        }
        for ask in self.people.clone() {
            // Who releases what the warehouse may be about to send has to reserve it again: a person's doing and undoing.
            let is_fair = match &*self.lab.ask(ask) {
                Ask::Of(Command::Stock(_, inventory::Command::Release(Release { order }))) => {
                    let of = self.concerning(node, self.index(*order));
                    let is_kept = of.shipment().is_some_and(|shipment| shipment.status == ShipmentStatus::Cancelled);
                    is_kept || of.order().status == Status::Rejected
                }
                _ => true,
            };
            if is_fair {
                self.somebody_asks(node, ask, false, &mut moves);
            }
        }
        for r#move in &mut moves {
            self.see_what_leads_to_nothing(&mut r#move.then);
        }
        Ok(moves)
    }

    /// Events that lead to no command are seen at once: that makes no difference to anybody.
    fn see_what_leads_to_nothing(&mut self, node: &mut Node) {
        for index in 0..node.checkouts.len() {
            while let Some((event, granted)) = node.checkouts[index].next() {
                let (asks, executed) =
                    (self.lab.react(node.checkouts[index].mind, event), node.checkouts[index].executed);
                if u32::from(executed | granted) != (1 << asks.len()) - 1 {
                    break;
                }
                self.see(node, index);
            }
        }
    }

    /// The process manager: executes the commands of a reaction in any order, and crashes in between.
    fn manager(&mut self, node: &Node, index: usize, moves: &mut Vec<Move>) -> Result<(), (What, Wrong)> {
        let run = &node.checkouts[index];
        if let Some((event, granted)) = run.next() {
            let asks = self.lab.react(run.mind, event);
            let executed = run.executed | granted;
            for (nth, ask) in asks.iter().enumerate().filter(|(nth, _)| executed & (1 << nth) == 0) {
                let what = What::Execute(index, nth, *ask);
                let mut then = node.clone();
                self.execute(&mut then, index, nth, *ask).map_err(|wrong| (what.clone(), wrong))?;
                moves.push(Move { what, is_due: true, then });
            }
        }
        if run.seen > 0 {
            let mut then = node.clone();
            then.checkouts[index].save();
            moves.push(Move { what: What::Save(index), is_due: false, then });
        }
        if node.may.crash > 0 && (run.seen > 0 || run.executed > 0) {
            let mut then = node.clone();
            then.may.crash -= 1;
            let crashed = &mut then.checkouts[index];
            (crashed.mind, crashed.seen, crashed.executed) = (crashed.saved, 0, 0);
            if then.may.crash == 0 {
                // Nothing is ever gone back to again.
                then.checkouts.iter_mut().for_each(Run::save);
            }
            moves.push(Move { what: What::Crash(index), is_due: false, then });
        }
        Ok(())
    }

    /// Executes one command of a reaction. A refusal is fine if an event of the same stream is on its way.
    fn execute(&mut self, node: &mut Node, index: usize, nth: usize, ask: AskNo) -> Result<(), Wrong> {
        match self.decide(node, ask) {
            Outcome::Granted(events) => {
                self.append(node, &events);
                let run = &mut node.checkouts[index];
                run.log[run.seen].1 |= 1 << nth;
            }
            Outcome::Refused { foreseen: false, race } => return Err(format!("an unforeseen refusal: {race}")),
            Outcome::Refused { foreseen: true, race } => {
                let run = &node.checkouts[index];
                let slot = self.slot(&self.lab.ask(ask));
                let on_its_way = |(event, _): &(EventNo, u8)| self.slot_of_event(&self.lab.event(*event)) == slot;
                if !run.log.iter().skip(run.seen + 1).any(on_its_way) {
                    return Err(format!("a refusal that nothing on its way explains: {race}"));
                }
                self.races.insert(race);
            }
        }
        let run = &mut node.checkouts[index];
        run.executed |= 1 << nth;
        Ok(())
    }

    /// The instance has seen its next event.
    fn see(&mut self, node: &mut Node, index: usize) {
        let run = &mut node.checkouts[index];
        run.mind = self.lab.think(run.mind, run.log[run.seen].0);
        run.seen += 1;
        run.executed = 0;
        if node.may.crash == 0 || run.seen > UNSAVED {
            run.save();
        }
    }

    /// The gateway: decides what it is asked, and its answers arrive whenever they like.
    fn gateway(&mut self, node: &Node, index: usize, moves: &mut Vec<Move>) -> Result<(), (What, Wrong)> {
        let account = &node.gateway[index];
        let calls = self.lab.calls(account.calls);
        let mut decided: Vec<(Word, Account, May)> = Vec::new();
        let mut decide = |word: Word, change: &dyn Fn(&mut Account, &mut May)| {
            let (mut account, mut may) = (account.clone(), node.may);
            change(&mut account, &mut may);
            decided.push((word, account, may));
        };
        // A call may be slow, and come after the void that took it off the list.
        let to_authorise = calls.iter().any(|call| matches!(call, Call::Authorise { .. } | Call::Void));
        if to_authorise && account.authorised.is_none() {
            if !account.voided {
                decide(Word::Authorised, &|account, _| account.authorised = Some(true));
            }
            if self.world.declines || account.voided {
                decide(Word::Declined, &|account, _| account.authorised = Some(false));
            }
        }
        for call in calls.iter() {
            match call {
                Call::Void if !account.voided => decide(Word::Voided, &|account, _| account.voided = true),
                Call::Capture { amount } => {
                    decide(Word::Captured, &|account, _| account.captured += amount.minor.minor());
                    if node.may.fail_capture > 0 {
                        decide(Word::NotCaptured, &|_, may| may.fail_capture -= 1);
                    }
                }
                Call::Refund { number, amount } => {
                    decide(Word::Refunded(*number), &|account, _| account.refunded += amount.minor.minor());
                    if node.may.fail_refund > 0 {
                        decide(Word::NotRefunded(*number), &|_, may| may.fail_refund -= 1);
                    }
                }
                Call::Authorise { .. } | Call::Void => {}
            }
        }
        for (word, account, may) in decided {
            let ask = self.word(index, word);
            let mut then = Node { may, ..node.clone() };
            then.gateway[index] = account;
            if matches!(word, Word::Authorised | Word::Declined | Word::Voided) {
                then.gateway[index].answers.insert(ask);
                moves.push(Move { what: What::Decide(ask), is_due: true, then });
            } else {
                // Nobody can tell a late answer from a late decision, where nothing else can happen in between.
                self.answer(&then, index, ask, moves)?;
            }
        }
        for ask in &account.answers {
            self.answer(node, index, *ask, moves)?;
        }
        Ok(())
    }

    /// An answer of the gateway arrives, for the last time or not.
    fn answer(&mut self, node: &Node, index: usize, ask: AskNo, moves: &mut Vec<Move>) -> Result<(), (What, Wrong)> {
        let what = What::Answer(ask);
        let mut then = node.clone();
        match self.decide(node, ask) {
            Outcome::Granted(events) => self.append(&mut then, &events),
            Outcome::Refused { race, .. } if race.contains(": not-awaiting-") => {}
            Outcome::Refused { race, .. } => return Err((what, format!("an answer on which nobody counts: {race}"))),
        }
        // A capture that failed may be asked for again. That this answer is to the first, its id tells.
        if node.may.repeat > 0 && ask != self.word(index, Word::NotCaptured) {
            let mut then = then.clone();
            then.may.repeat -= 1;
            then.gateway[index].answers.insert(ask);
            moves.push(Move { what: what.clone(), is_due: false, then });
        }
        then.gateway[index].answers.remove(&ask);
        moves.push(Move { what, is_due: true, then });
        Ok(())
    }

    /// The warehouse, the clock, and whoever helps.
    fn surroundings(&mut self, node: &Node, index: usize, moves: &mut Vec<Move>) {
        for (word, is_due) in [(Word::Dispatch, true), (Word::Deliver, true), (Word::Lose, false)] {
            if is_due || self.world.loses {
                let ask = self.word(index, word);
                self.somebody_asks(node, ask, is_due, moves);
            }
        }
        let run = &node.checkouts[index];
        // The time runs by what is saved.
        let waits_for = Checkout::waits_for(&self.lab.mind(run.saved)).filter(|_| self.world.times_out);
        if let Some(timeout) = waits_for {
            let ask = self.word(index, Word::TimeOut(timeout));
            self.somebody_asks(node, ask, false, moves);
        }
        if node.may.refund > 0 {
            let mut paid = node.clone();
            paid.may.refund -= 1;
            let ask = self.word(index, Word::RefundThree);
            self.somebody_asks(&paid, ask, false, moves);
        }
        let is_retried = |(event, _): &(EventNo, u8)| Checkout::resumes(&self.lab.event(*event));
        if self.world.helps && stuck(&self.lab.mind(run.mind)).is_some() && !run.log.iter().any(is_retried) {
            let mut parked = node.clone();
            let ask = self.word(index, Word::Park);
            if let Outcome::Granted(events) = self.decide(&parked, ask) {
                self.append(&mut parked, &events);
            }
            let ask = self.word(index, Word::Retry);
            self.somebody_asks(&parked, ask, false, moves);
        }
    }

    /// Somebody asks for something. What is refused or does nothing is no move.
    fn somebody_asks(&mut self, node: &Node, ask: AskNo, is_due: bool, moves: &mut Vec<Move>) {
        match self.decide(node, ask) {
            Outcome::Granted(events) if !events.is_empty() => {
                let mut then = node.clone();
                self.append(&mut then, &events);
                moves.push(Move { what: What::Ask(ask), is_due, then });
            }
            Outcome::Granted(_) | Outcome::Refused { .. } => {}
        }
    }

    fn word(&mut self, index: usize, word: Word) -> AskNo {
        let order = self.world.orders[index].0;
        *self.words.entry((index, word)).or_insert_with(|| self.lab.number_ask(word.about(order)))
    }

    fn decide(&mut self, node: &Node, ask: AskNo) -> Outcome {
        let slot = self.slot(&self.lab.ask(ask));
        self.lab.decide(node.aggregates[slot], ask)
    }

    /// Events happen: to their aggregate, to the checkout that they concern, and to the list of calls to the gateway.
    fn append(&mut self, node: &mut Node, events: &[EventNo]) {
        for number in events {
            let event = self.lab.event(*number);
            let slot = self.slot_of_event(&event);
            node.aggregates[slot] = self.lab.fold(node.aggregates[slot], *number);
            if let Some(order) = Checkout::instance(&event) {
                node.checkouts[self.index(order)].log.push_back((*number, 0));
            }
            if let Some(payment) = Charging::instance(&event) {
                let account = &mut node.gateway[self.index(payment.order())];
                account.calls = self.lab.list(account.calls, *number);
            }
        }
    }

    /// Where the aggregate stands that a command is for.
    fn slot(&self, ask: &Ask) -> usize {
        match ask {
            Ask::Of(Command::Order(order, _)) => 4 * self.index(*order),
            Ask::Of(Command::Payment(payment, _)) => 4 * self.index(payment.order()) + 1,
            Ask::Of(Command::Shipment(shipment, _)) => 4 * self.index(shipment.order()) + 2,
            Ask::Supervision(order, _) => 4 * self.index(*order) + 3,
            Ask::Of(Command::Stock(sku, _)) => self.slot_of_stock(sku.as_str()),
        }
    }

    /// Where the aggregate stands to which an event happens.
    fn slot_of_event(&self, event: &ShopEvent) -> usize {
        match event {
            ShopEvent::Ordering(order, _) => 4 * self.index(*order),
            ShopEvent::Payments(payment, _) => 4 * self.index(payment.order()) + 1,
            ShopEvent::Shipping(shipment, _) => 4 * self.index(shipment.order()) + 2,
            ShopEvent::Supervision(order, _) => 4 * self.index(*order) + 3,
            ShopEvent::Inventory(sku, _) => self.slot_of_stock(sku.as_str()),
            ShopEvent::Catalog(..) | ShopEvent::Customers(..) => panic!("{event:?} is not of this world"),
        }
    }

    fn slot_of_stock(&self, sku: &str) -> usize {
        let place = self.world.stock.iter().position(|(known, _)| *known == sku).expect("a SKU of this world");
        4 * self.world.orders.len() + place
    }

    pub(super) fn index(&self, order: OrderId) -> usize {
        self.world.orders.iter().position(|(known, _)| *known == order).expect("an order of this world")
    }

    pub(super) fn concerning(&self, node: &Node, index: usize) -> Concerning {
        let aggregate = |slot| self.lab.aggregate(node.aggregates[4 * index + slot]);
        Concerning { order: aggregate(0), payment: aggregate(1), shipment: aggregate(2) }
    }

    pub(super) fn stock(&self, node: &Node, sku: &str) -> Rc<Aggregate> {
        self.lab.aggregate(node.aggregates[self.slot_of_stock(sku)])
    }
}

impl Run {
    /// The next event to see, and which commands of the reaction to it were granted.
    fn next(&self) -> Option<(EventNo, u8)> {
        self.log.get(self.seen).copied()
    }

    fn save(&mut self) {
        self.log.drain(..self.seen);
        (self.saved, self.seen) = (self.mind, 0);
    }
}

/// What is bought. Whatever costs something is charged to a card.
fn sale(lines: &[Item]) -> Sale {
    let line = |(name, units, minor): &Item| OrderLine {
        sku: sku(name),
        quantity: quantity(*units),
        unit_price: price(*minor),
    };
    Sale {
        reference: None,
        customer: None,
        country: text("France"),
        currency: money(0, "GBP").currency,
        placed_at: time("2026-11-21T08:26:00Z"),
        lines: lines.iter().map(line).collect(),
        card: lines.iter().any(|(_, _, minor)| *minor > 0).then(|| card("tok_visa")),
    }
}

impl World {
    /// Whether somebody may do this by hand.
    pub(super) fn by_hand(&self, is: impl Fn(&Command) -> bool) -> bool {
        self.people.iter().any(is)
    }
}
