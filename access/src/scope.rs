//! What a caller may be allowed to do, by name.

use std::fmt;
use std::str::FromStr;

/// Declares the scopes, with their names in tokens and what they allow: the one table of them.
macro_rules! scopes {
    ($($scope:ident = $name:literal: $allows:literal,)*) => {
        /// Something that a caller may be allowed to do.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Scope {
            $(#[doc = $allows] $scope,)*
        }

        impl Scope {
            /// Every scope.
            pub const ALL: &'static [Self] = &[$(Self::$scope,)*];

            /// Its name in a token.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$scope => $name,)*
                }
            }

            /// What it allows, in a sentence.
            pub fn allows(self) -> &'static str {
                match self {
                    $(Self::$scope => $allows,)*
                }
            }
        }
    };
}

scopes! {
    CatalogRead = "catalog:read": "Read products.",
    CatalogWrite = "catalog:write": "List products, name, describe and price them, take them off sale and put them back.",
    StockRead = "stock:read": "Read stock and its movements.",
    StockWrite = "stock:write": "Take stock in, count it, and say how little of it is too little.",
    StockOperate = "stock:operate": "Reserve stock, release and ship reservations by hand, which the checkout does by itself.",
    OrdersRead = "orders:read": "Read orders.",
    OrdersPlace = "orders:place": "Place orders at the prices of the catalogue.",
    OrdersCancel = "orders:cancel": "Cancel orders.",
    OrdersQuote = "orders:quote": "Place orders at prices of their own; beside orders:place.",
    OrdersBackdate = "orders:backdate": "Place orders with a time of their own; beside orders:place.",
    OrdersRecord = "orders:record": "Record orders that were traded elsewhere.",
    OrdersOperate = "orders:operate": "Confirm, reject, dispatch, call off and complete orders by hand, which the checkout does by itself.",
    CustomersRead = "customers:read": "Read customers.",
    CustomersWrite = "customers:write": "Register customers, change how they are reached, close their accounts.",
    PaymentsRead = "payments:read": "Read payments.",
    PaymentsRefund = "payments:refund": "Give money back.",
    PaymentsOperate = "payments:operate": "Request, capture and void payments by hand, and put on record what the gateway said.",
    ShipmentsRead = "shipments:read": "Read shipments.",
    ShipmentsWrite = "shipments:write": "Say that goods left the house, arrived or got lost.",
    ShipmentsOperate = "shipments:operate": "Request and cancel shipments by hand, which the checkout does by itself.",
    CheckoutsRead = "checkouts:read": "Read how far checkouts are, and what holds them up.",
    CheckoutsRetry = "checkouts:retry": "Let checkouts that could not go on try again.",
    ReportsRead = "reports:read": "Read sales figures and the ledger.",
    OperationsRead = "operations:read": "Read how far the read models are, and what is parked of them.",
    OperationsRepair = "operations:repair": "Have what is parked of read models tried again, or left out.",
}

/// There is no scope of this name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no scope {name:?}; there are {}", Scopes::ALL)]
pub struct UnknownScope {
    /// What was asked for.
    name: String,
}

impl FromStr for Scope {
    type Err = UnknownScope;

    fn from_str(name: &str) -> Result<Self, UnknownScope> {
        let known = Self::ALL.iter().copied().find(|scope| scope.name() == name);
        known.ok_or_else(|| UnknownScope { name: name.chars().take(80).collect() })
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A set of scopes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Scopes(u32);

impl Scopes {
    /// No scope.
    pub const NONE: Self = Self(0);
    /// Every scope.
    pub const ALL: Self = Self(u32::MAX >> (u32::BITS - Scope::ALL.len() as u32));

    /// The scopes that a token names, with blanks between them. It may name others, which are for another service.
    pub fn of_token(names: &str) -> Self {
        names.split(' ').filter_map(|name| name.parse::<Scope>().ok()).collect()
    }

    /// Whether a scope is among them.
    pub fn contains(self, scope: Scope) -> bool {
        self.0 & bit(scope) != 0
    }

    /// These and one more.
    pub const fn with(self, scope: Scope) -> Self {
        Self(self.0 | bit(scope))
    }

    /// These without one.
    pub const fn without(self, scope: Scope) -> Self {
        Self(self.0 & !bit(scope))
    }

    /// These and those.
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// They, one after another.
    pub fn iter(self) -> impl Iterator<Item = Scope> {
        Scope::ALL.iter().copied().filter(move |scope| self.contains(*scope))
    }
}

const fn bit(scope: Scope) -> u32 {
    1 << scope as u32
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        scopes.into_iter().fold(Self::NONE, Self::with)
    }
}

/// As a token names them: with blanks between them.
impl fmt::Display for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, scope) in self.iter().enumerate() {
            let blank = if index == 0 { "" } else { " " };
            write!(f, "{blank}{scope}")?;
        }
        Ok(())
    }
}

