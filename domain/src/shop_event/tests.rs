//! The events of the shop as they are read from the log.

use std::fs;

use chrono::DateTime;

use super::*;
use crate::fixtures::{card, customer, money, order, payment, price, quantity, shipment, sku, text};
use crate::schemas::CONTEXTS;

/// One event of each context, and the stream in which it stands.
fn one_of_each() -> Vec<(ShopEvent, String)> {
    let id = "00000000-0000-0000-0000-000000000007";
    let listed = catalog::Listed { name: text("Lantern"), price: money(255, "GBP") };
    let received = inventory::Received { quantity: quantity(10) };
    let placed = ordering::Placed(ordering::SaleMade {
        reference: None,
        customer: Some(customer(7)),
        country: text("France"),
        currency: money(0, "GBP").currency,
        placed_at: DateTime::UNIX_EPOCH,
        lines: vec![ordering::OrderLine { sku: sku("85123A"), quantity: quantity(2), unit_price: price(255) }],
        total_minor: 510,
        card: Some(card("tok_visa")),
    });
    let registered = customers::Registered { reference: None, contact: customers::Contact::default() };
    let requested = payments::Requested { amount: money(510, "GBP"), card: card("tok_visa") };
    let lost = shipping::Lost { reason: text("The van burned down") };
    let timed_out = supervision::TimedOut { timeout: supervision::Timeout::Payment };
    vec![
        (ShopEvent::Catalog(sku("WHITE-LANTERN"), listed.into()), "product-WHITE-LANTERN".to_owned()),
        (ShopEvent::Inventory(sku("WHITE-LANTERN"), received.into()), "stock-WHITE-LANTERN".to_owned()),
        (ShopEvent::Ordering(order(7), placed.into()), format!("order-{id}")),
        (ShopEvent::Customers(customer(7), registered.into()), format!("customer-{id}")),
        (ShopEvent::Payments(payment(7), requested.into()), format!("payment-{id}")),
        (ShopEvent::Shipping(shipment(7), lost.into()), format!("shipment-{id}")),
        (ShopEvent::Supervision(order(7), timed_out.into()), format!("checkout-{id}")),
    ]
}

/// The type, the schema number and the data under which an event is stored.
fn stored(event: &ShopEvent) -> (&'static str, u32, Vec<u8>) {
    let encoded = match event {
        ShopEvent::Catalog(_, event) => event.encode(),
        ShopEvent::Inventory(_, event) => event.encode(),
        ShopEvent::Ordering(_, event) => event.encode(),
        ShopEvent::Customers(_, event) => event.encode(),
        ShopEvent::Payments(_, event) => event.encode(),
        ShopEvent::Shipping(_, event) => event.encode(),
        ShopEvent::Supervision(_, event) => event.encode(),
    };
    let encoded = encoded.unwrap();
    (encoded.event_type, encoded.schema, encoded.data)
}

#[test]
fn an_event_of_each_context_comes_back_from_its_stream() {
    let events = one_of_each();
    assert_eq!(events.len(), CONTEXTS.len(), "an event of each context");
    for (event, stream) in events {
        assert_eq!(event.stream(), stream);
        // An id may have a `-` in it; a category has none.
        let (category, id) = stream.split_once('-').unwrap();
        let (event_type, schema, data) = stored(&event);
        assert_eq!(ShopEvent::decode(category, id, event_type, schema, &data).unwrap(), event);
    }
}

/// The golden files are one for each event type and schema of all contexts.
#[test]
fn every_event_of_every_context_is_one_of_the_shop() {
    // This is an id of every kind there is: a UUID, and as such a SKU.
    let id = "0190f3c4-7a51-7bd4-9f2e-6d1c8a40b5e2";
    for context in CONTEXTS {
        for known in context.schemas {
            for schema in 1..=known.schema {
                let (name, event_type) = (context.name, known.event_type);
                let root = env!("CARGO_MANIFEST_DIR");
                let golden = fs::read(format!("{root}/src/{name}/golden/{event_type}.v{schema}.json")).unwrap();
                let event = ShopEvent::decode(context.category, id, event_type, schema, &golden).unwrap();
                assert_eq!(event.stream(), format!("{}-{id}", context.category));
                assert_eq!(stored(&event).0, event_type);
            }
        }
    }
}

#[test]
fn a_category_that_no_context_has_is_named() {
    for unknown in ["invoice", "Order", "order-", ""] {
        let error = ShopEvent::decode(unknown, "7", "OrderConfirmed", 1, b"{}").unwrap_err();
        assert!(matches!(&error, NotOfTheShop::Category { category } if category == unknown), "{error:?}");
        assert_eq!(error.to_string(), format!("no context has streams of the category {unknown:?}"));
    }
}

#[test]
fn an_id_is_one_of_its_category() {
    let refused = |category, id: &str, expected: InvalidId| {
        let error = ShopEvent::decode(category, id, "OrderConfirmed", 1, b"{}").unwrap_err();
        assert!(matches!(&error, NotOfTheShop::Id(invalid) if *invalid == expected), "{error:?}");
    };
    for category in ["order", "customer", "payment", "shipment", "checkout"] {
        refused(category, "85123A", InvalidId::NotAUuid { text: "85123A".to_owned() });
        // Another spelling would be another stream.
        let upper = "0190F3C4-7A51-7BD4-9F2E-6D1C8A40B5E2";
        refused(category, upper, InvalidId::NotAUuid { text: upper.to_owned() });
    }
    for category in ["product", "stock"] {
        refused(category, "", InvalidId::NotASku { text: String::new() });
        refused(category, "a/b", InvalidId::NotASku { text: "a/b".to_owned() });
    }
}

#[test]
fn the_data_is_what_its_type_and_schema_say() {
    let id = "0190f3c4-7a51-7bd4-9f2e-6d1c8a40b5e2";
    let refused = |event_type: &str, schema, data: &[u8]| match ShopEvent::decode("order", id, event_type, schema, data)
        .unwrap_err()
    {
        NotOfTheShop::Data(error) => error,
        other => panic!("{other:?}"),
    };
    // The type is one of another context, the schema one of a newer release, the data another event's.
    assert!(matches!(refused("PaymentVoided", 1, b"{}"), CodecError::UnknownType { .. }));
    assert!(matches!(refused("OrderConfirmed", 2, b"{}"), CodecError::UnknownSchema { schema: 2, newest: 1, .. }));
    assert!(matches!(refused("OrderRejected", 1, b"{}"), CodecError::Decode { .. }));
    assert!(matches!(refused("OrderRejected", 1, b"no JSON"), CodecError::Decode { .. }));
}
