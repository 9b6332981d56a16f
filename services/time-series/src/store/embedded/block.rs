//! Decoded rows of one series, column by column, sorted by time.

use super::codec::CellRef;
use crate::cell::{Cell, Form, Kind};

/// Which attributes a reader wants, with their kinds.
pub(crate) type Wanted = [(u32, Kind)];

/// Rows of one series. Rows of one instant stand in order of arrival.
#[derive(Debug, Default, Clone, PartialEq)]
pub(crate) struct Block {
    pub(crate) times: Vec<i64>,
    pub(crate) columns: Vec<Column>,
}

/// The values of one attribute, as many as the block has rows; where `present` is false the value means nothing.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Column {
    pub(crate) attribute: u32,
    pub(crate) present: Vec<bool>,
    pub(crate) values: Values,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Values {
    Float(Vec<f64>),
    Int(Vec<i64>),
    Bool(Vec<bool>),
    Text(Vec<String>),
}

impl Values {
    pub(crate) fn new(form: Form) -> Self {
        match form {
            Form::Float => Self::Float(Vec::new()),
            Form::Int => Self::Int(Vec::new()),
            Form::Bool => Self::Bool(Vec::new()),
            Form::Text => Self::Text(Vec::new()),
        }
    }

    pub(crate) fn form(&self) -> Form {
        match self {
            Self::Float(_) => Form::Float,
            Self::Int(_) => Form::Int,
            Self::Bool(_) => Form::Bool,
            Self::Text(_) => Form::Text,
        }
    }

    fn resize(&mut self, rows: usize) {
        match self {
            Self::Float(values) => values.resize(rows, 0.0),
            Self::Int(values) => values.resize(rows, 0),
            Self::Bool(values) => values.resize(rows, false),
            Self::Text(values) => values.resize(rows, String::new()),
        }
    }

    fn pick(&self, rows: &[usize]) -> Self {
        match self {
            Self::Float(values) => Self::Float(rows.iter().map(|row| values[*row]).collect()),
            Self::Int(values) => Self::Int(rows.iter().map(|row| values[*row]).collect()),
            Self::Bool(values) => Self::Bool(rows.iter().map(|row| values[*row]).collect()),
            Self::Text(values) => Self::Text(rows.iter().map(|row| values[*row].clone()).collect()),
        }
    }
}

impl Column {
    pub(crate) fn empty(attribute: u32, form: Form, rows: usize) -> Self {
        let mut values = Values::new(form);
        values.resize(rows);
        Self { attribute, present: vec![false; rows], values }
    }

    /// Sets the value of a row; a value of another form than the column's is a null.
    pub(crate) fn set(&mut self, row: usize, cell: CellRef<'_>) {
        let fits = match (&mut self.values, cell) {
            (Values::Float(values), CellRef::Float(value)) => values.get_mut(row).map(|to| *to = value),
            (Values::Int(values), CellRef::Int(value)) => values.get_mut(row).map(|to| *to = value),
            (Values::Bool(values), CellRef::Bool(value)) => values.get_mut(row).map(|to| *to = value),
            (Values::Text(values), CellRef::Text(value)) => {
                values.get_mut(row).map(|to| value.clone_into(to))
            }
            _ => None,
        };
        if fits.is_some() {
            self.present[row] = true;
        }
    }

    pub(crate) fn cell(&self, row: usize) -> Cell {
        if !self.present[row] {
            return Cell::Null;
        }
        match &self.values {
            Values::Float(values) => Cell::Float(values[row]),
            Values::Int(values) => Cell::Int(values[row]),
            Values::Bool(values) => Cell::Bool(values[row]),
            Values::Text(values) => Cell::Text(values[row].clone()),
        }
    }

    fn as_ref(&self, row: usize) -> CellRef<'_> {
        if !self.present[row] {
            return CellRef::Null;
        }
        match &self.values {
            Values::Float(values) => CellRef::Float(values[row]),
            Values::Int(values) => CellRef::Int(values[row]),
            Values::Bool(values) => CellRef::Bool(values[row]),
            Values::Text(values) => CellRef::Text(&values[row]),
        }
    }
}

impl Block {
    pub(crate) fn rows(&self) -> usize {
        self.times.len()
    }

    pub(crate) fn column(&self, attribute: u32) -> Option<&Column> {
        self.columns.iter().find(|column| column.attribute == attribute)
    }

    /// The rows at these places, in this order.
    pub(crate) fn pick(&self, rows: &[usize]) -> Self {
        let pick = |column: &Column| Column {
            attribute: column.attribute,
            present: rows.iter().map(|row| column.present[*row]).collect(),
            values: column.values.pick(rows),
        };
        Self {
            times: rows.iter().map(|row| self.times[*row]).collect(),
            columns: self.columns.iter().map(pick).collect(),
        }
    }

    /// Sorts by time; rows of one instant keep their order.
    pub(crate) fn sorted(self) -> Self {
        if self.times.is_sorted() {
            return self;
        }
        let mut order: Vec<usize> = (0..self.rows()).collect();
        order.sort_by_key(|row| self.times[*row]);
        self.pick(&order)
    }

    /// The rows of both, those of `later` having arrived later.
    pub(crate) fn merged(mut self, later: &Self) -> Self {
        let (before, rows) = (self.rows(), self.rows() + later.rows());
        self.times.extend_from_slice(&later.times);
        for column in &mut self.columns {
            column.present.resize(rows, false);
            column.values.resize(rows);
        }
        for added in &later.columns {
            let at = self.columns.iter().position(|column| column.attribute == added.attribute);
            let at = at.unwrap_or_else(|| {
                self.columns.push(Column::empty(added.attribute, added.values.form(), rows));
                self.columns.len() - 1
            });
            for row in 0..later.rows() {
                self.columns[at].set(before + row, added.as_ref(row));
            }
        }
        self.sorted()
    }

    /// Places of the rows within the two instants, both inclusive. The block is sorted.
    pub(crate) fn range(&self, from_us: i64, to_us: i64) -> std::ops::Range<usize> {
        let start = self.times.partition_point(|at| *at < from_us);
        let end = self.times.partition_point(|at| *at <= to_us);
        start..end.max(start)
    }
}
