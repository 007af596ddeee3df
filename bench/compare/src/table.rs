//! Tables in Markdown.

/// A table: its head, and rows of cells.
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(head: &[&str]) -> Self {
        let head = head.iter().map(|cell| (*cell).to_owned()).collect();
        Self { rows: vec![head] }
    }

    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        for (n, row) in self.rows.iter().enumerate() {
            text.push_str(&format!("| {} |\n", row.join(" | ")));
            if n == 0 {
                text.push_str(&format!("|---{}\n", "|--:".repeat(row.len() - 1) + "|"));
            }
        }
        text
    }
}

/// A number for a table: more digits the smaller it is; a dash when it is not known.
pub(crate) fn number(value: Option<f64>) -> String {
    match value {
        None => "–".to_owned(),
        Some(value) if value >= 1000.0 => {
            let whole = format!("{value:.0}");
            let groups = whole.as_bytes().rchunks(3).rev();
            let groups: Vec<_> = groups.map(String::from_utf8_lossy).collect();
            groups.join(",")
        }
        Some(value) if value >= 100.0 => format!("{value:.0}"),
        Some(value) if value >= 10.0 => format!("{value:.1}"),
        Some(value) => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_the_digits_that_matter() {
        let shown = [12_345.6, 1000.0, 123.4, 12.34, 1.234, 0.0].map(|n| number(Some(n)));
        assert_eq!(shown, ["12,346", "1,000", "123", "12.3", "1.23", "0.00"]);
        assert_eq!(number(Some(1_234_567.0)), "1,234,567");
        assert_eq!(number(None), "–");
    }

    #[test]
    fn a_table_has_a_line_below_its_head() {
        let mut table = Table::new(&["a", "b"]);
        table.row(["1".to_owned(), "2".to_owned()]);
        assert_eq!(table.text(), "| a | b |\n|---|--:|\n| 1 | 2 |\n");
    }
}
