//! What is on a simulated disk: folders and files, each with what is live and what is durable.
//!
//! Invariant: applying all of a node's pending changes, in order, to its durable content gives its live content.
//! A crash applies some of them. Contents are shared between disks until one of them writes.

use std::collections::BTreeMap;
use std::io;
use std::path::{Component, Path};
use std::sync::Arc;
use std::time::Duration;

use twox_hash::XxHash3_64;

use crate::paths;

/// Answers one of `0..n`, for `n` of at least 2: which way the crash went.
pub(super) type Choose<'a> = &'a mut dyn FnMut(usize) -> usize;

pub(super) type NodeId = usize;

type Names = BTreeMap<Arc<str>, NodeId>;

#[derive(Clone)]
pub(super) struct Disk {
    nodes: Vec<Node>,
}

#[derive(Clone)]
enum Node {
    Folder(Arc<Folder>),
    File(Arc<Content>),
}

#[derive(Clone, Default)]
struct Folder {
    live: Names,
    durable: Names,
    pending: Vec<Change>,
}

/// One change of a folder's names. A rename is one change: it happens whole or not at all.
#[derive(Clone)]
enum Change {
    Link {
        name: Arc<str>,
        node: NodeId,
    },
    Unlink {
        name: Arc<str>,
    },
    Rename {
        from: Arc<str>,
        to: Arc<str>,
        node: NodeId,
    },
}

#[derive(Clone, Default)]
pub(super) struct Content {
    live: Arc<Vec<u8>>,
    durable: Arc<Vec<u8>>,
    pending: Vec<Edit>,
    /// The disk's time of the last write.
    pub(super) written: Duration,
}

#[derive(Clone)]
struct Edit {
    what: What,
    fate: Fate,
}

#[derive(Clone)]
enum What {
    Write { offset: usize, bytes: Arc<[u8]> },
    SetLength(usize),
}

/// What is known of an edit's way to the disk.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// Not synced yet.
    Open,
    /// A sync of it failed: the system has forgotten it, and no later sync writes it.
    Dropped,
    /// Synced after an earlier sync had failed.
    Synced,
}

/// The ways in which a crash may treat a write.
#[derive(Clone, Copy)]
enum Tear {
    Nothing,
    Whole,
    AtByte,
    Sectors(usize),
    SizeOnly,
}

impl Disk {
    pub(super) fn new() -> Self {
        Self {
            nodes: vec![Node::Folder(Arc::default())],
        }
    }

    /// One of the disks that may be left when the power goes now.
    pub(super) fn after_crash(&self, choose: Choose<'_>) -> Self {
        let nodes = self.nodes.iter().map(|node| match node {
            Node::Folder(folder) if !folder.pending.is_empty() => {
                Node::Folder(Arc::new(folder.after_crash(choose)))
            }
            Node::File(content) if !content.pending.is_empty() => {
                Node::File(Arc::new(content.after_crash(choose)))
            }
            unchanged => unchanged.clone(),
        });
        Self {
            nodes: nodes.collect(),
        }
    }

    /// How many changes are not durable.
    pub(super) fn pending(&self) -> usize {
        let counts = self.nodes.iter().map(|node| match node {
            Node::Folder(folder) => folder.pending.len(),
            Node::File(content) => content.pending.len(),
        });
        counts.sum()
    }

    /// A hash of all live names and contents.
    pub(super) fn fingerprint(&self) -> u64 {
        self.hash_folder(0, 0)
    }

    fn hash_folder(&self, node: NodeId, seed: u64) -> u64 {
        let names = self
            .folder(node)
            .into_iter()
            .flat_map(|folder| &folder.live);
        names.fold(seed, |hash, (name, node)| {
            if name.ends_with("lock") || name.starts_with(paths::LOCK) {
                return hash;
            }
            // `<name>.<process>-<number>.tmp`
            let name = match name.strip_suffix(".tmp") {
                Some(temporary) => temporary.rsplit_once('.').map_or("", |(name, _)| name),
                None => name,
            };
            let hash = XxHash3_64::oneshot_with_seed(hash, name.as_bytes());
            match self.nodes.get(*node) {
                Some(Node::File(content)) => XxHash3_64::oneshot_with_seed(hash, &content.live),
                _ => XxHash3_64::oneshot_with_seed(self.hash_folder(*node, hash), b"/"),
            }
        })
    }

    pub(super) fn find(&self, path: &Path) -> io::Result<NodeId> {
        let mut node = 0;
        for part in path.components() {
            if let Component::Normal(name) = part {
                let name = name.to_str().ok_or(io::ErrorKind::InvalidFilename)?;
                node = *self
                    .folder(node)?
                    .live
                    .get(name)
                    .ok_or(io::ErrorKind::NotFound)?;
            }
        }
        Ok(node)
    }

    pub(super) fn is_folder(&self, node: NodeId) -> bool {
        self.folder(node).is_ok()
    }

