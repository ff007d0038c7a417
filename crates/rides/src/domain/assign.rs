//! Who is asked for which ride, where several rides want the same drivers: the same question under two policies.
//!
//! A row is a ride with the drivers who may be asked and what each costs; an answer has a driver, or none, for each row, and no
//! driver twice. Costs are whole numbers, so that sums are exact.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// A driver for a row, by number, and what that costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edge {
    /// The driver's number.
    pub column: usize,
    /// Milliseconds of way, less what speaks for it; taken as [`MOST`] beyond it.
    pub cost: i64,
}

/// The largest cost, and below zero the smallest: 11 days.
pub const MOST: i64 = 1_000_000_000;
/// What it costs to leave a row without a driver: more than any driver for each of ten thousand rows.
const ALONE: i64 = 20_000 * MOST;
/// No row, no column.
const NONE: usize = usize::MAX;

/// Row by row: each takes the cheapest driver whom no row before has taken.
pub fn in_order(rows: &[Vec<Edge>]) -> Vec<Option<usize>> {
    let mut taken = vec![false; columns(rows)];
    let choose = |row: &Vec<Edge>| {
        let free = row.iter().filter(|edge| !taken[edge.column]);
        let chosen = free.min_by_key(|edge| (edge.cost, edge.column))?.column;
        taken[chosen] = true;
        Some(chosen)
    };
    rows.iter().map(choose).collect()
}

/// The same for any number of rows, in slices of at most so many: the rows of a slice choose among the drivers whom those before
/// left. Without slices the work grows with the square of the rows where drivers are few.
pub fn min_cost_in_slices(rows: &[Vec<Edge>], slice: usize) -> Vec<Option<usize>> {
    let mut taken = vec![false; columns(rows)];
    let mut chosen = Vec::with_capacity(rows.len());
    for rows in rows.chunks(slice.max(1)) {
        let free = |row: &Vec<Edge>| row.iter().filter(|edge| !taken[edge.column]).copied().collect();
        let here = min_cost(&rows.iter().map(free).collect::<Vec<Vec<Edge>>>());
        here.iter().flatten().for_each(|column| taken[*column] = true);
        chosen.extend(here);
    }
    chosen
}

/// As many rows as possible have a driver, and of all such choices this is one of the cheapest. Each row is added by a shortest
/// augmenting path over reduced costs (Jonker and Volgenant 1987, over the edges that there are); a row may also stay alone, for
/// a price that no other choice reaches.
pub fn min_cost(rows: &[Vec<Edge>]) -> Vec<Option<usize>> {
    let drivers = columns(rows);
    // Behind the drivers each row has a column of its own, for staying alone.
    let mut search = Search::new(drivers + rows.len());
    let mut matched = Matched { row_of: vec![NONE; drivers + rows.len()], of_row: vec![(NONE, 0); rows.len()] };
    for start in 0..rows.len() {
        let end = search.run(rows, drivers, start, &matched);
        matched.turn(&search, start, end);
    }
    matched.of_row.into_iter().map(|(column, _)| (column < drivers).then_some(column)).collect()
}

fn columns(rows: &[Vec<Edge>]) -> usize {
    rows.iter().flatten().map(|edge| edge.column + 1).max().unwrap_or(0)
}

/// Who has whom so far.
struct Matched {
    /// The row of each column.
    row_of: Vec<usize>,
    /// The column of each row, and its cost.
    of_row: Vec<(usize, i64)>,
}

impl Matched {
    /// Gives each row on the path that ends in `end` the column after it.
    fn turn(&mut self, search: &Search, start: usize, end: usize) {
        let mut column = end;
        loop {
            let (row, cost) = search.before[column];
            let (next, _) = std::mem::replace(&mut self.of_row[row], (column, cost));
            self.row_of[column] = row;
            if row == start {
                return;
            }
            column = next;
        }
    }
}

/// The search for a shortest path; what it knows of columns stays between searches.
struct Search {
    /// What each column costs beside its edges: zero, and less the more it is wanted.
    price: Vec<i64>,
    far: Vec<i64>,
    /// Row and cost by which each column is reached.
    before: Vec<(usize, i64)>,
    done: Vec<bool>,
    reached: Vec<usize>,
    next: BinaryHeap<Reverse<(i64, usize)>>,
}

impl Search {
    fn new(columns: usize) -> Self {
        Self {
            price: vec![0; columns],
            far: vec![i64::MAX; columns],
            before: vec![(NONE, 0); columns],
            done: vec![false; columns],
            reached: Vec::new(),
            next: BinaryHeap::new(),
        }
    }

    /// The free column that ends the shortest path from a row.
    fn run(&mut self, rows: &[Vec<Edge>], drivers: usize, start: usize, matched: &Matched) -> usize {
        for column in self.reached.drain(..) {
            self.far[column] = i64::MAX;
            self.done[column] = false;
        }
        self.next.clear();
        // The way to the row, less what the row pays.
        let (mut row, mut way) = (start, 0);
        let end = loop {
            for edge in &rows[row] {
                self.reach(edge.column, row, edge.cost.clamp(-MOST, MOST), way);
            }
            self.reach(drivers + row, row, ALONE, way);
            // There is always one: nobody has the start's own column.
            let column = self.nearest().unwrap_or(drivers + start);
            row = matched.row_of[column];
            if row == NONE {
                break column;
            }
            way = self.far[column] - (matched.of_row[row].1 - self.price[column]);
        };
        let whole = self.far[end];
        for &column in self.reached.iter().filter(|column| self.done[**column]) {
            self.price[column] += self.far[column] - whole;
        }
        end
    }

