//! Who calls, as far as it was proved.

use std::fmt;
use std::time::SystemTime;

use uuid::Uuid;

use crate::refusal::Refusal;
use crate::scope::{Scope, Scopes};

/// Who calls. Only [`Gate`](crate::Gate) makes one of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Its name, the claim `sub`. `None` where no tokens are demanded.
    pub subject: Option<String>,
    /// What it may do.
    pub scopes: Scopes,
    /// The customer that it is. `None`: it belongs to the shop.
    pub customer: Option<CustomerId>,
    /// From when on its token is refused, for those who keep it for longer than a request. `None`: never.
    pub until: Option<SystemTime>,
}

/// Names a customer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CustomerId(pub Uuid);

impl Caller {
    /// Whoever calls where no tokens are demanded: it may do everything.
    pub fn anyone() -> Self {
        Self { subject: None, scopes: Scopes::ALL, customer: None, until: None }
    }

    /// Wants a scope.
    ///
    /// # Errors
    /// [`Refusal::MissingScope`] when the caller does not have it.
    pub fn demand(&self, scope: Scope) -> Result<(), Refusal> {
        if self.scopes.contains(scope) { Ok(()) } else { Err(Refusal::MissingScope { scope }) }
    }

    /// Wants a scope and that the caller belongs to the shop.
    ///
    /// # Errors
    /// [`Refusal::MissingScope`], or [`Refusal::NotForCustomers`] when it is a customer.
    pub fn demand_of_staff(&self, scope: Scope) -> Result<(), Refusal> {
        self.demand(scope)?;
        if self.customer.is_none() { Ok(()) } else { Err(Refusal::NotForCustomers) }
    }

    /// Whether what belongs to `owner` is there for this caller. For a customer, what is somebody else's or nobody's is not.
    pub fn sees_what_is_of(&self, owner: Option<CustomerId>) -> bool {
        self.customer.is_none() || self.customer == owner
    }
}

impl fmt::Display for CustomerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_customer_sees_its_own_and_the_shop_sees_all() {
        let [one, other] = [1, 2].map(|id| CustomerId(Uuid::from_u128(id)));
        let caller = |customer| Caller { customer, ..Caller::anyone() };
        for (customer, owner, sees) in [
            (None, None, true),
            (None, Some(one), true),
            (Some(one), Some(one), true),
            (Some(one), Some(other), false),
            (Some(one), None, false),
        ] {
            assert_eq!(caller(customer).sees_what_is_of(owner), sees, "{customer:?} {owner:?}");
        }
    }

    #[test]
    fn a_scope_is_demanded_before_it_is_asked_who_calls() {
        let customer = Caller { customer: Some(CustomerId(Uuid::nil())), ..Caller::anyone() };
        let scope = Scope::StockWrite;
        assert_eq!(customer.demand(scope), Ok(()));
        assert_eq!(customer.demand_of_staff(scope), Err(Refusal::NotForCustomers));
        let without = Caller { scopes: Scopes::ALL.without(scope), ..customer };
        assert_eq!(without.demand_of_staff(scope), Err(Refusal::MissingScope { scope }));
        assert_eq!(Caller::anyone().demand_of_staff(scope), Ok(()));
    }
}
