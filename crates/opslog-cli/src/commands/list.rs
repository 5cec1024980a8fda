//! `opslog list`: documents in insertion order. The table of documents is made here, for `query` and `segments` too.

use std::path::Path;

use crate::args::{ListOptions, Page};
use crate::expression::{FieldPath, parse, plain};
use crate::failure::{Failure, note};
use crate::open;
use crate::output::Output;
use crate::selection::Selection;

/// How many rows a table has unless more are asked for.
const ROWS: usize = 50;

pub(crate) fn run(
    directory: &Path,
    options: &ListOptions,
    output: &mut Output,
) -> Result<(), Failure> {
    let selection = Selection::of_conditions(&options.conditions);
    let store = open::read(directory)?;
    let mut listing = Listing::new(&options.page, output);
    selection.each(&store, |id, text| listing.push(id, text.as_str()))?;
    listing.finish()?;
    Ok(())
}

/// Documents on their way out: one by one as JSON, or gathered into a table.
pub(crate) struct Listing<'o> {
    output: &'o mut Output,
    limit: usize,
    /// Whether the limit was not asked for.
    limit_is_default: bool,
    columns: Vec<(String, FieldPath)>,
    rows: Vec<Vec<String>>,
    count: usize,
    more: bool,
}

impl<'o> Listing<'o> {
    pub(crate) fn new(page: &Page, output: &'o mut Output) -> Self {
        let default = if output.is_table() { ROWS } else { usize::MAX };
        let columns = page.columns.iter();
        Self {
            output,
            limit: page.limit.unwrap_or(default),
            limit_is_default: page.limit.is_none(),
            columns: columns
                .map(|name| (name.clone(), FieldPath::new(name)))
                .collect(),
            rows: Vec::new(),
            count: 0,
            more: false,
        }
    }

    /// Adds a document; false when there are enough of them.
    pub(crate) fn push(&mut self, id: &str, text: &str) -> Result<bool, Failure> {
        if self.count >= self.limit {
            self.more = true;
            return Ok(false);
        }
        self.count += 1;
        if self.output.is_table() {
            let row = self.row(id, text)?;
            self.rows.push(row);
        } else {
            self.output.document(id, text)?;
        }
        Ok(true)
    }

    fn row(&self, id: &str, text: &str) -> Result<Vec<String>, Failure> {
        let mut row = vec![id.to_owned()];
        if self.columns.is_empty() {
            row.push(text.to_owned());
            return Ok(row);
        }
        let document = parse(id, text)?;
        let cells = self.columns.iter();
        row.extend(cells.map(|(_, path)| path.find(&document).map(plain).unwrap_or_default()));
        Ok(row)
    }

    /// Writes the table.
    pub(crate) fn finish(self) -> Result<(), Failure> {
        if !self.output.is_table() {
            return Ok(());
        }
        if self.rows.is_empty() {
            note("no documents");
            return Ok(());
        }
        let mut header = vec!["id"];
        if self.columns.is_empty() {
            header.push("document");
        }
        header.extend(self.columns.iter().map(|(name, _)| name.as_str()));
        self.output.table(&header, &self.rows)?;
        if self.more && self.limit_is_default {
            self.output.flush()?;
            note(&format!(
                "these are the first {}; --limit 0 shows all",
                self.count
            ));
        }
        Ok(())
    }
}
