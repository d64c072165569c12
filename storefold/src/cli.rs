//! The command line. Its doc comments are its help.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Args, Parser, Subcommand, ValueEnum};

use domain::ids::OrderId;
use uuid::Uuid;

use crate::config::{LogFormat, Role, Tokens};
use crate::export::Bound;

/// An order-to-cash backend whose only truth is an append-only event log.
#[derive(Debug, Parser)]
#[command(name = "storefold", version, max_term_width = 100, subcommand_required = true, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) settings: SettingFlags,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Settings that every command takes. What is not given comes from the environment, the file, or the defaults.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Settings")]
pub(crate) struct SettingFlags {
    /// Read settings from this file [default: storefold.toml, if there is one].
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Keep local state here: the private Postgres, generated keys [default: .storefold].
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Use this Postgres instead of a private one. Other users can see flags: prefer DATABASE_URL.
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) database_url: Option<String>,
    /// Keep the log here instead of in the database: postgres://…, esdb://… or memory:. Prefer EVENT_STORE_URL.
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) event_store_url: Option<String>,
    /// How log lines look [default: text on a terminal, else json].
    #[arg(long, global = true, value_name = "FORMAT")]
    pub(crate) log_format: Option<LogFormat>,
    /// What is logged: a level, or directives such as `info,sqlx=warn` [default: info].
    #[arg(long = "log", global = true, value_name = "FILTER")]
    pub(crate) log_filter: Option<String>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve commands and queries, project the log, and see orders through.
    Serve(ServeFlags),
    /// Bring the database's schemas up to date, and stop.
    Migrate,
    /// Import a trading history: products, stock, customers and orders.
    Import(Import),
    /// Build read models anew from the log, with the shop open.
    Rebuild(Rebuild),
    /// Hold read models against a second, plain fold of the log, and print what differs. Exit code 4 says that something does.
    Verify(Verify),
    /// Fold the rows of one key anew and write them over what is there.
    Repair(Repair),
    /// Show how far the read models and the processes are.
    Status {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Show what somebody has to look at: checkouts that cannot go on, payments that the gateway does not take, events that
    /// cannot be folded into a read model; and why.
    Parked {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Let checkouts that could not go on try again.
    Retry(Retry),
    /// Try again to fold events that are parked in read models, in order.
    Redrive(Redrive),
    /// Leave an event out of a read model that cannot be folded into it, and fold what waited behind it.
    Skip(Skip),
    /// Print the events of a stream.
    Stream(Stream),
    /// Export events or the rows of a read model to files that other programs read, with the shop open.
    Export(Export),
    /// Copy every event of one log into another, in order, and verify the copy. Interrupted, it goes on when it is run again.
    CopyLog(CopyLog),
    /// Hold a log against what storefold expects of one, a line a check.
    CheckStore(CheckStore),
    /// Make a token, signed with the configured key or the one in the data directory, and print it alone.
    Token(Token),
    /// Print the effective configuration, secrets masked, with where each value comes from.
    Config,
    /// Print a schema that clients build on.
    Schema {
        /// Which one.
        #[arg(value_name = "SCHEMA", default_value = "sdl")]
        schema: Schema,
        /// Instead of printing it, hold the GraphQL schema or the OpenAPI document against an older one, and name what has
        /// changed since that breaks clients. Exit code 4 says that something does.
        #[arg(long, value_name = "OLD")]
        check: Option<PathBuf>,
    },
    /// Bring in the data of a small made-up shop. Doing so again changes nothing.
    Demo,
    /// Run the private Postgres until SIGTERM or Ctrl-C. Its URL is the first line on stdout.
    Postgres {
        /// Run an empty one for tests instead: fast, not durable, and deleted at the end.
        #[arg(long)]
        throw_away: bool,
    },
}

/// Settings of `serve` alone.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct ServeFlags {
    /// What this process does [default: write,process,project,read].
    #[arg(long, value_delimiter = ',', value_name = "ROLES")]
    pub(crate) roles: Option<Vec<Role>>,
    /// Where to listen [default: 127.0.0.1:8080].
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) listen: Option<SocketAddr>,
    /// Whether callers need tokens: `none` lets everybody on this machine do everything [default: required].
    #[arg(long, value_name = "TOKENS")]
    pub(crate) tokens: Option<Tokens>,
    /// Whether GraphQL shows its schema [default: where only this machine is served].
    #[arg(long, value_name = "true|false")]
    pub(crate) introspection: Option<bool>,
    /// Answer the GraphQL documents of this file and no others.
    #[arg(long, value_name = "FILE")]
    pub(crate) trusted_only: Option<PathBuf>,
    /// Bring in the data of a small made-up shop, to have something to look at, with a made-up warehouse.
    #[arg(long)]
    pub(crate) demo: bool,
    /// Let a made-up warehouse send whatever is ordered.
    #[arg(long)]
    pub(crate) fulfil: bool,
    /// Deal with the configured payment gateway from now on, though the shop has dealt with another. What is held or was
    /// taken there is unknown to this one.
    #[arg(long)]
    pub(crate) move_gateway: bool,
}

