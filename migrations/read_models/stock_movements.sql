-- Runs with search_path at the schema of one generation.
create table stock_movements (
    sku            text        collate "C" not null,
    movement_no    int         not null,
    at             timestamptz not null,
    what           text        not null,
    quantity       bigint      not null,
    on_hand        bigint      not null,
    available      bigint      not null,
    order_id       uuid,
    reason         text,
    actor          text,
    correlation_id uuid,
    causation_id   uuid
);
comment on table stock_movements is
    'What moved the stock of a SKU, and what it could not give: a row a movement, in the order of the log. Rows are never '
    'changed.';
comment on column stock_movements.sku is 'The SKU.';
comment on column stock_movements.movement_no is 'From 1 within the SKU, in the order of the log.';
comment on column stock_movements.at is 'When the event was decided, UTC.';
comment on column stock_movements.what is
    'received: units came in; adjusted: a count put the books right; reserved: units were set aside for an order; '
    'declined: an order asked for more than was available, and got nothing; released: a reservation was given up; '
    'shipped: reserved units left the house';
comment on column stock_movements.quantity is
    'How many units it is about. Of an adjusted stock: how many more there are than the books said, negative if fewer.';
comment on column stock_movements.on_hand is 'Units in the house afterwards, reserved ones included.';
comment on column stock_movements.available is 'Units that could still be reserved afterwards.';
comment on column stock_movements.order_id is 'The order that it was for. Null: it was for none.';
comment on column stock_movements.reason is 'Why the books were off. Null: it is no adjustment.';
comment on column stock_movements.actor is
    'Who did it: whom the token of the request names, or what the shop did by itself, such as process checkout. Null: '
    'nobody said.';
comment on column stock_movements.correlation_id is
    'What the event has in common with everything that the same request set in motion. Null: its metadata do not say.';
comment on column stock_movements.causation_id is
    'The id of the command or event that led to it. Null: its metadata do not say.';

create table stock_levels (
    sku       text   collate "C" not null,
    movements int    not null,
    on_hand   bigint not null,
    reserved  bigint not null
);
comment on table stock_levels is
    'How each stock stands after its last movement, which is what the fold of stock_movements has to remember: a row a SKU.';
comment on column stock_levels.sku is 'The SKU.';
comment on column stock_levels.movements is 'How many movements it has in stock_movements.';
comment on column stock_levels.on_hand is 'Units in the house, reserved ones included.';
comment on column stock_levels.reserved is 'Units in the house that orders hold.';