    fn folder(&self, node: NodeId) -> io::Result<&Folder> {
        match self.nodes.get(node) {
            Some(Node::Folder(folder)) => Ok(folder),
            _ => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    fn folder_mut(&mut self, node: NodeId) -> io::Result<&mut Folder> {
        match self.nodes.get_mut(node) {
            Some(Node::Folder(folder)) => Ok(Arc::make_mut(folder)),
            _ => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    pub(super) fn file(&self, node: NodeId) -> io::Result<&Content> {
        match self.nodes.get(node) {
            Some(Node::File(content)) => Ok(content),
            _ => Err(io::ErrorKind::IsADirectory.into()),
        }
    }

    pub(super) fn file_mut(&mut self, node: NodeId) -> io::Result<&mut Content> {
        match self.nodes.get_mut(node) {
            Some(Node::File(content)) => Ok(Arc::make_mut(content)),
            _ => Err(io::ErrorKind::IsADirectory.into()),
        }
    }

    /// The names in a folder, each with whether it is a folder and the size.
    pub(super) fn entries(&self, node: NodeId) -> io::Result<Vec<(Arc<str>, bool, usize)>> {
        let entries = self.folder(node)?.live.iter().map(|(name, node)| {
            let size = self.file(*node).map_or(0, |content| content.live.len());
            (Arc::clone(name), self.is_folder(*node), size)
        });
        Ok(entries.collect())
    }

    pub(super) fn create_folder(&mut self, path: &Path) -> io::Result<()> {
        self.add(path, Node::Folder(Arc::default())).map(|_| ())
    }

    pub(super) fn create_file(&mut self, path: &Path, now: Duration) -> io::Result<NodeId> {
        let content = Content {
            written: now,
            ..Content::default()
        };
        self.add(path, Node::File(Arc::new(content)))
    }

    fn add(&mut self, path: &Path, node: Node) -> io::Result<NodeId> {
        let (parent, name) = self.place(path)?;
        let id = self.nodes.len();
        self.folder_mut(parent)?.link(name, id)?;
        self.nodes.push(node);
        Ok(id)
    }

    pub(super) fn link(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let node = self.find(from)?;
        self.file(node)?;
        let (parent, name) = self.place(to)?;
        self.folder_mut(parent)?.link(name, node)
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let node = self.find(from)?;
        self.file(node)?;
        let (from_parent, from) = self.place(from)?;
        let (to_parent, to_name) = self.place(to)?;
        if from_parent != to_parent {
            return Err(io::ErrorKind::CrossesDevices.into());
        }
        if self.find(to).is_ok_and(|target| self.is_folder(target)) {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        let change = Change::Rename {
            from,
            to: to_name,
            node,
        };
        self.folder_mut(from_parent)?.change(change);
        Ok(())
    }

    pub(super) fn unlink(&mut self, path: &Path) -> io::Result<()> {
        let node = self.find(path)?;
        self.file(node)?;
        let (parent, name) = self.place(path)?;
        self.folder_mut(parent)?.change(Change::Unlink { name });
        Ok(())
    }

    pub(super) fn remove_folder(&mut self, path: &Path) -> io::Result<()> {
        let node = self.find(path)?;
        if !self.folder(node)?.live.is_empty() {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        let (parent, name) = self.place(path)?;
        self.folder_mut(parent)?.change(Change::Unlink { name });
        Ok(())
    }

    pub(super) fn sync_folder(&mut self, node: NodeId) -> io::Result<()> {
        if !self.folder(node)?.pending.is_empty() {
            let folder = self.folder_mut(node)?;
            folder.durable.clone_from(&folder.live);
            folder.pending.clear();
        }
        Ok(())
    }

    /// The folder that `path` is in, and its name there.
    fn place(&self, path: &Path) -> io::Result<(NodeId, Arc<str>)> {
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .ok_or(io::ErrorKind::AlreadyExists)?;
        let parent = self.find(path.parent().unwrap_or(Path::new("/")))?;
        Ok((parent, name.into()))
    }
}

impl Folder {
    fn link(&mut self, name: Arc<str>, node: NodeId) -> io::Result<()> {
        if self.live.contains_key(&name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        self.change(Change::Link { name, node });
        Ok(())
    }

    fn change(&mut self, change: Change) {
        change.apply(&mut self.live);
        self.pending.push(change);
    }

    fn after_crash(&self, choose: Choose<'_>) -> Self {
        let mut names = self.durable.clone();
        for change in &self.pending {
            if choose(2) == 1 {
                change.apply(&mut names);
            }
        }
        Self {
            live: names.clone(),
            durable: names,
            pending: Vec::new(),
        }
    }
}

impl Change {
    fn apply(&self, names: &mut Names) {
        match self {
            Self::Link { name, node } => {
                names.insert(Arc::clone(name), *node);
            }
            Self::Unlink { name } => {
                names.remove(name);
            }
            Self::Rename { from, to, node } => {
                names.remove(from);
                names.insert(Arc::clone(to), *node);
            }
        }
    }
}

impl Content {
    pub(super) fn live(&self) -> &[u8] {
        &self.live
    }

    pub(super) fn write(&mut self, offset: usize, bytes: &[u8]) {
        self.edit(What::Write {
            offset,
            bytes: bytes.into(),
        });
    }

    pub(super) fn set_length(&mut self, length: usize) {
        self.edit(What::SetLength(length));
    }

    /// Writes without a crash being able to take it back.
    pub(super) fn plant(&mut self, bytes: &[u8]) {
        self.live = Arc::new(bytes.to_vec());
        self.durable = Arc::clone(&self.live);
        self.pending.clear();
    }

    fn edit(&mut self, what: What) {
        what.apply(Arc::make_mut(&mut self.live));
        self.pending.push(Edit {
            what,
            fate: Fate::Open,
        });
    }

    pub(super) fn sync(&mut self) {
        if self.pending.iter().all(|edit| edit.fate == Fate::Open) {
            let durable = Arc::make_mut(&mut self.durable);
            for edit in self.pending.drain(..) {
                edit.what.apply(durable);
            }
            return;
        }
        for edit in &mut self.pending {
            if edit.fate == Fate::Open {
                edit.fate = Fate::Synced;
            }
        }
    }

    pub(super) fn fail_sync(&mut self) {
        for edit in &mut self.pending {
            if edit.fate == Fate::Open {
                edit.fate = Fate::Dropped;
            }
        }
    }

    fn after_crash(&self, choose: Choose<'_>) -> Self {
        let mut bytes = Vec::clone(&self.durable);
        for edit in &self.pending {
            match edit.fate {
                Fate::Synced => edit.what.apply(&mut bytes),
                Fate::Open | Fate::Dropped => edit.what.apply_torn(&mut bytes, choose),
            }
        }
        let bytes = Arc::new(bytes);
        Self {
            live: Arc::clone(&bytes),
            durable: bytes,
            pending: Vec::new(),
            written: self.written,
        }
    }
}

impl What {
    fn apply(&self, content: &mut Vec<u8>) {
        match self {
            Self::Write { offset, bytes } => overwrite(content, *offset, bytes),
            Self::SetLength(length) => content.resize(*length, 0),
        }
    }

    fn apply_torn(&self, content: &mut Vec<u8>, choose: Choose<'_>) {
        match self {
            Self::Write { offset, bytes } => tear(content, *offset, bytes, choose),
            Self::SetLength(_) => {
                if choose(2) == 1 {
                    self.apply(content);
                }
            }
        }
    }
}

fn overwrite(content: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let end = offset + bytes.len();
    if content.len() < end {
        content.resize(end, 0);
    }
    if let Some(place) = content.get_mut(offset..end) {
        place.copy_from_slice(bytes);
    }
}

/// Does to `content` a part of a write, or all of it, or nothing.
fn tear(content: &mut Vec<u8>, offset: usize, bytes: &[u8], choose: Choose<'_>) {
    let end = offset + bytes.len();
    // A tear inside the run of equal bytes at the end (padding) shows nothing that a tear at its edges does not.
    let run = match bytes.last() {
        Some(last) => bytes.iter().rev().take_while(|byte| *byte == last).count(),
        None => return,
    };
    let told_apart = (bytes.len() - run + 1).min(bytes.len() - 1);
    let spans = |sector: usize| offset / sector != (end - 1) / sector;
    let tears = [
        Some(Tear::Nothing),
        Some(Tear::Whole),
        (told_apart > 0).then_some(Tear::AtByte),
        spans(512).then_some(Tear::Sectors(512)),
        spans(4096).then_some(Tear::Sectors(4096)),
        (end > content.len()).then_some(Tear::SizeOnly),
    ];
    let count = tears.iter().flatten().count();
    match tears.into_iter().flatten().nth(choose(count)) {
        Some(Tear::Whole) => overwrite(content, offset, bytes),
        Some(Tear::AtByte) => {
            let kept = 1 + choose_of(told_apart, choose);
            overwrite(content, offset, bytes.get(..kept).unwrap_or(bytes));
        }
        Some(Tear::Sectors(size)) => tear_sectors(content, offset, bytes, size, run, choose),
        Some(Tear::SizeOnly) => content.resize(end.max(content.len()), 0),
        Some(Tear::Nothing) | None => {}
    }
}

/// Writes some of the sectors; those of the final run of equal bytes share one fate.
fn tear_sectors(
    content: &mut Vec<u8>,
    offset: usize,
    bytes: &[u8],
    size: usize,
    run: usize,
    choose: Choose<'_>,
) {
    let end = offset + bytes.len();
    let run_start = end - run;
    let mut run_fate = None;
    content.resize(end.max(content.len()), 0);
    let mut start = offset;
    while start < end {
        let stop = ((start / size + 1) * size).min(end);
        let written = if start >= run_start {
            *run_fate.get_or_insert_with(|| choose(2))
        } else {
            choose(2)
        };
        if written == 1
            && let Some(sector) = bytes.get(start - offset..stop - offset)
        {
            overwrite(content, start, sector);
        }
        start = stop;
    }
}

/// As `choose`, and 0 without asking when there is but one way.
fn choose_of(count: usize, choose: Choose<'_>) -> usize {
    if count > 1 { choose(count) } else { 0 }
}