/// How to import.
#[derive(Debug, Args)]
pub(crate) struct Import {
    /// The file to read, one JSON object a line; `-` is standard input.
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Stop at the first line that is not understood or is refused, instead of skipping it.
    #[arg(long)]
    pub(crate) strict: bool,
    /// The name of where the lines come from. Command ids follow from it and the line: the same lines of the same source
    /// are recognised when they are imported again.
    #[arg(long, value_name = "NAME", default_value = "history")]
    pub(crate) source: String,
    /// How many lines may be under way at once.
    #[arg(long, value_name = "N", default_value = "256", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) in_flight: u16,
    /// Place the orders instead of recording them, at the prices and times of their lines: each is reserved, paid, shipped
    /// and completed, or undone. Waits until none has anything left to do.
    #[arg(long)]
    pub(crate) live: bool,
    /// The token of the card that placed orders are charged to [default: tok_approved; none where a gateway is configured,
    /// which charges for real].
    #[arg(long, requires = "live", value_name = "TOKEN")]
    pub(crate) card: Option<String>,
    /// Let a made-up warehouse send what is ordered.
    #[arg(long, requires = "live")]
    pub(crate) fulfil: bool,
    /// Import into the shop that is served at this address, by its command API, instead of into the configured log.
    #[arg(long, value_name = "URL", conflicts_with = "fulfil")]
    pub(crate) url: Option<String>,
    /// With --url: a file that holds a token for that shop [default: to a shop on this machine, a token that is signed with the
    /// key at hand, as by storefold token].
    #[arg(long, requires = "url", value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// Show no progress bar.
    #[arg(long)]
    pub(crate) no_progress: bool,
    /// Print the summary as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// What to rebuild.
#[derive(Debug, Args)]
#[group(skip)]
#[command(group(ArgGroup::new("what").required(true)))]
pub(crate) struct Rebuild {
    /// The read model to rebuild.
    #[arg(value_name = "NAME", group = "what")]
    pub(crate) name: Option<String>,
    /// Rebuild every read model.
    #[arg(long, group = "what")]
    pub(crate) all: bool,
    /// Go back to what was live before, brought up to date, instead of building anew.
    #[arg(long, conflicts_with_all = ["until", "keep_shadow"])]
    pub(crate) rollback: bool,
    /// Fold only up to this position or time (RFC 3339), into a copy: needs --keep-shadow.
    #[arg(long, value_name = "POSITION|TIME", requires = "keep_shadow", conflicts_with = "all")]
    pub(crate) until: Option<String>,
    /// Leave what was folded in a schema of this name, which nothing follows; readers go on with what they have.
    #[arg(long, value_name = "SCHEMA", requires = "until")]
    pub(crate) keep_shadow: Option<String>,
    /// How much memory the rows may take, about, in MiB; more of them are kept in the directory for temporary files.
    #[arg(long, value_name = "MIB", default_value_t = MEMORY)]
    pub(crate) memory: usize,
    /// Print progress and result as JSON, an object a line.
    #[arg(long)]
    pub(crate) json: bool,
}

/// The memory of a rebuild or a verification, in MiB.
const MEMORY: usize = projections::runtime::Context::MEMORY >> 20;

/// What to hold against the log.
#[derive(Debug, Args)]
#[group(skip)]
#[command(group(ArgGroup::new("verified").required(true)))]
pub(crate) struct Verify {
    /// The read model to verify.
    #[arg(value_name = "NAME", group = "verified")]
    pub(crate) name: Option<String>,
    /// Verify every read model.
    #[arg(long, group = "verified")]
    pub(crate) all: bool,
    /// Verify so many keys, chosen at random, instead of every row. Where a row follows from many keys, every row is.
    #[arg(long, value_name = "N", conflicts_with = "full")]
    pub(crate) sample: Option<u32>,
    /// Verify every row, as without --sample.
    #[arg(long)]
    pub(crate) full: bool,
    /// How much memory the rows may take, about, in MiB; more of them are kept in the directory for temporary files.
    #[arg(long, value_name = "MIB", default_value_t = MEMORY)]
    pub(crate) memory: usize,
    /// Print JSON, an object a read model.
    #[arg(long)]
    pub(crate) json: bool,
}

/// What to mend.
#[derive(Debug, Args)]
pub(crate) struct Repair {
    /// The read model.
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    /// The key: the id of an order or a payment, a SKU.
    #[arg(value_name = "KEY")]
    pub(crate) key: String,
}

/// What to let try again.
#[derive(Debug, Args)]
#[group(id = "which", required = true, multiple = false)]
pub(crate) struct Retry {
    /// The ids of the orders whose checkouts are to try again.
    #[arg(value_name = "ORDER", group = "which", num_args = 1..)]
    pub(crate) orders: Vec<OrderId>,
    /// Every checkout that cannot go on.
    #[arg(long, group = "which")]
    pub(crate) all: bool,
}

/// Which parked events to fold.
#[derive(Debug, Args)]
#[group(skip)]
#[command(group(ArgGroup::new("parked").required(true).multiple(true)))]
pub(crate) struct Redrive {
    /// Only those of this read model.
    #[arg(value_name = "NAME", group = "parked")]
    pub(crate) name: Option<String>,
    /// Only those of this key, as `storefold parked` shows it.
    #[arg(long, value_name = "KEY", group = "parked", conflicts_with = "all")]
    pub(crate) key: Option<String>,
    /// Every key that is parked; it is no error when there is none.
    #[arg(long, group = "parked")]
    pub(crate) all: bool,
}

/// Which event to leave out, and why.
#[derive(Debug, Args)]
pub(crate) struct Skip {
    /// The read model.
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    /// The event's id, as `storefold parked` shows it.
    #[arg(value_name = "EVENT")]
    pub(crate) event: Uuid,
    /// Why. It is put on record, and holds for rebuilds too.
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: String,
}

/// What a token is to say.
#[derive(Debug, Args)]
#[group(skip)]
#[command(group(ArgGroup::new("allows").required(true).multiple(true)))]
pub(crate) struct Token {
    /// Who is to have it: the claim `sub`, and the actor of what is done with it.
    #[arg(long, value_name = "NAME", default_value = "developer")]
    pub(crate) sub: String,
    /// A scope that it has, such as `orders:read`, or `all`; with commas between several.
    #[arg(long = "scope", value_name = "SCOPES", value_delimiter = ',', group = "allows")]
    pub(crate) scopes: Vec<WantedScope>,
    /// Give it the scopes of this role. One for a customer needs --customer.
    #[arg(long, value_name = "ROLE", group = "allows")]
    pub(crate) role: Option<TokenRole>,
    /// The customer who is to have it: it then holds for what is that customer's own.
    #[arg(long, value_name = "UUID", required_if_eq("role", "customer"))]
    pub(crate) customer: Option<Uuid>,
    /// How long it holds: a number and s, m, h or d.
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = lifetime)]
    pub(crate) expires: Duration,
}

