// SPDX-License-Identifier: MIT OR Apache-2.0
//! The open directories of source and copy. Everything else is reached from them by a
//! single name, so that no other user can interpose a symbolic link.

use crate::meta::Meta;

/// The two given directories.
pub const ROOT: usize = 0;

/// A directory that is open on both sides until everything below it is copied.
#[derive(Debug)]
pub struct Node {
    /// The root is its own parent.
    pub parent: usize,
    /// Its name in the parent; empty for the root.
    pub name: Box<[u8]>,
    pub source: i32,
    pub target: i32,
    /// Of the source.
    pub meta: Meta,
    /// Number of entries that are not copied yet, and its own listing.
    pub pending: usize,
    /// The copy of the directory may have another owner or group than its source.
    pub set_owner: bool,
    /// Files made in the copy may get another owner or group than ours.
    pub foreign: bool,
    /// Files made in the copy inherit an access control list.
    pub acl: bool,
    pub failed: bool,
}

/// All open directories.
#[derive(Debug, Default)]
pub struct Nodes {
    all: Vec<Option<Node>>,
    free: Vec<usize>,
}

impl Nodes {
    /// Returns how many are open.
    pub fn open(&self) -> usize {
        self.all.len() - self.free.len()
    }

    pub fn add(&mut self, node: Node) -> usize {
        match self.free.pop() {
            Some(id) => {
                self.all[id] = Some(node);
                id
            }
            None => {
                self.all.push(Some(node));
                self.all.len() - 1
            }
        }
    }

    /// Removes a directory that is complete and closed.
    pub fn remove(&mut self, id: usize) -> Node {
        let node = self.all[id].take().expect("an open directory");
        self.free.push(id);
        node
    }

    pub fn get(&self, id: usize) -> &Node {
        self.all[id].as_ref().expect("an open directory")
    }

    pub fn get_mut(&mut self, id: usize) -> &mut Node {
        self.all[id].as_mut().expect("an open directory")
    }

    /// Returns the path of a directory from the root; "." for the root itself.
    pub fn path(&self, id: usize) -> Vec<u8> {
        let mut path = self.path_of(id, b"");
        path.pop();
        if path.is_empty() {
            path.push(b'.');
        }
        path
    }

    /// Returns the path from the root of a name in a directory.
    pub fn path_of(&self, dir: usize, name: &[u8]) -> Vec<u8> {
        let mut names = vec![name];
        let mut at = dir;
        while at != ROOT {
            let node = self.get(at);
            names.push(&node.name);
            at = node.parent;
        }
        names.reverse();
        names.join(&b'/')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(parent: usize, name: &[u8]) -> Node {
        Node {
            parent,
            name: name.into(),
            source: -1,
            target: -1,
            meta: Meta::NONE,
            pending: 1,
            set_owner: false,
            foreign: false,
            acl: false,
            failed: false,
        }
    }

    #[test]
    fn paths_begin_below_the_root() {
        let mut nodes = Nodes::default();
        assert_eq!(nodes.add(node(ROOT, b"")), ROOT);
        let a = nodes.add(node(ROOT, b"a"));
        let b = nodes.add(node(a, b"b"));
        assert_eq!(nodes.path(ROOT), b".");
        assert_eq!(nodes.path(b), b"a/b");
        assert_eq!(nodes.path_of(ROOT, b"x"), b"x");
        assert_eq!(nodes.path_of(b, b"x"), b"a/b/x");
        nodes.remove(b);
        assert_eq!(nodes.open(), 2);
        assert_eq!(nodes.add(node(a, b"c")), b);
    }
}
