//! Reading one's own writes: a query waits until the read models it touches have folded the position that the caller
//! brings along, and every answer says how far they had come.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_graphql::{Name, Value};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::database::Database;
use crate::error::{Code, Failure};
use crate::permissions::View;
use crate::position::{NotAPosition, Position};
use crate::shared::Shared;

/// The read models that queries touch, by the name under which `control.generations` keeps their checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum ReadModel {
    Orders,
    Products,
    StockMovements,
    Customers,
    SalesDaily,
    ProductSales,
    PaymentsLedger,
    Checkouts,
    LowStock,
}

impl ReadModel {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Orders => "orders",
            Self::Products => "products",
            Self::StockMovements => "stock_movements",
            Self::Customers => "customers",
            Self::SalesDaily => "sales_daily",
            Self::ProductSales => "product_sales",
            Self::PaymentsLedger => "payments_ledger",
            Self::Checkouts => "checkouts",
            Self::LowStock => "low_stock",
        }
    }
}

/// What the caller asks of the answer's freshness.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Demand {
    /// The position that must be folded in.
    pub(crate) after: Option<Position>,
    /// How long to wait for it.
    pub(crate) wait: Duration,
    /// Whether data that is behind is better than an error.
    pub(crate) allow_stale: bool,
}

/// The one way from a resolver to the database within a request. Whoever wants to run SQL says first which read models
/// it reads, so that nobody forgets to wait.
#[derive(Debug)]
pub(crate) struct Reads {
    source: Source,
    /// The primary.
    control: Database,
    view: View,
    demand: Demand,
    deadline: Instant,
    progress: tokio::sync::Mutex<Progress>,
    /// How far each read model had come before it was first read.
    touched: Mutex<BTreeMap<ReadModel, Option<Position>>>,
}

/// How far each read model has come, by its name.
type Seen = HashMap<String, Option<Position>>;

/// What the queries that want to know at the same time see together: while a statement is under way, those who come gather
/// for the next one, and so nobody sees what was so before it came.
#[derive(Debug, Default)]
struct Looks {
    together: Shared<(), Seen>,
    /// When the last one began.
    last: Mutex<Option<Instant>>,
}

/// A database with the read models and their checkpoints: the primary, or a replica, where both are as old as each other,
/// since they are committed together.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    pub(crate) database: Database,
    looks: Arc<Looks>,
}

/// How many queries are under way before those who look at the checkpoints wait for each other.
const BUSY: usize = 8;
/// How far apart they look then. What they wait, the others use.
const APART: Duration = Duration::from_millis(1);

impl Source {
    pub(crate) fn new(database: Database) -> Self {
        Self { database, looks: Arc::default() }
    }

    /// How far the read models have come, from a look that begins after this is called.
    async fn look(&self) -> Result<Arc<Seen>, Failure> {
        // Every query that is under way has a clone.
        if Arc::strong_count(&self.looks) > BUSY {
            let next = lock(&self.looks.last).and_then(|last| last.checked_add(APART));
            if let Some(next) = next.filter(|next| Instant::now() < *next) {
                tokio::time::sleep_until(next).await;
            }
        }
        let look = |_| async {
            *lock(&self.looks.last) = Some(Instant::now());
            let sql = "select name, commit_position, prepare_position from control.generations where state = 'live'";
            let rows: Vec<(String, Option<i64>, Option<i64>)> = self.database.all(sqlx::query_as(sql)).await?;
            Ok(rows.into_iter().map(|(name, commit, prepare)| (name, position(commit, prepare))).collect())
        };
        self.looks.together.get("", [()], look).await
    }
}

/// How far the read models have come, as last seen.
#[derive(Debug)]
struct Progress {
    seen: Option<Arc<Seen>>,
    wake: Option<watch::Receiver<()>>,
}

impl Reads {
    pub(crate) fn new(
        source: Source,
        control: Database,
        wake: Option<watch::Receiver<()>>,
        demand: Demand,
        view: View,
    ) -> Self {
        Self {
            source,
            control,
            view,
            demand,
            deadline: Instant::now() + demand.wait,
            progress: tokio::sync::Mutex::new(Progress { seen: None, wake }),
            touched: Mutex::default(),
        }
    }

