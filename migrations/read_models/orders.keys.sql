-- After the load: a key that is added to full tables costs half of one that is kept while they fill.
alter table orders add constraint orders_pkey primary key (order_id);
alter table order_lines add constraint order_lines_pkey primary key (order_id, line_no);
create index orders_placed_at on orders (placed_at, order_id);
create index orders_total on orders (total_minor, order_id);
create index orders_customer on orders (customer_id, placed_at, order_id) where customer_id is not null;
create index orders_status on orders (status, placed_at, order_id);
create index orders_reference on orders (reference) where reference is not null;
alter table order_timeline add constraint order_timeline_pkey primary key (order_id, entry_no);
