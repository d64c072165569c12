//! An event as a row.

use event_store::{Metadata, Position, RecordedEvent};

use super::cell::{Cell, Column, Kind};

/// The columns of exported events. What is taken from the metadata is null where these are not the shop's.
const COLUMNS: [(&str, Kind); 16] = [
    ("position_commit", Kind::Int64),
    ("position_prepare", Kind::Int64),
    ("stream", Kind::Text),
    ("category", Kind::Text),
    ("revision", Kind::Int64),
    ("id", Kind::Uuid),
    ("type", Kind::Text),
    ("schema", Kind::Int32),
    ("occurred_at", Kind::Time),
    ("recorded_at", Kind::Time),
    ("correlation_id", Kind::Uuid),
    ("causation_id", Kind::Uuid),
    ("command_id", Kind::Uuid),
    ("actor", Kind::Text),
    ("data", Kind::Text),
    ("metadata", Kind::Text),
];

/// The columns of exported events.
pub(super) fn columns() -> Vec<Column> {
    COLUMNS.map(|(name, kind)| Column { name: name.to_owned(), kind }).into()
}

/// The cells of an event, in the order of the columns.
pub(super) fn cells(event: &RecordedEvent) -> Vec<Cell> {
    let RecordedEvent { stream, revision, position: Position { commit, prepare }, .. } = event;
    // Logs count in signed numbers of 64 bits; what is past them would be no number of a log.
    let number = |number: u64| Cell::from(i64::try_from(number).ok());
    let text = |bytes: &[u8]| Cell::from(String::from_utf8_lossy(bytes).into_owned());
    let metadata = Metadata::from_bytes(&event.metadata).ok();
    let metadata = metadata.as_ref();
    vec![
        number(*commit),
        number(*prepare),
        stream.as_str().to_owned().into(),
        stream.category().to_owned().into(),
        number(*revision),
        event.id.into(),
        event.event_type.as_str().to_owned().into(),
        metadata.and_then(|metadata| i32::try_from(metadata.schema).ok()).into(),
        metadata.map(|metadata| metadata.occurred_at).into(),
        event.recorded_at.into(),
        metadata.map(|metadata| metadata.correlation_id).into(),
        metadata.map(|metadata| metadata.causation_id).into(),
        metadata.map(|metadata| metadata.command_id).into(),
        metadata.and_then(|metadata| metadata.actor.clone()).into(),
        text(&event.data),
        text(&event.metadata),
    ]
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use chrono::DateTime;
    use event_store::{EventType, StreamName};
    use uuid::Uuid;

    use super::super::cell::Row;
    use super::*;

    fn row(metadata: &str) -> serde_json::Value {
        let event = RecordedEvent {
            stream: StreamName::new("stock-A-1").unwrap(),
            revision: 3,
            position: Position { commit: 9, prepare: 7 },
            id: Uuid::from_u128(1),
            event_type: EventType::new("StockReceived").unwrap(),
            data: Bytes::from_static(b"{\"quantity\":5}"),
            metadata: Bytes::from(metadata.to_owned()),
            recorded_at: DateTime::from_timestamp(1_296_432_000, 0).unwrap(),
        };
        serde_json::to_value(Row(&columns(), &cells(&event))).unwrap()
    }

    #[test]
    fn an_event_is_a_row_with_what_is_known_of_it() {
        let id = |number: u128| Uuid::from_u128(number).to_string();
        let metadata = serde_json::json!({
            "$correlationId": id(2), "$causationId": id(3), "commandId": id(4), "schema": 2, "commandHash": "x",
            "actor": "import", "occurredAt": "2011-01-30T00:00:00Z",
        });
        let metadata = metadata.to_string();
        let expected = serde_json::json!({
            "position_commit": 9, "position_prepare": 7, "stream": "stock-A-1", "category": "stock", "revision": 3,
            "id": id(1), "type": "StockReceived", "schema": 2, "occurred_at": "2011-01-30T00:00:00Z",
            "recorded_at": "2011-01-31T00:00:00Z", "correlation_id": id(2), "causation_id": id(3), "command_id": id(4),
            "actor": "import", "data": "{\"quantity\":5}", "metadata": metadata,
        });
        assert_eq!(row(&metadata), expected);
    }

    #[test]
    fn an_event_of_another_program_has_what_the_log_knows() {
        let row = row("not json");
        for (name, _) in COLUMNS {
            let is_unknown =
                ["schema", "occurred_at", "correlation_id", "causation_id", "command_id", "actor"].contains(&name);
            assert_eq!(row[name].is_null(), is_unknown, "{name}");
        }
    }
}
