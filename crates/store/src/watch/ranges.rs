//! Which intervals contain a key: a search tree by start and end in which each node knows how far its subtree reaches.
//!
//! The tree is a treap. Its priorities are hashes of the intervals, so its shape depends only on what it holds.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

use super::hub::Interest;
use crate::mvcc::{End, Interval};

type Link = Option<Box<Node>>;

/// Interests in intervals of more than one key.
#[derive(Default)]
pub(super) struct Ranges {
    root: Link,
}

struct Node {
    interval: Interval,
    priority: u64,
    /// The farthest end in this subtree.
    reach: End,
    interests: Vec<Arc<Interest>>,
    left: Link,
    right: Link,
}

impl Ranges {
    pub(super) fn is_empty(&self) -> bool {
        self.root.is_none()
    }

    pub(super) fn insert(&mut self, interest: Arc<Interest>) {
        let root = self.root.take();
        self.root = Some(insert(root, interest));
    }

    pub(super) fn remove(&mut self, interest: &Interest) {
        let root = self.root.take();
        self.root = remove(root, interest);
    }

    /// Calls `visit` for the interests whose interval contains the key.
    pub(super) fn containing(&self, key: &[u8], visit: &mut dyn FnMut(&Arc<Interest>)) {
        containing(&self.root, key, visit);
    }

    /// Calls `visit` for all interests.
    pub(super) fn each(&self, visit: &mut dyn FnMut(&Arc<Interest>)) {
        each(&self.root, visit);
    }

    /// Takes everything out.
    pub(super) fn drain(&mut self) -> Vec<Arc<Interest>> {
        let mut all = Vec::new();
        let mut rest: Vec<Box<Node>> = self.root.take().into_iter().collect();
        while let Some(mut node) = rest.pop() {
            rest.extend(node.left.take());
            rest.extend(node.right.take());
            all.append(&mut node.interests);
        }
        all
    }
}

impl Node {
    fn new(interest: Arc<Interest>) -> Self {
        let mut hasher = DefaultHasher::new();
        interest.interval.hash(&mut hasher);
        Self {
            interval: interest.interval.clone(),
            priority: hasher.finish(),
            reach: interest.interval.end.clone(),
            interests: vec![interest],
            left: None,
            right: None,
        }
    }

    fn order(&self, interval: &Interval) -> std::cmp::Ordering {
        let own = (&self.interval.start, &self.interval.end);
        (&interval.start, &interval.end).cmp(&own)
    }

    fn with_reach(mut self: Box<Self>) -> Box<Self> {
        let children = [&self.left, &self.right].into_iter().flatten();
        let farthest = children.map(|child| &child.reach).max();
        self.reach = match farthest {
            Some(reach) if *reach > self.interval.end => reach.clone(),
            _ => self.interval.end.clone(),
        };
        self
    }
}

fn insert(link: Link, interest: Arc<Interest>) -> Box<Node> {
    let Some(mut node) = link else {
        return Box::new(Node::new(interest));
    };
    match node.order(&interest.interval) {
        std::cmp::Ordering::Equal => {
            node.interests.push(interest);
            node
        }
        std::cmp::Ordering::Less => {
            let left = insert(node.left.take(), interest);
            match left.priority > node.priority {
                true => rotate_right(node, left),
                false => {
                    node.left = Some(left);
                    node.with_reach()
                }
            }
        }
        std::cmp::Ordering::Greater => {
            let right = insert(node.right.take(), interest);
            match right.priority > node.priority {
                true => rotate_left(node, right),
                false => {
                    node.right = Some(right);
                    node.with_reach()
                }
            }
        }
    }
}

/// Puts `left` above `node`, whose left child it was.
fn rotate_right(mut node: Box<Node>, mut left: Box<Node>) -> Box<Node> {
    node.left = left.right.take();
    left.right = Some(node.with_reach());
    left.with_reach()
}

