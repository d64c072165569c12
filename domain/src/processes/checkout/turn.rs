//! What the checkout makes of an event.

use std::collections::BTreeMap;

use crate::ids::{Line, OrderId, PaymentId, Quantity, ShipmentId, Sku};
use crate::inventory::{self, Release, Reserve, Ship};
use crate::money::{Money, Price};
use crate::ordering::{self, CallOff, Complete, Confirm, Reject, SaleMade};
use crate::payments::{self, Capture, Refund, Void};
use crate::process::Process as _;
use crate::processes::checkout::case::{
    Case, Charge, Good, Goods, Order, Payment, Progress, Reservation, Shipment, Taken,
};
use crate::processes::checkout::{Checkout, Command};
use crate::shipping::{self, ParcelLine};
use crate::shop_event::ShopEvent;
use crate::supervision::{self, TimedOut, Timeout};

/// One step of a case: what an event makes of its progress, and what is to be done about it.
///
/// The process keeps the one to evolve and sends the other to react, so that the two never part ways.
pub(super) struct Turn<'a> {
    order: OrderId,
    case: &'a Case,
    progress: Progress,
    commands: Vec<Command>,
}

impl<'a> Turn<'a> {
    /// Opens the case of an order that was placed. `None` when none was.
    pub(super) fn open(event: &ShopEvent) -> Option<(Case, Vec<Command>)> {
        let ShopEvent::Ordering(order, ordering::Event::Placed(ordering::Placed(sale))) = event else { return None };
        let terms = charge(sale).and_then(|charge| Ok((charge, goods(sale)?)));
        let (charge, goods, fault) = match terms {
            Ok((charge, goods)) => (charge, goods, None),
            Err(fault) => (None, Goods(BTreeMap::new()), Some(fault)),
        };
        let progress = Progress {
            asked: goods.0.len(),
            held: 0,
            payment: Payment::Unasked,
            order: Order::Placed,
            shipment: Shipment::Unasked,
            undo: None,
        };
        let mut case = Case { country: sale.country.clone(), charge, goods, progress };
        let mut turn = Turn::begin(*order, &case);
        match fault {
            None => turn.reserve(),
            Some(fault) => turn.undo(&fault),
        }
        let Turn { progress, commands, .. } = turn;
        case.progress = progress;
        Some((case, commands))
    }

    /// What an event makes of a case.
    pub(super) fn take(case: &'a Case, event: &ShopEvent) -> (Progress, Vec<Command>) {
        let Some(order) = Checkout::instance(event) else { return (case.progress.clone(), vec![]) };
        let mut turn = Turn::begin(order, case);
        match event {
            ShopEvent::Ordering(_, event) => turn.of_order(event),
            ShopEvent::Inventory(sku, event) => turn.of_stock(sku, event),
            ShopEvent::Payments(_, event) => turn.of_payment(event),
            ShopEvent::Shipping(_, event) => turn.of_shipment(event),
            ShopEvent::Supervision(_, event) => turn.of_supervision(event),
            ShopEvent::Catalog(..) | ShopEvent::Customers(..) => {}
        }
        turn.go_on();
        (turn.progress, turn.commands)
    }

    fn begin(order: OrderId, case: &'a Case) -> Self {
        Self { order, case, progress: case.progress.clone(), commands: Vec::new() }
    }

    fn of_order(&mut self, event: &ordering::Event) {
        match event {
            ordering::Event::Confirmed(_) if self.progress.order == Order::Confirming => {
                self.progress.order = Order::Confirmed;
            }
            ordering::Event::CancellationRequested(ordering::CancellationRequested { reason }) => self.stop(reason),
            // Whoever ended it: a customer who cancels, the shop by hand, or this checkout, which is undoing already.
            ordering::Event::Rejected(ordering::Rejected { reason })
            | ordering::Event::Cancelled(ordering::Cancelled { reason }) => {
                self.progress.order = Order::Ended;
                if self.progress.shipment.has_left() { self.undo(reason) } else { self.stop(reason) }
            }
            ordering::Event::Completed(_) => self.progress.order = Order::Ended,
            ordering::Event::Placed(_)
            | ordering::Event::Recorded(_)
            | ordering::Event::Confirmed(_)
            | ordering::Event::CancellationDeclined(_)
            | ordering::Event::Dispatched(_) => {}
        }
    }

    fn of_stock(&mut self, sku: &Sku, event: &inventory::Event) {
        let Some((before, after)) = self.case.goods.change(sku, event) else { return };
        match before {
            Reservation::Asked => self.progress.asked = self.progress.asked.saturating_sub(1),
            Reservation::Held => self.progress.held = self.progress.held.saturating_sub(1),
            Reservation::Gone => {}
        }
        if after == Reservation::Held {
            self.progress.held += 1;
            if self.progress.undo.is_some() && !self.progress.shipment.has_left() {
                self.release(sku);
            }
        }
        if let inventory::Event::Declined(inventory::Declined { quantity, available, .. }) = event {
            self.undo(&Line::clipped(format_args!("{sku}: {quantity} asked for, {available} available")));
        }
    }

