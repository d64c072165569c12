alter table stock_movements add constraint stock_movements_pkey primary key (sku, movement_no);
alter table stock_levels add constraint stock_levels_pkey primary key (sku);
create index stock_movements_order on stock_movements (order_id) where order_id is not null;
