alter table dispatch_times add constraint dispatch_times_pkey primary key (day, country);
alter table dispatch_times_waiting add constraint dispatch_times_waiting_pkey primary key (order_id);
create index dispatch_times_waiting_since on dispatch_times_waiting (since, order_id);
