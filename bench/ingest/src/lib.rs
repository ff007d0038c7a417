//! What the parts of this benchmark share: the rows that are served, and the ids by which their arrival is checked.

pub mod rows;
