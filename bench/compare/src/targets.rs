//! What the project has set itself, beside what was found.

use crate::table::{Table, number};

/// A figure that is to be at least, or at most, so much.
pub(crate) struct Target {
    what: &'static str,
    unit: &'static str,
    goal: f64,
    least: f64,
    less_is_better: bool,
    found: Option<f64>,
}

impl Target {
    /// What is to be reached is the first bound; beyond the second it is missed. Where they
    /// are one, or the first is the smaller, less is better.
    pub(crate) fn new(
        what: &'static str,
        unit: &'static str,
        [goal, least]: [f64; 2],
        found: Option<f64>,
    ) -> Self {
        Self {
            what,
            unit,
            goal,
            least,
            less_is_better: goal <= least,
            found,
        }
    }

    fn verdict(&self) -> &'static str {
        let Some(found) = self.found else {
            return "not measured";
        };
        let reaches = |bound: f64| match self.less_is_better {
            true => found <= bound,
            false => found >= bound,
        };
        match (reaches(self.goal), reaches(self.least)) {
            (true, _) => "reached",
            (false, true) => "at least",
            (false, false) => "**missed**",
        }
    }
}

/// All of them as a table.
pub(crate) fn table(targets: &[Target]) -> String {
    let mut table = Table::new(&["", "goal", "at least", "found", ""]);
    for target in targets {
        let bound = match target.less_is_better {
            true => "≤",
            false => "≥",
        };
        let with_unit = |value: Option<f64>| format!("{} {}", number(value), target.unit);
        table.row([
            target.what.to_owned(),
            format!("{bound} {}", with_unit(Some(target.goal))),
            format!("{bound} {}", with_unit(Some(target.least))),
            with_unit(target.found),
            target.verdict().to_owned(),
        ]);
    }
    table.text()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_reached_or_missed_in_its_own_direction() {
        let verdict = |bounds, found| Target::new("", "", bounds, found).verdict();
        assert_eq!(verdict([3000.0, 2200.0], Some(3100.0)), "reached");
        assert_eq!(verdict([3000.0, 2200.0], Some(2500.0)), "at least");
        assert_eq!(verdict([3000.0, 2200.0], Some(2000.0)), "**missed**");
        assert_eq!(verdict([6.0, 9.0], Some(5.0)), "reached");
        assert_eq!(verdict([6.0, 9.0], Some(9.5)), "**missed**");
        assert_eq!(verdict([6.0, 9.0], None), "not measured");
        assert_eq!(verdict([2.0, 2.0], Some(1.9)), "reached");
        assert_eq!(verdict([2.0, 2.0], Some(2.1)), "**missed**");
    }
}
