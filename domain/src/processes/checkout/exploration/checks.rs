//! What holds in a world: at every moment, and at rest.

use super::lab::Aggregate;
use super::world::{Concerning, Explored, Node, What, Wrong};
use crate::ids::OrderId;
use crate::inventory::StockState;
use crate::ordering::{self, Status};
use crate::payments::{self, Status as PaymentStatus};
use crate::processes::checkout::{Command, stuck};
use crate::shipping::Status as ShipmentStatus;

impl Explored {
    /// What holds at every moment.
    pub(super) fn check(&self, node: &Node) -> Result<(), Wrong> {
        for (index, account) in node.gateway.iter().enumerate() {
            let of = self.concerning(node, index);
            let (order, shipment) = (of.order(), of.shipment());
            let total = order.total.minor.minor();
            ensure(account.captured <= total, "more is taken than the order costs")?;
            ensure(account.refunded <= account.captured, "more is given back than was taken")?;
            ensure(
                account.captured == 0 || has_left(&of) || self.world.by_hand(is_capture),
                "money is taken for goods that are in the house",
            )?;
            let is_paid = total == 0 || of.payment().is_some_and(|payment| payment.authorised);
            ensure(shipment.is_none() || is_paid, "goods are sent that nobody pays for")?;
            let is_confirmed = !matches!(order.status, Status::Placed | Status::Rejected);
            ensure(shipment.is_none() || is_confirmed, "goods are sent for an order that is not confirmed")?;
            ensure(
                order.status != Status::Completed || self.is_settled(node, index) || self.world.by_hand(is_complete),
                "an order is completed, and not settled",
            )?;
        }
        let is_short = |(sku, _): &(&str, i64)| self.stock_of(node, sku).available < 0;
        ensure(!self.world.stock.iter().any(is_short), "more is set aside than there is")
    }

    /// What holds when nothing more is due.
    pub(super) fn check_rest(&self, node: &Node) -> Result<(), Wrong> {
        for (index, run) in node.checkouts.iter().enumerate() {
            let mind = self.lab.mind(run.mind);
            if mind.is_some() {
                ensure(stuck(&mind).is_some(), "a checkout stands still")?;
                continue;
            }
            let status = self.concerning(node, index).order().status;
            let has_ended = matches!(status, Status::Completed | Status::Rejected | Status::Cancelled);
            ensure(has_ended, "a checkout is over, and its order has not ended")?;
            ensure(self.is_settled(node, index), "a checkout is over, and somebody owes somebody something")?;
        }
        for (sku, units) in &self.world.stock {
            let stock = self.stock_of(node, sku);
            ensure(stock.reservations.is_empty(), "goods stay set aside")?;
            let shipped: i64 = (0..node.checkouts.len()).map(|index| self.shipped(node, index, sku)).sum();
            ensure(stock.on_hand == units - shipped, "the books of the stock are wrong")?;
        }
        Ok(())
    }

    /// Whether the money is where it belongs: with the shop if the order is completed, else with the customer; and whether
    /// the payment says of it what the gateway says.
    fn is_settled(&self, node: &Node, index: usize) -> bool {
        let (account, of) = (&node.gateway[index], self.concerning(node, index));
        let is_held = account.authorised == Some(true) && account.captured == 0 && !account.voided;
        let agrees = of.payment().is_none_or(|payment| {
            let answers_all_came = payment.refunds.is_empty();
            !answers_all_came
                || (payment.captured_minor, payment.refunded_minor) == (account.captured, account.refunded)
        });
        let is_fair = match of.order().status {
            Status::Completed => {
                let has_arrived = of.shipment().is_some_and(|shipment| shipment.status == ShipmentStatus::Delivered);
                let is_paid = account.captured == of.order().total.minor.minor();
                let is_waived = of.payment().is_some_and(|payment| payment.status == PaymentStatus::Voided);
                let is_so_by_hand = self.world.by_hand(is_complete);
                is_so_by_hand || has_arrived && (is_paid || is_waived && self.world.by_hand(is_void))
            }
            // Also where the shop calls off what has left the house.
            _ => account.captured == account.refunded,
        };
        agrees && !is_held && is_fair
    }

    pub(super) fn is_over(&self, node: &Node) -> bool {
        node.checkouts.iter().all(|run| self.lab.mind(run.mind).is_none())
    }

    /// How the orders end.
    pub(super) fn end(&self, node: &Node) -> String {
        let status = |index| self.concerning(node, index).order().status.to_string();
        (0..node.checkouts.len()).map(status).collect::<Vec<_>>().join(", ")
    }

    /// A move, for a reader.
    pub(super) fn say(&self, what: &What) -> String {
        match what {
            What::Execute(index, nth, ask) => {
                format!("checkout {index} executes command {nth}: {:?}", self.lab.ask(*ask))
            }
            What::Save(index) => format!("checkout {index} is saved"),
            What::Crash(index) => format!("checkout {index} crashes"),
            What::Decide(ask) => format!("the gateway decides: {:?}", self.lab.ask(*ask)),
            What::Answer(ask) => format!("its answer comes: {:?}", self.lab.ask(*ask)),
            What::Ask(ask) => format!("somebody asks: {:?}", self.lab.ask(*ask)),
        }
    }

    /// A moment, for a reader.
    pub(super) fn show(&self, node: &Node) -> String {
        let mut lines = Vec::new();
        for (index, (run, account)) in node.checkouts.iter().zip(&node.gateway).enumerate() {
            let of = self.concerning(node, index);
            let (status, payment, shipment) = (of.order().status, of.payment(), of.shipment());
            lines.push(format!("order {index} is {status}, payment {payment:?}, shipment {shipment:?}"));
            lines.push(format!("checkout {:?}", self.lab.mind(run.mind)));
            for (event, granted) in run.log.iter().skip(run.seen) {
                lines.push(format!("  has yet to see {:?} (granted: {granted:b})", self.lab.event(*event)));
            }
            lines.push(format!("gateway {account:?}: {:?}", self.lab.calls(account.calls)));
        }
        for (sku, _) in &self.world.stock {
            lines.push(format!("stock of {sku}: {:?}", self.stock_of(node, sku)));
        }
        lines.join("\n")
    }

    fn stock_of(&self, node: &Node, sku: &str) -> StockState {
        match &*self.stock(node, sku) {
            Aggregate::Stock(stock) => stock.clone(),
            other => panic!("no stock: {other:?}"),
        }
    }

    /// How many units of a SKU have left the house for an order.
    fn shipped(&self, node: &Node, index: usize, sku: &str) -> i64 {
        let (_, lines): &(OrderId, Vec<_>) = &self.world.orders[index];
        let units = lines.iter().filter(|(name, ..)| *name == sku).map(|(_, units, _)| units).sum();
        if has_left(&self.concerning(node, index)) { units } else { 0 }
    }
}

fn has_left(of: &Concerning) -> bool {
    let status = of.shipment().map(|shipment| shipment.status);
    matches!(status, Some(ShipmentStatus::Dispatched | ShipmentStatus::Delivered | ShipmentStatus::Lost))
}

fn is_capture(command: &Command) -> bool {
    matches!(command, Command::Payment(_, payments::Command::Capture(_)))
}

fn is_void(command: &Command) -> bool {
    matches!(command, Command::Payment(_, payments::Command::Void(_)))
}

fn is_complete(command: &Command) -> bool {
    matches!(command, Command::Order(_, ordering::Command::Complete(_)))
}

fn ensure(holds: bool, otherwise: &str) -> Result<(), Wrong> {
    if holds { Ok(()) } else { Err(otherwise.to_owned()) }
}
