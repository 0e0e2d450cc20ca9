//! What is known of jobs or nodes, by their numbers.
//!
//! Owns: the memory, in pages of neighbours. Does not know: what is kept. Invariant: a page lives while
//! a number of it is in the table, so that the memory follows the jobs that wait or run and not all that ever did.
//!
//! The engine numbers jobs and nodes one after the other, so that a place in a table costs less than a
//! place in a map, and neighbours in time are neighbours in memory.

/// Numbers of a page.
const PAGE: usize = 1024;

/// A value for some numbers.
#[derive(Debug)]
pub(super) struct IdTable<T> {
    pages: Vec<Page<T>>,
}

#[derive(Debug)]
struct Page<T> {
    /// Empty when nothing is kept.
    entries: Box<[Option<T>]>,
    used: usize,
}

impl<T> Default for IdTable<T> {
    fn default() -> Self {
        Self { pages: Vec::new() }
    }
}

impl<T> IdTable<T> {
    pub(super) fn get(&self, number: u32) -> Option<&T> {
        let (page, entry) = place(number);
        self.pages.get(page)?.entries.get(entry)?.as_ref()
    }

    pub(super) fn contains(&self, number: u32) -> bool {
        self.get(number).is_some()
    }

    /// Keeps a value for a number that has none, or another than it has.
    pub(super) fn insert(&mut self, number: u32, value: T) {
        let (page, entry) = place(number);
        if page >= self.pages.len() {
            if let Some(last) = self.pages.last_mut().filter(|last| last.used == 0) {
                last.entries = Box::default();
            }
            self.pages.resize_with(page + 1, || Page { entries: Box::default(), used: 0 });
        }
        let page = &mut self.pages[page];
        if page.entries.is_empty() {
            page.entries = (0..PAGE).map(|_| None).collect();
        }
        page.used += usize::from(page.entries[entry].replace(value).is_none());
    }

    pub(super) fn remove(&mut self, number: u32) -> Option<T> {
        let (index, entry) = place(number);
        let is_last = index + 1 == self.pages.len();
        let page = self.pages.get_mut(index)?;
        let value = page.entries.get_mut(entry)?.take()?;
        page.used -= 1;
        // The next number is of the last page, as a rule.
        if page.used == 0 && !is_last {
            page.entries = Box::default();
        }
        Some(value)
    }
}

fn place(number: u32) -> (usize, usize) {
    (number as usize / PAGE, number as usize % PAGE)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_table_keeps_what_a_map_keeps(
            changes in prop::collection::vec((0u32..4, 0u32..3, any::<Option<u8>>()), 0..60),
        ) {
            let (mut table, mut map) = (IdTable::default(), BTreeMap::new());
            for (page, place, change) in changes {
                let number = page * 1024 + place * 511;
                if let Some(value) = change {
                    table.insert(number, value);
                    map.insert(number, value);
                } else {
                    prop_assert_eq!(table.remove(number), map.remove(&number));
                }
                prop_assert_eq!(table.get(number), map.get(&number));
                prop_assert_eq!(table.contains(number), map.contains_key(&number));
                let live = table.pages.iter().filter(|page| !page.entries.is_empty()).count();
                let mut pages: Vec<_> = map.keys().map(|number| number / 1024).collect();
                pages.dedup();
                prop_assert!(live <= pages.len() + 1, "pages without a value are given back");
                let is_kept = |page: &Page<_>| !page.entries.is_empty();
                prop_assert!(table.pages.last().is_none_or(is_kept), "but for the last");
            }
        }
    }
}
