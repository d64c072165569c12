alter table checkouts add constraint checkouts_pkey primary key (order_id);
create index checkouts_started_at on checkouts (started_at, order_id);
create index checkouts_changed_at on checkouts (changed_at, order_id);
create index checkouts_state on checkouts (state, started_at, order_id);