    fn of_payment(&mut self, event: &payments::Event) {
        match event {
            payments::Event::Requested(_) => {}
            payments::Event::Authorised(_) => {
                // An answer that comes after the payment was given up does not bring it back.
                if self.progress.payment == Payment::Asked {
                    self.progress.payment = Payment::Held;
                }
            }
            payments::Event::Declined(payments::Declined { reason }) => {
                self.progress.payment = Payment::Nothing;
                self.undo(reason);
            }
            payments::Event::CaptureRequested(_) => self.progress.payment = Payment::Taking,
            payments::Event::Captured(payments::Captured { amount, .. }) => {
                self.progress.payment =
                    Payment::Taken(Taken { left: *amount, refunds: BTreeMap::new(), failed: false });
                self.give_back();
            }
            payments::Event::CaptureFailed(_) => {
                self.progress.payment = Payment::NotTaken;
                self.give_back();
            }
            payments::Event::VoidRequested(payments::VoidRequested { reason }) => {
                self.progress.payment = Payment::Voiding;
                // By hand. Without the money the goods stay, if they can; for what has left it is waived.
                self.stop(reason);
            }
            payments::Event::Voided(_) => self.progress.payment = Payment::Nothing,
            payments::Event::RefundRequested(_) | payments::Event::Refunded(_) | payments::Event::RefundFailed(_) => {
                self.of_refund(event);
            }
        }
    }

    fn of_refund(&mut self, event: &payments::Event) {
        let Payment::Taken(taken) = &mut self.progress.payment else { return };
        match event {
            payments::Event::RefundRequested(payments::RefundRequested { number, amount, .. }) => {
                taken.refunds.insert(*number, amount.minor.minor());
                taken.failed = false;
                // By hand, it may be only a part.
                self.give_back();
            }
            payments::Event::Refunded(payments::Refunded { number, left_minor, .. }) => {
                taken.refunds.remove(number);
                taken.left.minor = Price::try_from(*left_minor).unwrap_or(Price::ZERO);
            }
            // To ask again at once would be answered the same.
            payments::Event::RefundFailed(payments::RefundFailed { number, .. }) => {
                taken.refunds.remove(number);
                taken.failed = true;
            }
            _ => {}
        }
    }

    fn of_shipment(&mut self, event: &shipping::Event) {
        match event {
            shipping::Event::Requested(_) => {}
            shipping::Event::Dispatched(_) => {
                self.progress.shipment = Shipment::Left;
                self.ship();
                if self.progress.order == Order::Ended {
                    self.undo(&Line::clipped("the goods left the house after the order was called off"));
                } else {
                    self.ask_order(ordering::Dispatch {});
                    self.capture();
                }
            }
            shipping::Event::Delivered(_) => self.progress.shipment = Shipment::Arrived,
            shipping::Event::Lost(shipping::Lost { reason }) => self.undo(reason),
            shipping::Event::Cancelled(shipping::Cancelled { reason }) => {
                self.progress.shipment = Shipment::Kept;
                self.undo(reason);
            }
        }
    }

    fn of_supervision(&mut self, event: &supervision::Event) {
        match event {
            supervision::Event::TimedOut(TimedOut { timeout }) if self.case.progress.waits_for() == Some(*timeout) => {
                self.stop(&Line::clipped(match timeout {
                    Timeout::Payment => "the payment was not answered in time",
                    Timeout::Dispatch => "the goods did not leave the house in time",
                }));
            }
            supervision::Event::Retried(_) if self.progress.undo.is_some() => self.give_back(),
            supervision::Event::Retried(_) if self.progress.shipment.has_left() => self.capture(),
            supervision::Event::TimedOut(_) | supervision::Event::Retried(_) | supervision::Event::Parked(_) => {}
        }
    }

    /// Asks for whatever is due next, if all is going well.
    fn go_on(&mut self) {
        let Progress { asked, held, undo, .. } = &self.progress;
        if undo.is_some() || *asked > 0 {
            return;
        }
        let nothing_held = *held == 0;
        if self.progress.payment == Payment::Unasked {
            self.request_payment();
        }
        match (self.progress.order, self.progress.shipment, &self.progress.payment) {
            (Order::Placed, _, Payment::Held | Payment::Nothing) => {
                self.progress.order = Order::Confirming;
                self.ask_order(Confirm {});
            }
            (Order::Confirmed, Shipment::Unasked, _) => self.request_shipment(),
            (Order::Confirmed, Shipment::Arrived, Payment::Taken(_) | Payment::Nothing) if nothing_held => {
                self.progress.order = Order::Completing;
                self.ask_order(Complete {});
            }
            _ => {}
        }
    }

    /// Undoes the order if the goods can be kept. Whether they can is for the shipment to say, if it was requested.
    fn stop(&mut self, reason: &Line) {
        match self.progress.shipment {
            Shipment::Unasked | Shipment::Kept => self.undo(reason),
            Shipment::Asked => {
                self.progress.shipment = Shipment::Stopping;
                self.ask_shipment(shipping::Cancel { reason: reason.clone() });
            }
            Shipment::Stopping | Shipment::Left | Shipment::Arrived => {}
        }
    }

