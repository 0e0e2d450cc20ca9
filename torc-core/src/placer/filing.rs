//! Which indexes a node is filed in.
//!
//! Owns: the moves between indexes when a node changes. Does not know: why it changed. Invariant: a
//! usable node is counted by what it has; if its site is not closed, it is in the index of its group
//! by what it has free, and in the idle runs of its site exactly when nothing runs on it; any other
//! node is in none of them. A node is among the next ends exactly while the end of a step there is known.

use super::amounts::Total;
use super::fleet::{Fleet, NEVER, Site};
use super::index::Entry;
use super::node::Node;

/// Whether a node is put into an index or taken out.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Filing {
    In,
    Out,
}

impl Fleet {
    /// Changes a node, filing it anew.
    pub(super) fn change(&mut self, slot: u32, change: impl FnOnce(&mut Node)) {
        let before = self.standing(slot);
        if before.0 {
            self.file_free(slot, Filing::Out);
        }
        let node = &mut self.nodes[slot as usize];
        let next_end = node.next_end;
        change(node);
        if node.next_end != next_end {
            self.next_ends.remove(&(next_end, slot));
            if node.next_end != NEVER {
                self.next_ends.insert((node.next_end, slot));
            }
        }
        let after = self.standing(slot);
        if after.0 {
            self.file_free(slot, Filing::In);
        }
        if before != after {
            let node = &self.nodes[slot as usize];
            let (position, total, site) = (node.position, node.total, node.site);
            if let Some(Some(site)) = self.sites.get_mut(site as usize) {
                file_idle(site, (position, total), before, Filing::Out);
                file_idle(site, (position, total), after, Filing::In);
            }
        }
    }

    /// Whether a node may be given work now, is idle, and is held.
    fn standing(&self, slot: u32) -> (bool, bool, bool) {
        let node = &self.nodes[slot as usize];
        let is_open = self.site(node.site).is_some_and(|site| !site.is_closed);
        (is_open && node.is_usable(), node.is_idle(), node.held)
    }

    /// Closes a site, or opens it.
    pub(super) fn set_closed(&mut self, index: u32, is_closed: bool) {
        let Some(Some(site)) = self.sites.get_mut(index as usize) else { return };
        site.is_closed = false;
        let slots = site.slots();
        let filing = if is_closed { Filing::Out } else { Filing::In };
        for slot in slots {
            self.file_open(slot, filing);
        }
        if let Some(Some(site)) = self.sites.get_mut(index as usize) {
            site.is_closed = is_closed;
        }
    }

    /// Files a usable node under what it has free, or takes it out.
    fn file_free(&mut self, slot: u32, filing: Filing) {
        let node = &self.nodes[slot as usize];
        let Some(Some(site)) = self.sites.get(node.site as usize) else { return };
        let pool = &mut self.pools[site.pool as usize];
        let Some(group) = pool.groups.get_mut(&site.group_key()) else { return };
        let entry: Entry = (node.free, node.id, slot);
        let index = &mut group.free[usize::from(node.held)];
        if filing == Filing::In {
            index.insert(entry);
        } else {
            index.remove(&entry);
        }
    }

    /// Counts a usable node under what it has, or takes it out of the count.
    pub(super) fn file_shape(&mut self, slot: u32, filing: Filing) {
        let node = &self.nodes[slot as usize];
        let Some(Some(site)) = self.sites.get_mut(node.site as usize) else { return };
        if !node.is_usable() {
            return;
        }
        let pool = &mut self.pools[site.pool as usize];
        let Some(group) = pool.groups.get_mut(&site.group_key()) else { return };
        let count = |nodes: &mut u32| {
            *nodes = if filing == Filing::In { *nodes + 1 } else { nodes.saturating_sub(1) };
        };
        if node.total.most_jobs.is_some() {
            count(&mut group.counting_jobs);
        }
        for shapes in [&mut site.shapes, &mut group.shapes] {
            let nodes = shapes.entry(node.total).or_default();
            count(nodes);
            if *nodes == 0 {
                shapes.remove(&node.total);
            }
        }
    }

    /// Files a site and all of its nodes.
    pub(super) fn link_site(&mut self, index: u32) {
        let Some(Some(site)) = self.sites.get(index as usize) else { return };
        let (pool, key, id, slots) =
            (site.pool, site.group_key(), site.allocation.id, site.slots());
        self.pools[pool as usize].groups.entry(key).or_default().sites.insert((id, index));
        for slot in slots {
            self.file_node(slot, Filing::In);
        }
    }

    /// Takes a site and all of its nodes out.
    pub(super) fn unlink_site(&mut self, index: u32) {
        let Some(Some(site)) = self.sites.get(index as usize) else { return };
        let (pool, key, id, slots) =
            (site.pool, site.group_key(), site.allocation.id, site.slots());
        for slot in slots {
            self.file_node(slot, Filing::Out);
        }
        let groups = &mut self.pools[pool as usize].groups;
        if let Some(group) = groups.get_mut(&key) {
            group.sites.remove(&(id, index));
            if group.sites.is_empty() {
                groups.remove(&key);
            }
        }
    }

    /// Files a node everywhere, or takes it out everywhere.
    fn file_node(&mut self, slot: u32, filing: Filing) {
        self.file_shape(slot, filing);
        self.file_open(slot, filing);
    }

    /// Files a node where it is found for new work, or takes it out.
    fn file_open(&mut self, slot: u32, filing: Filing) {
        let standing = self.standing(slot);
        if !standing.0 {
            return;
        }
        self.file_free(slot, filing);
        let node = &self.nodes[slot as usize];
        if let Some(Some(site)) = self.sites.get_mut(node.site as usize) {
            file_idle(site, (node.position, node.total), standing, filing);
        }
    }
}

/// Files a node as idle, or takes it out, if by (usable, idle, held) it belongs there.
fn file_idle(
    site: &mut Site,
    (position, total): (u32, Total),
    (usable, idle, held): (bool, bool, bool),
    filing: Filing,
) {
    if !(usable && idle) {
        return;
    }
    let side = usize::from(held);
    let runs = &mut site.idle.entry(total).or_default()[side];
    if filing == Filing::In {
        runs.insert(position);
        site.idle_count[side] += 1;
    } else {
        runs.remove(position);
        site.idle_count[side] = site.idle_count[side].saturating_sub(1);
    }
}