/// A scope, or all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WantedScope(pub(crate) access::Scopes);

impl std::str::FromStr for WantedScope {
    type Err = <access::Scope as std::str::FromStr>::Err;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let one = |scope| access::Scopes::NONE.with(scope);
        if name == "all" { Ok(Self(access::Scopes::ALL)) } else { name.parse().map(one).map(Self) }
    }
}

/// Scopes that go together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum TokenRole {
    /// What a customer may do with what is its own.
    Customer,
    /// What somebody may do who works in the shop.
    Staff,
    /// Everything.
    Operator,
}

/// The longest time that a token may hold, in days.
const LONGEST_LIFETIME: u64 = 3_650;

/// A time such as 90s, 15m, 1h or 7d.
fn lifetime(text: &str) -> Result<Duration, String> {
    let seconds = |text: &str| {
        let unit = text.chars().next_back()?;
        let second = match unit {
            's' => 1,
            'm' => 60,
            'h' => 60 * 60,
            'd' => 24 * 60 * 60,
            _ => return None,
        };
        text.strip_suffix(unit)?.parse::<u64>().ok()?.checked_mul(second)
    };
    let longest = LONGEST_LIFETIME * 24 * 60 * 60;
    let seconds = seconds(text).filter(|seconds| (1..=longest).contains(seconds));
    seconds
        .map(Duration::from_secs)
        .ok_or_else(|| format!("a time is a number and s, m, h or d, {LONGEST_LIFETIME}d at most: 15m, 1h, 7d"))
}

