-- Which log the read models and the processes of this database follow, told by its first event: positions are places in
-- one log and mean nothing in another.
create table control.followed_log (
    one              bool   not null default true check (one),
    event_id         uuid   not null,
    commit_position  bigint not null,
    prepare_position bigint not null,
    constraint followed_log_pkey primary key (one)
);
