//! What a coupon takes off, in one function.

use serde::{Deserialize, Serialize};

use crate::{Malformed, Money, wire};

/// How a coupon lowers the price.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub enum Discount {
    /// A fixed amount, never more than the subtotal.
    Amount {
        /// Minor units, above zero.
        amount: Money,
    },
    /// A share of the subtotal, rounded down.
    Percent {
        /// 1 to 100.
        percent: u8,
        /// Never more than this.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        max: Option<Money>,
    },
}

/// The terms of a coupon: what an order needs to know to price with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Coupon {
    /// What it takes off.
    pub discount: Discount,
    /// The smallest subtotal it can be used with.
    pub min_total: Money,
}

/// The subtotal is below the coupon's `min_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the subtotal {subtotal} is below the coupon's minimum of {min_total}")]
pub struct BelowMinimum {
    /// What the lines sum up to.
    pub subtotal: Money,
    /// What the coupon asks for.
    pub min_total: Money,
}

impl Coupon {
    /// What the coupon takes off a subtotal:
    /// min(subtotal, max, amount or ⌊subtotal × percent / 100⌋).
    ///
    /// # Errors
    /// [`BelowMinimum`] when the subtotal is below `min_total`.
    pub fn off(&self, subtotal: Money) -> Result<Money, BelowMinimum> {
        if subtotal < self.min_total {
            return Err(BelowMinimum {
                subtotal,
                min_total: self.min_total,
            });
        }
        let off = match self.discount {
            Discount::Amount { amount } => amount,
            Discount::Percent { percent, max } => {
                let part = subtotal.percent(percent);
                max.map_or(part, |max| part.min(max))
            }
        };
        Ok(off.min(subtotal))
    }

    /// Checks the terms.
    ///
    /// # Errors
    /// Names the rule that is broken.
    pub fn checked(self) -> Result<Self, Malformed> {
        let fine = match self.discount {
            Discount::Amount { amount } => amount > Money::ZERO,
            Discount::Percent { percent, max } => {
                (1..=100).contains(&percent) && max.is_none_or(|max| max > Money::ZERO)
            }
        };
        if !fine {
            return Err(Malformed::field(
                "discount",
                "amount and max must be above 0, percent 1 to 100",
            ));
        }
        if self.min_total < Money::ZERO {
            return Err(Malformed::field("min_total", "must not be negative"));
        }
        Ok(self)
    }

    pub(crate) fn to_wire(self) -> wire::Discount {
        let (rule, max) = match self.discount {
            Discount::Amount { amount } => (wire::discount::Rule::Amount(amount.0), None),
            Discount::Percent { percent, max } => {
                (wire::discount::Rule::Percent(u32::from(percent)), max)
            }
        };
        wire::Discount {
            rule: Some(rule),
            max: max.map(|max| max.0),
            min_total: self.min_total.0,
        }
    }

    pub(crate) fn from_wire(message: Option<wire::Discount>) -> Result<Self, Malformed> {
        let message = message.ok_or_else(|| Malformed::field("discount", "is missing"))?;
        let discount = match message.rule {
            Some(wire::discount::Rule::Amount(amount)) => Discount::Amount {
                amount: Money(amount),
            },
            Some(wire::discount::Rule::Percent(percent)) => Discount::Percent {
                percent: u8::try_from(percent)
                    .map_err(|_| Malformed::field("discount.percent", "must be 1 to 100"))?,
                max: message.max.map(Money),
            },
            None => return Err(Malformed::field("discount", "has no rule")),
        };
        Self {
            discount,
            min_total: Money(message.min_total),
        }
        .checked()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn coupon(discount: Discount, min_total: i64) -> Coupon {
        Coupon {
            discount,
            min_total: Money(min_total),
        }
    }

    #[test]
    fn an_amount_takes_at_most_the_subtotal() {
        let c = coupon(Discount::Amount { amount: Money(500) }, 0);
        assert_eq!(c.off(Money(1200)), Ok(Money(500)));
        assert_eq!(c.off(Money(300)), Ok(Money(300)));
    }

    #[test]
    fn a_percentage_rounds_down_and_has_a_ceiling() {
        let free = Discount::Percent {
            percent: 15,
            max: None,
        };
        let capped = Discount::Percent {
            percent: 15,
            max: Some(Money(100)),
        };
        assert_eq!(coupon(free, 0).off(Money(999)), Ok(Money(149)));
        assert_eq!(coupon(capped, 0).off(Money(999)), Ok(Money(100)));
    }

    #[test]
    fn the_minimum_is_on_the_subtotal() {
        let c = coupon(Discount::Amount { amount: Money(1) }, 1000);
        assert!(c.off(Money(999)).is_err());
        assert_eq!(c.off(Money(1000)), Ok(Money(1)));
    }

    proptest! {
        #[test]
        fn a_discount_is_never_negative_nor_above_the_subtotal(
            subtotal in 0..i64::MAX, percent in 1..=100_u8, max in proptest::option::of(1..i64::MAX),
        ) {
            let c = coupon(Discount::Percent { percent, max: max.map(Money) }, 0);
            let off = c.off(Money(subtotal)).expect("no minimum");
            prop_assert!(off >= Money::ZERO && off <= Money(subtotal));
        }
    }
}