    /// The database, as soon as `models` are as fresh as the caller demands.
    ///
    /// The checkpoints are read before any data, so what they say is a lower bound of what the data holds.
    pub(crate) async fn of(&self, models: &[ReadModel]) -> Result<&Database, Failure> {
        // Whose a checkout is stands with its order.
        let models = match (models, self.view) {
            ([ReadModel::Checkouts], View::Of(_)) => &[ReadModel::Checkouts, ReadModel::Orders],
            _ => models,
        };
        // What is of no read model is the runtime's own record.
        if models.is_empty() {
            return Ok(&self.control);
        }
        // What was read is as old as that, and what is read from now on is no older.
        if self.demand.after.is_none() && models.iter().all(|model| lock(&self.touched).contains_key(model)) {
            return Ok(&self.source.database);
        }
        // Fields that wait at the same time queue up here and share what one of them sees. The deadline is the same for all.
        let mut progress = self.progress.lock().await;
        if progress.seen.is_none() {
            progress.look(&self.source).await?;
        }
        let mut pause = FIRST_PAUSE;
        while self.is_behind(&progress, models) {
            let left = self.deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                if self.demand.allow_stale {
                    break;
                }
                return Err(self.stale(&progress, models));
            }
            progress.pause(pause.min(left)).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
            progress.look(&self.source).await?;
        }
        let mut touched = lock(&self.touched);
        for &model in models {
            touched.entry(model).or_insert_with(|| progress.of(model));
        }
        Ok(&self.source.database)
    }

    /// The database, for a statement that reads rows of this read model together with how far it had come, which
    /// [`Reads::came`] is told then. `None` where that is to be known before, or is known already: [`Reads::of`] has it.
    pub(crate) async fn at_once(&self, models: &[ReadModel]) -> Option<(&Database, ReadModel)> {
        let [model] = *models else { return None };
        let needs_others = model == ReadModel::Checkouts && matches!(self.view, View::Of(_));
        let waits = self.demand.after.is_some();
        let unknown = !needs_others && !waits && self.progress.lock().await.seen.is_none();
        unknown.then_some((&self.source.database, model))
    }

    /// Notes how far a read model had come when rows of it were read.
    pub(crate) fn came(&self, model: ReadModel, position: Option<Position>) {
        // Another statement may have been told of it before, and have seen more.
        let mut touched = lock(&self.touched);
        touched.entry(model).and_modify(|before| *before = position.min(*before)).or_insert(position);
    }

    /// Forgets what was read, for the next message of a subscription, and takes `seen` for how far the read models have
    /// come. It must have been read before any data that is read from now on.
    pub(crate) async fn renew(&self, seen: Seen) {
        self.progress.lock().await.seen = Some(Arc::new(seen));
        lock(&self.touched).clear();
    }

    /// Which rows there are for who asks.
    pub(crate) fn view(&self) -> View {
        self.view
    }

    /// The database's record of the read models themselves, which is as fresh as it gets.
    pub(crate) fn control(&self) -> &Database {
        &self.control
    }

    /// How far the touched read models had come: as `extensions.asOf`, and as the header `Storefold-As-Of`.
    pub(crate) fn as_of(&self) -> (Value, String) {
        let touched = lock(&self.touched);
        let lowest = touched.values().min().copied().flatten();
        let models = touched.iter().map(|(model, position)| (Name::new(model.name()), shown(*position))).collect();
        let fields = [(Name::new("position"), shown(lowest)), (Name::new("readModels"), Value::Object(models))];
        (Value::Object(fields.into_iter().collect()), lowest.map_or("none".to_owned(), |position| position.to_string()))
    }

    fn is_behind(&self, progress: &Progress, models: &[ReadModel]) -> bool {
        // `None`, nothing folded, is less than every position.
        self.demand.after.is_some() && models.iter().any(|&model| progress.of(model) < self.demand.after)
    }

    fn stale(&self, progress: &Progress, models: &[ReadModel]) -> Failure {
        let behind = models.iter().filter(|&&model| progress.of(model) < self.demand.after);
        let behind: Vec<_> = behind.map(|model| (model.name(), progress.of(*model))).collect();
        let names = behind.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
        let positions = behind.iter().map(|(name, position)| (Name::new(name), shown(*position))).collect();
        let message = format!("Not folded as far as Storefold-After yet: {names}. Ask again, or allow stale data.");
        let more = [("after", shown(self.demand.after)), ("readModels", Value::Object(positions))];
        Failure::with(Code::Stale, message, more)
    }
}

/// How long to wait before looking again: short at first, since a projector is mostly a few milliseconds behind.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

impl Progress {
    fn of(&self, model: ReadModel) -> Option<Position> {
        self.seen.as_ref().and_then(|seen| seen.get(model.name())).copied().flatten()
    }

    async fn look(&mut self, source: &Source) -> Result<(), Failure> {
        self.seen = Some(source.look().await?);
        Ok(())
    }

    /// Returns after `pause`, or as soon as a projector says that it has moved.
    async fn pause(&mut self, pause: Duration) {
        let Some(wake) = &mut self.wake else { return tokio::time::sleep(pause).await };
        if let Ok(Err(_)) = tokio::time::timeout(pause, wake.changed()).await {
            // The projector is gone; from now on only time wakes.
            self.wake = None;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A checkpoint that a statement has made a text of its two columns.
pub(crate) fn stored(text: &str) -> Result<Position, NotAPosition> {
    let (commit, prepare) = text.split_once('/').ok_or(NotAPosition)?;
    let number = |text: &str| text.parse().map(i64::cast_unsigned).map_err(|_| NotAPosition);
    Ok(Position { commit: number(commit)?, prepare: number(prepare)? })
}

/// A checkpoint as its two columns hold it.
pub(crate) fn position(commit: Option<i64>, prepare: Option<i64>) -> Option<Position> {
    Some(Position { commit: commit?.cast_unsigned(), prepare: prepare?.cast_unsigned() })
}

fn shown(position: Option<Position>) -> Value {
    position.map_or(Value::Null, |position| Value::String(position.to_string()))
}
