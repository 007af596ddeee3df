//! What kind of orders there are, and in which shares.

use events::{Flow, Step};

/// Shares of orders, in percent. Without any: every order needs all four steps, has two
/// lines, and is confirmed.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Mix {
    /// Share of orders that a step refuses, in percent, like stock=2,point=1,coupon=1,cart=1
    #[arg(long, value_delimiter = ',', value_name = "STEP=SHARE", value_parser = refusal)]
    pub(super) refuse: Vec<(Step, f64)>,
    /// Share of orders that the user cancels as soon as they are accepted, in percent
    #[arg(long, default_value_t = 0.0, value_name = "SHARE", value_parser = share)]
    pub(super) cancel: f64,
    /// Share of orders with a coupon, in percent
    #[arg(long, default_value_t = 100.0, value_name = "SHARE", value_parser = share)]
    pub(super) coupon: f64,
    /// Share of orders that come from the cart, in percent
    #[arg(long, default_value_t = 100.0, value_name = "SHARE", value_parser = share)]
    pub(super) cart: f64,
    /// Share of orders for the one product that everybody wants, in percent
    #[arg(long, default_value_t = 0.0, value_name = "SHARE", value_parser = share)]
    pub(super) hot: f64,
    /// Share of orders in the sequential flow, in percent; the others are parallel
    #[arg(long, default_value_t = 0.0, value_name = "SHARE", value_parser = share)]
    pub(super) sequential: f64,
}

/// What is to become of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Confirmed,
    RefusedBy(Step),
    Canceled,
}

/// What an order is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) fate: Fate,
    pub(super) coupon: bool,
    pub(super) cart: bool,
    pub(super) hot: bool,
    pub(super) flow: Flow,
}

impl Mix {
    /// Whether the shares leave room for each other.
    pub(super) fn check(&self) -> Result<(), String> {
        let sum = self.cancel + self.refuse.iter().map(|(_, share)| share).sum::<f64>();
        match sum > 100.0 {
            true => {
                Err("the shares of --refuse and --cancel are more than 100 together".to_owned())
            }
            false => Ok(()),
        }
    }

    /// The share of orders that a step refuses.
    pub(super) fn refused_by(&self, name: &str) -> f64 {
        let of_step = self.refuse.iter().filter(|(step, _)| step.name() == name);
        of_step.map(|(_, share)| share).sum()
    }

    /// The flows that orders have.
    pub(super) fn flows(&self) -> &'static [Flow] {
        match self.sequential {
            0.0 => &[Flow::Parallel],
            100.0 => &[Flow::Sequential],
            _ => &Flow::ALL,
        }
    }

    /// The plan of the nth order: the same in each run, and spread evenly.
    pub(super) fn plan(&self, n: u64) -> Plan {
        let mut dice = Dice(n);
        let fate = self.fate(dice.percent());
        let refused_by = |name: &str| matches!(fate, Fate::RefusedBy(step) if step.name() == name);
        Plan {
            fate,
            coupon: (dice.percent() < self.coupon) | refused_by("coupon"),
            cart: (dice.percent() < self.cart) | refused_by("cart"),
            hot: dice.percent() < self.hot,
            flow: match dice.percent() < self.sequential {
                true => Flow::Sequential,
                false => Flow::Parallel,
            },
        }
    }

    fn fate(&self, mut thrown: f64) -> Fate {
        for (step, share) in &self.refuse {
            if thrown < *share {
                return Fate::RefusedBy(*step);
            }
            thrown -= share;
        }
        match thrown < self.cancel {
            true => Fate::Canceled,
            false => Fate::Confirmed,
        }
    }
}

/// Numbers that look random and depend on nothing but the seed (SplitMix64).
struct Dice(u64);

impl Dice {
    fn percent(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^= mixed >> 31;
        (mixed >> 11) as f64 / (1_u64 << 53) as f64 * 100.0
    }
}

fn share(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(share) if (0.0..=100.0).contains(&share) => Ok(share),
        _ => Err("must be a number from 0 to 100".to_owned()),
    }
}

fn refusal(text: &str) -> Result<(Step, f64), String> {
    let (name, percent) = text.split_once('=').ok_or("must be like stock=2")?;
    let known = || format!("there is no step `{name}`");
    let step = Step::named(name).map_err(|_| known())?;
    Ok((step, share(percent)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_kept() {
        let stock = Step::named("stock").expect("a step");
        let mix = Mix {
            refuse: vec![(stock, 10.0)],
            cancel: 5.0,
            coupon: 50.0,
            cart: 100.0,
            hot: 0.0,
            sequential: 20.0,
        };
        let plans: Vec<Plan> = (0..20_000).map(|n| mix.plan(n)).collect();
        let share = |of: &dyn Fn(&Plan) -> bool| {
            plans.iter().filter(|plan| of(plan)).count() as f64 / plans.len() as f64 * 100.0
        };
        let near = |is: f64, wanted: f64| assert!((is - wanted).abs() < 1.0, "{is} {wanted}");
        near(share(&|p| p.fate == Fate::RefusedBy(stock)), 10.0);
        near(share(&|p| p.fate == Fate::Canceled), 5.0);
        near(share(&|p| p.coupon), 50.0);
        near(share(&|p| p.flow == Flow::Sequential), 20.0);
        assert!(plans.iter().all(|plan| plan.cart && !plan.hot));
    }

    #[test]
    fn who_refuses_for_a_coupon_gets_one() {
        let mix = Mix {
            refuse: vec![refusal("coupon=100").expect("a share")],
            cancel: 0.0,
            coupon: 0.0,
            cart: 0.0,
            hot: 0.0,
            sequential: 0.0,
        };
        assert!((0..100).all(|n| mix.plan(n).coupon && !mix.plan(n).cart));
        assert!(mix.check().is_ok());
        assert!(refusal("magic=1").is_err());
        assert!(refusal("stock=101").is_err());
    }
}
