-- Runs with search_path at the schema of one generation.
create table dispatch_times (
    day            date   not null,
    country        text   not null,
    orders         bigint not null,
    waited_seconds bigint not null
);
comment on table dispatch_times is 'How long orders waited until their goods left the house: a row a day and country.';
comment on column dispatch_times.day is 'The day on which the orders were placed with this shop, UTC.';
comment on column dispatch_times.country is 'The country to which they go, as the orders name it.';
comment on column dispatch_times.orders is 'How many orders of that day have left so far.';
comment on column dispatch_times.waited_seconds is 'How many seconds they have waited together.';

create table dispatch_times_waiting (
    order_id uuid        not null,
    country  text        not null,
    since    timestamptz not null
);
comment on table dispatch_times_waiting is 'The orders whose goods have not left the house yet: a row an order.';
comment on column dispatch_times_waiting.order_id is 'The order''s id.';
comment on column dispatch_times_waiting.country is 'The country to which it goes, as the order names it.';
comment on column dispatch_times_waiting.since is 'When it was placed with this shop, UTC.';