/// What to print of a stream.
#[derive(Debug, Args)]
pub(crate) struct Stream {
    /// The stream, for example `stock-85123A`.
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    /// The first revision to print [default: the first there is, or the last with --backwards].
    #[arg(long, value_name = "REVISION")]
    pub(crate) from: Option<u64>,
    /// Print at most this many events.
    #[arg(long, value_name = "N", default_value = "100", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) limit: u64,
    /// Print the newest first.
    #[arg(long)]
    pub(crate) backwards: bool,
    /// Print an event a line, as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// What to export, and where to.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("what").args(["events", "read_model"]).required(true)))]
pub(crate) struct Export {
    /// Export events, in the order of the log.
    #[arg(long)]
    pub(crate) events: bool,
    /// Export the rows of this read model, as they were at one moment.
    #[arg(long, value_name = "NAME")]
    pub(crate) read_model: Option<String>,
    /// Only events of streams of this category, such as `order`; may be given several times.
    #[arg(long = "category", value_name = "CATEGORY", requires = "events", conflicts_with_all = ["read_model", "stream"])]
    pub(crate) categories: Vec<String>,
    /// Only events of this type, such as `OrderPlaced`; may be given several times.
    #[arg(long = "type", value_name = "TYPE", requires = "events", conflicts_with = "read_model")]
    pub(crate) types: Vec<String>,
    /// Only events of this stream, such as `stock-85123A`.
    #[arg(long, value_name = "NAME", requires = "events", conflicts_with = "read_model")]
    pub(crate) stream: Option<String>,
    /// Only events past this position, such as 1234/1234, or that occurred after this time, such as 2011-01-31T00:00:00Z.
    #[arg(long, value_name = "POSITION|TIME", requires = "events", conflicts_with = "read_model")]
    pub(crate) from: Option<Bound>,
    /// Only events up to and with this position, or that occurred at this time or before.
    #[arg(long, value_name = "POSITION|TIME", requires = "events", conflicts_with = "read_model")]
    pub(crate) until: Option<Bound>,
    /// Only this table of the read model.
    #[arg(long, value_name = "TABLE", requires = "read_model", conflicts_with = "events")]
    pub(crate) table: Option<String>,
    /// The format of the files.
    #[arg(long, value_name = "FORMAT")]
    pub(crate) format: ExportFormat,
    /// Write to this file, or, where it is a directory or ends with `/`, to a file a table in there [default: standard
    /// output].
    #[arg(long, value_name = "FILE|DIR")]
    pub(crate) output: Option<PathBuf>,
    /// Replace files that are there already.
    #[arg(long, requires = "output")]
    pub(crate) force: bool,
    /// Show no progress.
    #[arg(long)]
    pub(crate) no_progress: bool,
}

/// The formats of exported files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ExportFormat {
    /// A JSON object a line.
    Ndjson,
    /// Apache Parquet: columns with types, compressed. Needs --output.
    Parquet,
}