    /// Begins to undo what was done.
    fn undo(&mut self, reason: &Line) {
        if self.progress.undo.is_some() {
            return;
        }
        self.progress.undo = Some(reason.clone());
        if !self.progress.shipment.has_left() {
            self.case.goods.held().for_each(|sku| self.release(sku));
        }
        self.give_back();
        let reason = reason.clone();
        match self.progress.order {
            Order::Placed => self.ask_order(Reject { reason }),
            Order::Confirming | Order::Confirmed | Order::Completing => self.ask_order(CallOff { reason }),
            Order::Ended => {}
        }
    }

    /// Lets go or gives back whatever there is of the money, if the order is being undone.
    fn give_back(&mut self) {
        let Some(reason) = self.progress.undo.clone() else { return };
        match &mut self.progress.payment {
            Payment::Unasked => self.progress.payment = Payment::Nothing,
            Payment::Asked | Payment::Held | Payment::NotTaken => {
                self.progress.payment = Payment::Voiding;
                self.ask_payment(Void { reason });
            }
            Payment::Taken(taken) => {
                taken.failed = false;
                if let Some(amount) = taken.refundable() {
                    self.ask_payment(Refund { amount, reason });
                }
            }
            // Nothing to give back, or not before the gateway has answered.
            Payment::Taking | Payment::Voiding | Payment::Nothing => {}
        }
    }

    fn reserve(&mut self) {
        let order = self.order;
        for (sku, Good { quantity, .. }) in &self.case.goods.0 {
            self.ask_stock(sku, Reserve { order, quantity: *quantity });
        }
    }

    fn release(&mut self, sku: &Sku) {
        self.ask_stock(sku, Release { order: self.order });
    }

    /// All of them, held or not: goods that left the house without being reserved are for a person to look at.
    fn ship(&mut self) {
        for sku in self.case.goods.0.keys() {
            self.ask_stock(sku, Ship { order: self.order });
        }
    }

    fn request_payment(&mut self) {
        match &self.case.charge {
            None => self.progress.payment = Payment::Nothing,
            Some(Charge { amount, card }) => {
                self.progress.payment = Payment::Asked;
                self.ask_payment(payments::Request { amount: *amount, card: card.clone() });
            }
        }
    }

    fn capture(&mut self) {
        if let (Payment::Held | Payment::NotTaken, Some(Charge { amount, .. })) =
            (&self.progress.payment, &self.case.charge)
        {
            self.progress.payment = Payment::Taking;
            self.ask_payment(Capture { amount: *amount });
        }
    }

    fn request_shipment(&mut self) {
        let line = |(sku, good): (&Sku, &Good)| ParcelLine { sku: sku.clone(), quantity: good.quantity };
        let lines = self.case.goods.0.iter().map(line).collect();
        self.progress.shipment = Shipment::Asked;
        self.ask_shipment(shipping::Request { country: self.case.country.clone(), lines });
    }

    fn ask_order(&mut self, command: impl Into<ordering::Command>) {
        self.commands.push(Command::Order(self.order, command.into()));
    }

    fn ask_stock(&mut self, sku: &Sku, command: impl Into<inventory::Command>) {
        self.commands.push(Command::Stock(sku.clone(), command.into()));
    }

    fn ask_payment(&mut self, command: impl Into<payments::Command>) {
        self.commands.push(Command::Payment(PaymentId::of(self.order), command.into()));
    }

    fn ask_shipment(&mut self, command: impl Into<shipping::Command>) {
        self.commands.push(Command::Shipment(ShipmentId::of(self.order), command.into()));
    }
}

/// What is to be charged, or why that cannot be said.
fn charge(sale: &SaleMade) -> Result<Option<Charge>, Line> {
    match (Price::try_from(sale.total_minor), &sale.card) {
        (Ok(Price::ZERO), _) => Ok(None),
        (Ok(minor), Some(card)) => {
            Ok(Some(Charge { amount: Money { minor, currency: sale.currency }, card: card.clone() }))
        }
        (Ok(_), None) => Err(Line::clipped("there is no card to charge")),
        (Err(negative), _) => Err(Line::clipped(negative)),
    }
}

/// The goods with the lines of the same SKU added up, or why they cannot be.
fn goods(sale: &SaleMade) -> Result<Goods, Line> {
    let mut units = BTreeMap::<&Sku, i64>::new();
    for line in &sale.lines {
        let sum = units.entry(&line.sku).or_default();
        *sum = sum.saturating_add(line.quantity.units());
    }
    if units.is_empty() {
        return Err(Line::clipped("nothing was ordered"));
    }
    let good = |(sku, units): (&Sku, i64)| match Quantity::try_from(units) {
        Ok(quantity) => Ok((sku.clone(), Good { quantity, reservation: Reservation::Asked })),
        Err(invalid) => Err(Line::clipped(format_args!("{sku}: {invalid}"))),
    };
    units.into_iter().map(good).collect::<Result<_, _>>().map(Goods)
}
