//! Money in minor units, with arithmetic that cannot overflow silently.

use std::fmt;

use serde::{Deserialize, Serialize};

/// An amount of money, or of points, which are the shop's money; minor units.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Money(pub i64);

/// A sum or product does not fit in 64 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the amount is too large")]
pub struct Overflow;

impl Money {
    /// No money.
    pub const ZERO: Self = Self(0);

    /// The sum.
    ///
    /// # Errors
    /// [`Overflow`].
    pub fn plus(self, other: Self) -> Result<Self, Overflow> {
        self.0.checked_add(other.0).map(Self).ok_or(Overflow)
    }

    /// The difference, which may be negative.
    ///
    /// # Errors
    /// [`Overflow`].
    pub fn minus(self, other: Self) -> Result<Self, Overflow> {
        self.0.checked_sub(other.0).map(Self).ok_or(Overflow)
    }

    /// The price of several units.
    ///
    /// # Errors
    /// [`Overflow`].
    pub fn times(self, quantity: i64) -> Result<Self, Overflow> {
        self.0.checked_mul(quantity).map(Self).ok_or(Overflow)
    }

    /// `percent` hundredths of it, rounded down.
    #[must_use]
    pub fn percent(self, percent: u8) -> Self {
        // 128 bits: the product of any amount and a u8 fits.
        let part = i128::from(self.0) * i128::from(percent) / 100;
        Self(i64::try_from(part).unwrap_or(i64::MAX))
    }
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_is_checked() {
        assert_eq!(Money(2).plus(Money(3)), Ok(Money(5)));
        assert_eq!(Money(i64::MAX).plus(Money(1)), Err(Overflow));
        assert_eq!(Money(i64::MIN).minus(Money(1)), Err(Overflow));
        assert_eq!(Money(i64::MAX / 2 + 1).times(2), Err(Overflow));
    }

    #[test]
    fn percentages_round_down() {
        assert_eq!(Money(999).percent(10), Money(99));
        assert_eq!(Money(i64::MAX).percent(100), Money(i64::MAX));
    }
}