/// Scopes that go together, for whoever makes tokens. A token names the scopes, not the role.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A customer of the shop.
    Customer,
    /// Somebody who works in the shop.
    Staff,
    /// Somebody who runs the shop: everything.
    Operator,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 3] = [Self::Customer, Self::Staff, Self::Operator];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Customer => "customer",
            Self::Staff => "staff",
            Self::Operator => "operator",
        }
    }

    /// Its scopes.
    pub fn scopes(self) -> Scopes {
        use Scope::{
            CatalogRead, CatalogWrite, CheckoutsRead, CustomersRead, CustomersWrite, OrdersCancel, OrdersPlace,
            OrdersRead, PaymentsRead, PaymentsRefund, ReportsRead, ShipmentsRead, ShipmentsWrite, StockRead,
            StockWrite,
        };

        let customer = [
            CatalogRead,
            OrdersRead,
            OrdersPlace,
            OrdersCancel,
            CustomersRead,
            CustomersWrite,
            PaymentsRead,
            ShipmentsRead,
            CheckoutsRead,
        ];
        let staff = [CatalogWrite, StockRead, StockWrite, PaymentsRefund, ShipmentsWrite, ReportsRead];
        match self {
            Self::Customer => customer.into_iter().collect(),
            Self::Staff => customer.into_iter().chain(staff).collect(),
            Self::Operator => Scopes::ALL,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_is_known_by_its_name() {
        for (index, scope) in Scope::ALL.iter().enumerate() {
            assert_eq!((scope.name().parse(), *scope as usize), (Ok(*scope), index));
        }
        assert!("orders:*".parse::<Scope>().unwrap_err().to_string().contains("catalog:read catalog:write"));
    }

    #[test]
    fn a_set_has_what_it_was_given() {
        assert_eq!(Scope::ALL.iter().copied().collect::<Scopes>(), Scopes::ALL);
        assert_eq!(Scopes::ALL.iter().count(), Scope::ALL.len());
        for scope in Scope::ALL {
            assert!(!Scopes::ALL.without(*scope).contains(*scope) && Scopes::NONE.with(*scope).contains(*scope));
            assert_eq!(Scopes::ALL.without(*scope).iter().count(), Scope::ALL.len() - 1);
        }
    }

    #[test]
    fn a_token_may_name_scopes_of_others() {
        let scopes = Scopes::of_token("orders:read mail:send  stock:write orders:read ORDERS:PLACE openid");
        assert_eq!(scopes.to_string(), "stock:write orders:read");
        assert_eq!(Scopes::of_token(""), Scopes::NONE);
    }

    #[test]
    fn nobody_but_an_operator_writes_prices_of_its_own_or_what_the_gateway_said() {
        use Scope::{OrdersBackdate, OrdersOperate, OrdersQuote, OrdersRecord, PaymentsOperate};

        for scope in [OrdersQuote, OrdersBackdate, OrdersRecord, OrdersOperate, PaymentsOperate] {
            assert!(!Role::Customer.scopes().contains(scope) && !Role::Staff.scopes().contains(scope), "{scope}");
        }
        assert_eq!(Role::Operator.scopes(), Scopes::ALL);
    }
}
