//! Tables as docker lays them out: cells are padded to the widest of their column, with three
//! blanks between columns, ten characters at least, nothing after the last.

/// Narrowest column, blanks included.
const MIN_WIDTH: usize = 10;
const PADDING: usize = 3;

/// Lines with tab-separated cells, aligned.
pub(crate) fn align(lines: &[String]) -> String {
    align_to(lines, MIN_WIDTH)
}

/// The same with another narrowest column.
pub(crate) fn align_to(lines: &[String], narrowest: usize) -> String {
    let rows: Vec<Vec<&str>> = lines.iter().map(|line| line.split('\t').collect()).collect();
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = rows.iter().filter(|row| row.len() > column + 1).map(|row| row[column].chars().count() + PADDING);
        cells.max().unwrap_or(0).max(narrowest)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut out = String::new();
    for row in &rows {
        for (column, cell) in row.iter().enumerate() {
            out.push_str(cell);
            if column + 1 < row.len() {
                out.extend(std::iter::repeat_n(' ', widths[column].saturating_sub(cell.chars().count())));
            }
        }
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let lines = ["ID\tNAME\tPORTS", "abcdefghijkl\tx\t", "a\ta-long-name-here\t*:80->80/tcp"].map(str::to_owned);
        expect![[r#"
            ID             NAME               PORTS
            abcdefghijkl   x                  
            a              a-long-name-here   *:80->80/tcp
        "#]]
        .assert_eq(&super::align(&lines));
    }
}
