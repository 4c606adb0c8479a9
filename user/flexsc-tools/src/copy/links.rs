// SPDX-License-Identifier: MIT OR Apache-2.0
//! Files with several names: the first name found is copied, and the others become links to
//! that copy.

use std::collections::HashMap;

use crate::meta::Id;

/// A name that was not copied yet.
#[derive(Debug, PartialEq, Eq)]
pub struct Place {
    /// Its directory, which stays open meanwhile.
    pub node: usize,
    pub name: Box<[u8]>,
}

/// The copy that further names are linked to.
#[derive(Debug)]
pub struct First {
    /// The directory's path in the copy.
    pub dir: Box<[u8]>,
    pub name: Box<[u8]>,
    /// The identity of the copy.
    pub id: Id,
}

#[derive(Debug)]
enum State {
    /// The file is being copied, and these names wait for it.
    InWork(Vec<Place>),
    Copied(First),
}

/// What to do with a name.
#[derive(Debug, PartialEq, Eq)]
pub enum Claim {
    /// Copy it, because it is the first.
    Copy,
    /// Nothing now, because it waits for the first.
    Wait,
    /// Link it.
    Link,
}

/// All files with several names, by their identity in the source.
#[derive(Debug, Default)]
pub struct Links {
    files: HashMap<Id, State>,
}

impl Links {
    /// Returns what to do with another name of the file.
    pub fn claim(&mut self, file: Id, place: impl FnOnce() -> Place) -> Claim {
        match self.files.get_mut(&file) {
            None => {
                self.files.insert(file, State::InWork(Vec::new()));
                Claim::Copy
            }
            Some(State::InWork(waiting)) => {
                waiting.push(place());
                Claim::Wait
            }
            Some(State::Copied(_)) => Claim::Link,
        }
    }

    /// Records that the first name was copied, or `None` if that has failed. Returns the
    /// names that have waited for it.
    pub fn finished(&mut self, file: Id, first: Option<First>) -> Vec<Place> {
        let state = match first {
            Some(first) => self.files.insert(file, State::Copied(first)),
            None => self.files.remove(&file),
        };
        match state {
            Some(State::InWork(waiting)) => waiting,
            _ => Vec::new(),
        }
    }

    /// Returns the copy of the first name.
    pub fn first(&self, file: Id) -> Option<&First> {
        match self.files.get(&file) {
            Some(State::Copied(first)) => Some(first),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(name: &[u8]) -> Place {
        Place {
            node: 0,
            name: name.into(),
        }
    }

    #[test]
    fn others_wait_for_the_first() {
        let mut links = Links::default();
        let file = (8, 1, 77);
        assert_eq!(links.claim(file, || unreachable!()), Claim::Copy);
        assert_eq!(links.claim(file, || place(b"b")), Claim::Wait);
        // The first copy fails, so the next name becomes the first.
        assert_eq!(links.finished(file, None), [place(b"b")]);
        assert_eq!(links.claim(file, || unreachable!()), Claim::Copy);
        assert_eq!(links.claim(file, || place(b"c")), Claim::Wait);
        let first = First {
            dir: b"."[..].into(),
            name: b"b"[..].into(),
            id: (1, 2, 3),
        };
        assert_eq!(links.finished(file, Some(first)), [place(b"c")]);
        assert_eq!(links.claim(file, || unreachable!()), Claim::Link);
        assert_eq!(links.first(file).unwrap().id, (1, 2, 3));
    }
}
