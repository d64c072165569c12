alter table ledger_entries add constraint ledger_entries_pkey primary key (payment_id, entry_no);
alter table payments add constraint payments_pkey primary key (payment_id);
alter table payment_refunds add constraint payment_refunds_pkey primary key (payment_id, refund_no);
create index ledger_entries_at on ledger_entries (at, payment_id, entry_no);
create index ledger_entries_account on ledger_entries (account, at, payment_id, entry_no);
create index payments_requested_at on payments (requested_at, payment_id);
create index payments_status on payments (status, requested_at, payment_id);
