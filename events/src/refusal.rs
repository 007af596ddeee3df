//! Why a step said no: a business answer, never a technical error.

use serde::{Deserialize, Serialize};

use crate::{Malformed, Money, ProductId, wire};

/// A stable code and the facts. One shape for every step.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Refusal {
    /// A stable code, like `OUT_OF_STOCK`.
    pub code: String,
    /// Stock and cart: every line that fails.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lines: Vec<FailingLine>,
    /// Point: what the order costs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub needed: Option<Money>,
    /// Point: what there was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub balance: Option<Money>,
    /// Coupon: why it cannot be used.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

/// A line that cannot be served.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailingLine {
    /// Which product.
    pub product_id: ProductId,
    /// What is wrong with the line.
    pub code: String,
    /// Units asked for.
    pub requested: i64,
    /// Units there are.
    pub available: i64,
}

impl Refusal {
    /// A refusal with nothing but its code.
    #[must_use]
    pub fn new(code: impl Into<String>) -> Self {
        Self {
            code: code.into(),
            ..Self::default()
        }
    }

    /// A refusal of lines; its code is that of the first line.
    #[must_use]
    pub fn of_lines(lines: Vec<FailingLine>) -> Self {
        Self {
            code: lines.first().map(|l| l.code.clone()).unwrap_or_default(),
            lines,
            ..Self::default()
        }
    }

    /// A coupon that cannot be used.
    #[must_use]
    pub fn because(code: impl Into<String>, reason: impl Into<String>) -> Self {
        Self {
            code: code.into(),
            reason: reason.into(),
            ..Self::default()
        }
    }

    pub(crate) fn to_wire(&self) -> wire::Refusal {
        wire::Refusal {
            code: self.code.clone(),
            lines: self
                .lines
                .iter()
                .map(|line| wire::FailingLine {
                    product_id: line.product_id.to_wire(),
                    requested: line.requested,
                    available: line.available,
                    code: line.code.clone(),
                })
                .collect(),
            needed: self.needed.map(|m| m.0),
            balance: self.balance.map(|m| m.0),
            reason: self.reason.clone(),
        }
    }

    pub(crate) fn from_wire(message: wire::Refusal) -> Result<Self, Malformed> {
        if message.code.is_empty() {
            return Err(Malformed::field("refusal.code", "must not be empty"));
        }
        let line = |line: wire::FailingLine| {
            Ok(FailingLine {
                product_id: ProductId::from_wire(&line.product_id)?,
                code: line.code,
                requested: line.requested,
                available: line.available,
            })
        };
        Ok(Self {
            code: message.code,
            lines: message
                .lines
                .into_iter()
                .map(line)
                .collect::<Result<_, _>>()?,
            needed: message.needed.map(Money),
            balance: message.balance.map(Money),
            reason: message.reason,
        })
    }
}
