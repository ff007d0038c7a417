//! The cheapest pair first: what the product's policies are compared with.

use tessera_rides::domain::assign::Edge;

/// The cheapest pair of all first, then the cheapest of what is left.
pub fn cheapest_first(rows: &[Vec<Edge>]) -> Vec<Option<usize>> {
    let mut pairs: Vec<(i64, usize, usize)> = Vec::new();
    for (row, edges) in rows.iter().enumerate() {
        pairs.extend(edges.iter().map(|edge| (edge.cost, row, edge.column)));
    }
    pairs.sort_unstable();
    let columns = rows.iter().flatten().map(|edge| edge.column + 1).max().unwrap_or(0);
    let mut taken = vec![false; columns];
    let mut chosen = vec![None; rows.len()];
    for (_, row, column) in pairs {
        if chosen[row].is_none() && !taken[column] {
            chosen[row] = Some(column);
            taken[column] = true;
        }
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_sees_no_detour() {
        let edge = |column, cost| Edge { column, cost };
        let rows = [vec![edge(0, 10), edge(1, 20)], vec![edge(0, 15), edge(1, 100)], vec![]];
        assert_eq!(cheapest_first(&rows), [Some(0), Some(1), None]);
    }
}