    fn reach(&mut self, column: usize, row: usize, cost: i64, way: i64) {
        let far = way + cost - self.price[column];
        if self.done[column] || far >= self.far[column] {
            return;
        }
        if self.far[column] == i64::MAX {
            self.reached.push(column);
        }
        self.far[column] = far;
        self.before[column] = (row, cost);
        self.next.push(Reverse((far, column)));
    }

    /// The nearest column that is not done, which it is from now on.
    fn nearest(&mut self) -> Option<usize> {
        loop {
            let Reverse((_, column)) = self.next.pop()?;
            if !self.done[column] {
                self.done[column] = true;
                return Some(column);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::{btree_map, vec};
    use proptest::prelude::*;

    use super::*;

    /// How many rows have nobody, and what the others cost.
    fn price(rows: &[Vec<Edge>], chosen: &[Option<usize>]) -> (usize, i64) {
        assert_eq!(rows.len(), chosen.len());
        let mut taken: Vec<usize> = chosen.iter().flatten().copied().collect();
        taken.sort_unstable();
        assert!(taken.windows(2).all(|pair| pair[0] != pair[1]), "a driver twice: {chosen:?}");
        let cost = |(row, column): (&Vec<Edge>, &Option<usize>)| {
            let column = (*column)?;
            Some(row.iter().find(|edge| edge.column == column).expect("an edge of the row").cost)
        };
        let costs: Vec<Option<i64>> = rows.iter().zip(chosen).map(cost).collect();
        (costs.iter().filter(|cost| cost.is_none()).count(), costs.iter().flatten().sum())
    }

    /// The best of all choices.
    fn brute_force(rows: &[Vec<Edge>], taken: &mut Vec<usize>) -> (usize, i64) {
        let Some((row, rest)) = rows.split_first() else { return (0, 0) };
        let (alone, cost) = brute_force(rest, taken);
        let mut best = (alone + 1, cost);
        for edge in row {
            if taken.contains(&edge.column) {
                continue;
            }
            taken.push(edge.column);
            let (alone, cost) = brute_force(rest, taken);
            taken.pop();
            best = best.min((alone, cost + edge.cost));
        }
        best
    }

    fn rows(most_rows: usize, columns: usize) -> impl Strategy<Value = Vec<Vec<Edge>>> {
        let row = btree_map(0..columns, -500_i64..500, 0..=columns.min(6));
        let row = row.prop_map(|row| row.into_iter().map(|(column, cost)| Edge { column, cost }).collect());
        vec(row, 0..=most_rows)
    }

    proptest! {
        #[test]
        fn nothing_is_cheaper(rows in rows(6, 7)) {
            let found = price(&rows, &min_cost(&rows));
            prop_assert_eq!(found, brute_force(&rows, &mut Vec::new()));
        }

        #[test]
        fn the_other_policy_is_a_choice_too_and_not_better(rows in rows(40, 30)) {
            let best = price(&rows, &min_cost(&rows));
            prop_assert!(best <= price(&rows, &in_order(&rows)));
        }

        #[test]
        fn in_slices_it_is_a_choice_that_leaves_nobody_out_who_could_have_a_free_driver(
            rows in rows(40, 30),
            slice in 1_usize..50,
        ) {
            let chosen = min_cost_in_slices(&rows, slice);
            let (alone, _) = price(&rows, &chosen);
            prop_assert!(min_cost(&rows).iter().filter(|column| column.is_none()).count() <= alone);
            for (row, _) in rows.iter().zip(&chosen).filter(|(_, column)| column.is_none()) {
                prop_assert!(row.iter().all(|edge| chosen.contains(&Some(edge.column))));
            }
            if rows.len() <= slice {
                prop_assert_eq!(price(&rows, &chosen), price(&rows, &min_cost(&rows)));
            }
            if slice == 1 {
                prop_assert_eq!(chosen, in_order(&rows));
            }
        }

        /// Whoever has waited so much longer that no way makes up for it is not passed by.
        #[test]
        fn credit_for_waiting_keeps_the_place(
            rows in rows(25, 12),
            waited in vec(0_i64..10, 25),
        ) {
            // Ways differ by less than 1000; a unit of waiting is worth as much.
            let credited: Vec<Vec<Edge>> = rows.iter().zip(&waited).map(|(row, waited)| {
                row.iter().map(|edge| Edge { cost: edge.cost - 1_000 * waited, ..*edge }).collect()
            }).collect();
            let chosen = min_cost(&credited);
            for (row, edges) in rows.iter().enumerate().filter(|(row, _)| chosen[*row].is_none()) {
                for edge in edges {
                    let holder = chosen.iter().position(|other| *other == Some(edge.column));
                    let holder = holder.expect("a driver who is free is given to who has nobody");
                    prop_assert!(waited[holder] >= waited[row], "{row} waited longer than {holder}");
                }
            }
        }
    }

    #[test]
    fn a_detour_for_one_saves_more_for_another() {
        let edge = |column, cost| Edge { column, cost };
        let rows = [vec![edge(0, 10), edge(1, 20)], vec![edge(0, 15), edge(1, 100)]];
        assert_eq!(min_cost(&rows), [Some(1), Some(0)]);
        assert_eq!(in_order(&rows), [Some(0), Some(1)]);
        assert!(min_cost(&[]).is_empty());
    }

    #[test]
    fn extreme_costs_do_not_overflow() {
        let rows: Vec<Vec<Edge>> = (0..300)
            .map(|row| (0..10).map(|n| Edge { column: (row + n) % 250, cost: i64::MIN + row as i64 }).collect())
            .chain((0..300).map(|row| vec![Edge { column: row, cost: i64::MAX }]))
            .collect();
        assert_eq!(min_cost(&rows).iter().flatten().count(), 300);
    }
}