/// Puts `right` above `node`, whose right child it was.
fn rotate_left(mut node: Box<Node>, mut right: Box<Node>) -> Box<Node> {
    node.right = right.left.take();
    right.left = Some(node.with_reach());
    right.with_reach()
}

fn remove(link: Link, interest: &Interest) -> Link {
    let mut node = link?;
    match node.order(&interest.interval) {
        std::cmp::Ordering::Equal => {
            node.interests
                .retain(|other| other.watcher != interest.watcher);
            if node.interests.is_empty() {
                return merge(node.left, node.right);
            }
        }
        std::cmp::Ordering::Less => node.left = remove(node.left.take(), interest),
        std::cmp::Ordering::Greater => node.right = remove(node.right.take(), interest),
    }
    Some(node.with_reach())
}

/// Joins two trees of which the first lies wholly before the second.
fn merge(left: Link, right: Link) -> Link {
    match (left, right) {
        (None, link) | (link, None) => link,
        (Some(mut left), Some(mut right)) => Some(match left.priority > right.priority {
            true => {
                left.right = merge(left.right.take(), Some(right));
                left.with_reach()
            }
            false => {
                right.left = merge(Some(left), right.left.take());
                right.with_reach()
            }
        }),
    }
}

fn containing(link: &Link, key: &[u8], visit: &mut dyn FnMut(&Arc<Interest>)) {
    let Some(node) = link else {
        return;
    };
    let beyond_reach = matches!(&node.reach, End::Before(end) if &end[..] <= key);
    if beyond_reach {
        return;
    }
    containing(&node.left, key, visit);
    if node.interval.start <= key {
        if node.interval.contains(key) {
            node.interests.iter().for_each(&mut *visit);
        }
        containing(&node.right, key, visit);
    }
}

fn each(link: &Link, visit: &mut dyn FnMut(&Arc<Interest>)) {
    if let Some(node) = link {
        each(&node.left, visit);
        node.interests.iter().for_each(&mut *visit);
        each(&node.right, visit);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::watch::inbox::{Inbox, Watcher};

    fn interest(id: u64, start: u8, end: u8) -> Arc<Interest> {
        let end = match end {
            0 => Bytes::from_static(b"\0"),
            end => Bytes::copy_from_slice(&[end]),
        };
        let interval = Interval::new(&Bytes::copy_from_slice(&[start]), &end);
        let watcher = Watcher {
            interest: id,
            watch_id: 0,
        };
        Arc::new(Interest::new(
            watcher,
            interval,
            0,
            Default::default(),
            Arc::new(Inbox::new(0)),
        ))
    }

    #[test]
    fn finds_what_a_plain_list_finds() {
        let mut ranges = Ranges::default();
        let mut plain: Vec<Arc<Interest>> = Vec::new();
        let mut seed = 1_u32;
        let mut next = |bound: u32| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 8) % bound
        };
        for id in 0..3000 {
            if next(3) == 0 && !plain.is_empty() {
                let victim = plain.swap_remove(next(plain.len() as u32) as usize);
                ranges.remove(&victim);
            } else {
                let start = 1 + next(60) as u8;
                let end = if next(9) == 0 {
                    0
                } else {
                    start + 1 + next(20) as u8
                };
                plain.push(interest(id, start, end));
                ranges.insert(plain[plain.len() - 1].clone());
            }
            let key = [next(90) as u8];
            let mut found = Vec::new();
            ranges.containing(&key, &mut |interest| found.push(interest.watcher.interest));
            found.sort_unstable();
            let containing = plain
                .iter()
                .filter(|interest| interest.interval.contains(&key));
            let mut expected: Vec<u64> = containing
                .map(|interest| interest.watcher.interest)
                .collect();
            expected.sort_unstable();
            assert_eq!(found, expected, "step {id}");
        }
        assert_eq!(ranges.drain().len(), plain.len());
        assert!(ranges.is_empty());
    }
}
