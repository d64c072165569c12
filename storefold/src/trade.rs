//! The processes that follow from events, and the world outside that they deal with: the payment gateway, or the sandbox's;
//! a made-up warehouse, where one is wanted.

use std::net::SocketAddr;
use std::sync::Arc;

use access::Gate;
use anyhow::Context as _;
use axum::Router;
use domain::process::Process as _;
use domain::processes::charging::Charging;
use domain::processes::checkout::Checkout;
use domain::processes::warehouse::Warehouse;
use secrecy::SecretString;
use sqlx::postgres::PgPool;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use uuid::Uuid;
use write_side::gateway::PaymentGateway;
use write_side::gateway::http::{self, HttpGateway};
use write_side::process::{self, Charges, Checkouts, Conduct, MadeUpWarehouse};
use write_side::sandbox::{self, Ledger};

use crate::config::Config;
use crate::server::{self, Front};
use crate::shop::{Shop, supervise};

/// Where the sandbox's gateway is found on the address that is served.
pub(crate) const SANDBOX: &str = "/sandbox/gateway";

/// The payment gateway that the configuration names, or the sandbox's.
pub(crate) enum Counter {
    /// A gateway elsewhere.
    Real(http::Config),
    /// The sandbox's gateway, to be served by this process and asked by it over HTTP like any other.
    Sandbox {
        /// What it knows the shop by. It is served and asked by the same process, so nobody else has to know it, unless one
        /// is configured for others to use.
        secret: SecretString,
        ledger: Ledger,
    },
}

impl Counter {
    /// Prepares what the configuration names.
    ///
    /// # Errors
    /// When the sandbox's tables cannot be made.
    pub(crate) async fn open(config: &Config, shop: &Shop) -> anyhow::Result<Self> {
        if let Some(gateway) = &config.gateway {
            let mut real = http::Config::new(gateway.url.clone(), gateway.secret.clone());
            real.timeout = config.gateway_timeout;
            return Ok(Self::Real(real));
        }
        let pool = shop.projections.pool.clone();
        sandbox::migrator().run(&pool).await.context("the schema of the sandbox cannot be brought up to date")?;
        let own = || SecretString::from(format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple()));
        Ok(Self::Sandbox { ledger: Ledger::new(pool), secret: config.sandbox_secret.clone().unwrap_or_else(own) })
    }

    /// What this process has to serve for its gateway: nothing where it is elsewhere.
    pub(crate) fn router(&self) -> Router {
        match self {
            Self::Real(_) => Router::new(),
            Self::Sandbox { secret, ledger } => {
                Router::new().nest(SANDBOX, sandbox::router(ledger.clone(), secret.clone()))
            }
        }
    }

    /// What the gateway knows the shop by that this process serves; `None` where it is elsewhere.
    pub(crate) fn secret(&self) -> Option<&SecretString> {
        match self {
            Self::Real(_) => None,
            Self::Sandbox { secret, .. } => Some(secret),
        }
    }

    /// The gateway, where this process serves `router` at `address`.
    ///
    /// # Errors
    /// When its configuration makes no gateway.
    pub(crate) fn gateway(&self, config: &Config, address: SocketAddr) -> anyhow::Result<Arc<dyn PaymentGateway>> {
        let asked = match self {
            Self::Real(real) => real.clone(),
            Self::Sandbox { secret, .. } => {
                let mut own = http::Config::new(format!("http://{address}{SANDBOX}"), secret.clone());
                own.timeout = config.gateway_timeout;
                own
            }
        };
        Ok(Arc::new(HttpGateway::new(asked).context("the payment gateway cannot be used")?))
    }

    /// The gateway for a process that serves nothing else: the sandbox's gets an address of its own.
    ///
    /// # Errors
    /// When there is no address to be had.
    pub(crate) async fn alone(
        &self,
        config: &Config,
        stop: watch::Receiver<bool>,
    ) -> anyhow::Result<(Arc<dyn PaymentGateway>, JoinSet<()>)> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("no port is free for the sandbox's gateway")?;
        let gateway = self.gateway(config, listener.local_addr()?)?;
        let mut serving = JoinSet::new();
        let front = Front::new(&config.http, None, Gate::open())?.with_gateway(self.secret());
        serving.spawn(server::serve(listener, self.router(), front, stop, config.drain_timeout));
        Ok((gateway, serving))
    }
}

/// The names of the processes that are started.
pub(crate) fn processes(fulfil: bool) -> Vec<&'static str> {
    let warehouse = fulfil.then_some(Warehouse::NAME);
    [Checkout::NAME, Charging::NAME].into_iter().chain(warehouse).collect()
}

/// Starts every process. They end when `stop` says so.
pub(crate) fn start(
    config: &Config,
    shop: &Shop,
    gateway: Arc<dyn PaymentGateway>,
    fulfil: bool,
    stop: &watch::Receiver<bool>,
) -> JoinSet<()> {
    let mut processes = JoinSet::new();
    conduct(&mut processes, Checkouts::new(shop.executor(), config.checkout), shop, stop);
    let pool = shop.projections.pool.clone();
    conduct(&mut processes, Charges::new(gateway, deals_with(config), shop.executor(), pool), shop, stop);
    if fulfil {
        conduct(&mut processes, MadeUpWarehouse(shop.executor()), shop, stop);
    }
    processes
}

/// The gateway that the configuration names, by a name that stays.
fn deals_with(config: &Config) -> String {
    config.gateway.as_ref().map_or("the sandbox", |gateway| gateway.url.as_str()).to_owned()
}

/// Has the shop deal with the configured gateway from now on, whatever it dealt with before.
///
/// # Errors
/// When the database cannot be written.
pub(crate) async fn move_gateway(config: &Config, shop: &Shop) -> anyhow::Result<()> {
    let moved = Charges::move_to(&shop.projections.pool, &deals_with(config)).await;
    moved.context("the payment gateway of the shop cannot be changed")
}

fn conduct<C: Conduct>(processes: &mut JoinSet<()>, conduct: C, shop: &Shop, stop: &watch::Receiver<bool>) {
    let (conduct, stop) = (Arc::new(conduct), stop.clone());
    let (store, pool): (_, PgPool) = (shop.store.clone(), shop.projections.pool.clone());
    processes.spawn(supervise(C::Process::NAME, stop.clone(), move || {
        process::run(conduct.clone(), store.clone(), pool.clone(), stop.clone())
    }));
}