/// Which log to copy, and where to.
#[derive(Debug, Args)]
pub(crate) struct CopyLog {
    /// The log to copy: postgres://…, esdb://…, or `postgres:` for the one in the configured or private database.
    #[arg(value_name = "FROM")]
    pub(crate) from: String,
    /// The log to copy it into: an empty one, or one that was begun before.
    #[arg(value_name = "TO")]
    pub(crate) to: String,
    /// Then have the read models and processes in the configured database go on from the copy. Stop every storefold first.
    #[arg(long = "move")]
    pub(crate) move_places: bool,
    /// Print what was copied as JSON.
    #[arg(long)]
    pub(crate) json: bool,
    /// Show no progress.
    #[arg(long)]
    pub(crate) no_progress: bool,
}

/// Which log to check.
#[derive(Debug, Args)]
pub(crate) struct CheckStore {
    /// The log: postgres://…, esdb://…, memory:, or `postgres:` for the one in the configured or private database.
    #[arg(value_name = "URL")]
    pub(crate) url: String,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// The schemas that clients build on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Schema {
    /// The GraphQL schema of the read API.
    Sdl,
    /// The OpenAPI document of the write side.
    Openapi,
    /// The JSON Schema of every event version.
    EventsLock,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn settings_may_stand_behind_the_command() {
        let cli = Cli::parse_from(["storefold", "serve", "--roles", "write,read", "--data-dir", "/srv/shop"]);
        assert_eq!(cli.settings.data_dir, Some("/srv/shop".into()));
        let Command::Serve(flags) = cli.command else { panic!("not serve: {:?}", cli.command) };
        assert_eq!(flags.roles, Some(vec![Role::Write, Role::Read]));
    }

    #[test]
    fn an_export_is_of_events_or_of_a_read_model_and_each_takes_its_own_flags() {
        let parse =
            |arguments: &str| Cli::try_parse_from(["storefold", "export"].into_iter().chain(arguments.split(' ')));
        for arguments in [
            "--events --format ndjson",
            "--events --category stock --category order --type OrderPlaced --from 7/7 --until 2011-01-31T00:00:00Z --format ndjson",
            "--events --stream stock-A --type StockReceived --format parquet --output events.parquet --force",
            "--read-model orders --table order_lines --format ndjson --no-progress",
        ] {
            assert!(parse(arguments).is_ok(), "{arguments}");
        }
        for arguments in [
            "--format ndjson",
            "--events",
            "--events --read-model orders --format ndjson",
            "--events --table orders --format ndjson",
            "--events --stream stock-A --category stock --format ndjson",
            "--read-model orders --category order --format ndjson",
            "--read-model orders --from 7/7 --format ndjson",
            "--events --from yesterday --format ndjson",
            "--events --force --format ndjson",
            "--events --format csv",
        ] {
            assert!(parse(arguments).is_err(), "{arguments}");
        }
    }

    #[test]
    fn a_token_wants_scopes_and_one_for_a_customer_wants_to_know_which() {
        let parse =
            |arguments: &str| Cli::try_parse_from(["storefold", "token"].into_iter().chain(arguments.split(' ')));
        for arguments in [
            "--sub alice",
            "--scope orders:fly",
            "--scope orders:*",
            "--role king",
            "--role customer",
            "--role staff --customer alice",
            "--role staff --expires 1",
            "--role staff --expires 0s",
            "--role staff --expires -1h",
            "--role staff --expires 3651d",
            "--role staff --expires 99999999999999999999s",
            "--role staff --expires 1\u{1f600}",
        ] {
            assert!(parse(arguments).is_err(), "{arguments}");
        }
        for arguments in [
            "--scope orders:read,orders:place --scope catalog:read",
            "--scope all --expires 90s",
            "--role customer --customer 0190f3c4-7a51-7bd4-9f2e-6d1c8a40b5e2 --expires 15m",
            "--role operator --sub alice --expires 7d",
        ] {
            assert!(parse(arguments).is_ok(), "{arguments}");
        }
    }

    #[test]
    fn rebuild_wants_a_name_or_all_and_not_both() {
        for arguments in [&["rebuild"][..], &["rebuild", "orders", "--all"]] {
            assert!(Cli::try_parse_from(["storefold"].iter().chain(arguments)).is_err(), "{arguments:?}");
        }
        assert!(Cli::try_parse_from(["storefold", "rebuild", "--all"]).is_ok());
    }
}
