//! A table of text, in Markdown, so that it can go into a document as it is.

/// Rows of cells under a heading.
#[derive(Clone, Debug)]
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty table with these headings.
    #[must_use]
    pub fn new<'a>(headings: impl IntoIterator<Item = &'a str>) -> Self {
        Self { rows: vec![headings.into_iter().map(str::to_owned).collect()] }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// As text, with columns of one width; the first to the left, the others to the right.
    #[must_use]
    pub fn text(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let cell = |row: &Vec<String>, column: usize| row.get(column).cloned().unwrap_or_default();
        let width = |column| self.rows.iter().map(|row| cell(row, column).chars().count()).max();
        let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
        let mut text = String::new();
        for (n, row) in self.rows.iter().enumerate() {
            text.push('|');
            for (column, &width) in widths.iter().enumerate() {
                let cell = cell(row, column);
                let cell =
                    if column == 0 { format!(" {cell:<width$} |") } else { format!(" {cell:>width$} |") };
                text.push_str(&cell);
            }
            text.push('\n');
            if n == 0 {
                text.push('|');
                for (column, &width) in widths.iter().enumerate() {
                    let dashes = "-".repeat(width);
                    text.push_str(&if column == 0 { format!(" {dashes} |") } else { format!(" {dashes}:|") });
                }
                text.push('\n');
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_have_one_width_and_missing_cells_are_empty() {
        let mut table = Table::new(["what", "n"]);
        table.row(["a longer one".to_owned(), "10".to_owned()]);
        table.row(["b".to_owned()]);
        let expected = "\
| what         |  n |
| ------------ | --:|
| a longer one | 10 |
| b            |    |
";
        assert_eq!(table.text(), expected);
    }
}
