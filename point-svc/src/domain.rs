//! What point decides: no clock, no IO.

use std::collections::BTreeMap;

use events::{Money, Refusal, UserId};

/// The code of the refusal when the balance is too small.
pub const INSUFFICIENT: &str = "INSUFFICIENT_POINTS";

/// A user's points. Their sum changes only when points come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Account {
    /// Points that can be spent.
    pub balance: Money,
    /// Points held for orders that are not decided.
    pub held: Money,
    /// Points spent.
    pub settled: Money,
}

/// The accounts that a batch of orders touches.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Accounts {
    /// By user; a user who is not here never had a point.
    pub of: BTreeMap<UserId, Account>,
}

impl Accounts {
    /// Holds the total of an order, or nothing; what is held.
    ///
    /// # Errors
    /// A refusal that says what was needed and what there was.
    pub fn hold(&mut self, user: &UserId, total: Money) -> Result<Money, Refusal> {
        let balance = self.of.get(user).map_or(Money::ZERO, |a| a.balance);
        if balance < total {
            return Err(Refusal {
                needed: Some(total),
                balance: Some(balance),
                ..Refusal::new(INSUFFICIENT)
            });
        }
        if let Some(account) = self.of.get_mut(user) {
            account.balance.0 -= total.0;
            account.held.0 += total.0;
        }
        Ok(total)
    }

    /// Gives points back; `settled` when they were spent already.
    pub fn release(&mut self, user: &UserId, held: Money, settled: bool) {
        if let Some(account) = self.of.get_mut(user) {
            match settled {
                true => account.settled.0 -= held.0,
                false => account.held.0 -= held.0,
            }
            account.balance.0 += held.0;
        }
    }

    /// Spends what is held.
    pub fn settle(&mut self, user: &UserId, held: Money) {
        if let Some(account) = self.of.get_mut(user) {
            account.held.0 -= held.0;
            account.settled.0 += held.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str) -> UserId {
        UserId::new(name).expect("valid")
    }

    fn accounts(balances: &[(&str, i64)]) -> Accounts {
        let account = |balance: &i64| Account {
            balance: Money(*balance),
            ..Account::default()
        };
        Accounts {
            of: balances
                .iter()
                .map(|(n, b)| (user(n), account(b)))
                .collect(),
        }
    }

    fn state(accounts: &Accounts, name: &str) -> (i64, i64, i64) {
        let a = accounts.of[&user(name)];
        (a.balance.0, a.held.0, a.settled.0)
    }

    #[test]
    fn orders_of_one_user_see_each_others_holds() {
        let mut accounts = accounts(&[("alice", 1000), ("bob", 300)]);
        assert_eq!(accounts.hold(&user("alice"), Money(700)), Ok(Money(700)));
        assert_eq!(accounts.hold(&user("bob"), Money(300)), Ok(Money(300)));
        let refusal = accounts
            .hold(&user("alice"), Money(301))
            .expect_err("only 300 are left");
        assert_eq!(refusal.code, INSUFFICIENT);
        assert_eq!(
            (refusal.needed, refusal.balance),
            (Some(Money(301)), Some(Money(300)))
        );
        assert_eq!(accounts.hold(&user("alice"), Money(300)), Ok(Money(300)));
        assert_eq!(state(&accounts, "alice"), (0, 1000, 0));
        assert_eq!(state(&accounts, "bob"), (0, 300, 0));
    }

    #[test]
    fn a_refusal_holds_nothing() {
        let mut accounts = accounts(&[("alice", 99)]);
        let before = accounts.clone();
        assert!(accounts.hold(&user("alice"), Money(100)).is_err());
        assert_eq!(accounts, before);
    }

    #[test]
    fn a_user_without_an_account_has_nothing() {
        let mut accounts = accounts(&[]);
        let refusal = accounts
            .hold(&user("nobody"), Money(1))
            .expect_err("no account");
        assert_eq!(
            (refusal.needed, refusal.balance),
            (Some(Money(1)), Some(Money::ZERO))
        );
        assert_eq!(accounts, Accounts::default());
    }

    #[test]
    fn a_released_hold_leaves_no_trace() {
        let mut accounts = accounts(&[("alice", 500)]);
        let before = accounts.clone();
        let held = accounts.hold(&user("alice"), Money(500)).expect("enough");
        accounts.release(&user("alice"), held, false);
        assert_eq!(accounts, before);
    }

    #[test]
    fn points_given_back_can_be_held_by_the_next_order_of_the_batch() {
        let mut accounts = accounts(&[("alice", 500)]);
        let held = accounts.hold(&user("alice"), Money(500)).expect("enough");
        assert!(accounts.hold(&user("alice"), Money(1)).is_err());
        accounts.release(&user("alice"), held, false);
        assert!(accounts.hold(&user("alice"), Money(500)).is_ok());
    }

    #[test]
    fn a_settled_hold_is_spent_and_can_still_be_given_back() {
        let mut accounts = accounts(&[("alice", 500)]);
        let held = accounts.hold(&user("alice"), Money(200)).expect("enough");
        accounts.settle(&user("alice"), held);
        assert_eq!(state(&accounts, "alice"), (300, 0, 200));
        accounts.release(&user("alice"), held, true);
        assert_eq!(state(&accounts, "alice"), (500, 0, 0));
    }
}
