//! Properties of a flattened device tree (Devicetree Specification 0.4, chapter 5): as much as
//! the stub needs, so that the image carries no more.
//!
//! A tree that ends too early, or in nonsense, has no such property.

const MAGIC: u32 = 0xd00d_feed;
/// The version of the format that we read.
const VERSION: u32 = 17;

const BEGIN_NODE: u32 = 1;
const END_NODE: u32 = 2;
const PROP: u32 = 3;
const NOP: u32 = 4;

/// A device tree.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fdt<'a> {
    structure: &'a [u8],
    strings: &'a [u8],
}

impl<'a> Fdt<'a> {
    /// Finds the tree's two blocks; `None` if it is none, or cut off.
    pub(super) fn new(tree: &'a [u8]) -> Option<Fdt<'a>> {
        let mut header = Cursor(tree);
        let mut field = || header.word();
        let (magic, len, structure, strings) = (field()?, field()?, field()?, field()?);
        let (_reserved, version, compatible, _cpu) = (field()?, field()?, field()?, field()?);
        let (strings_len, structure_len) = (field()?, field()?);
        if magic != MAGIC || version < VERSION || compatible > VERSION {
            return None;
        }
        let tree = tree.get(..len as usize)?;
        let block = |start: u32, len: u32| tree.get(start as usize..)?.get(..len as usize);
        Some(Fdt { structure: block(structure, structure_len)?, strings: block(strings, strings_len)? })
    }

    /// A property of the root.
    pub(super) fn of_root(self, key: &str) -> Option<&'a [u8]> {
        self.find(None, key)
    }

    /// A property of the root's first child with this name, whatever its unit address.
    pub(super) fn of_child(self, child: &str, key: &str) -> Option<&'a [u8]> {
        self.find(Some(child), key)
    }

    fn find(self, child: Option<&str>, key: &str) -> Option<&'a [u8]> {
        let mut rest = Cursor(self.structure);
        let mut depth = 0u32;
        // The depth of the wanted node's properties, once inside it.
        let mut wanted = child.is_none().then_some(1);
        loop {
            match rest.word()? {
                BEGIN_NODE => {
                    let name = rest.text()?.split(|&byte| byte == b'@').next()?;
                    depth = depth.checked_add(1)?;
                    if depth == 2 && wanted.is_none() && child.map(str::as_bytes) == Some(name) {
                        wanted = Some(2);
                    }
                }
                END_NODE if wanted == Some(depth) => return None,
                END_NODE => depth = depth.checked_sub(1)?,
                PROP => {
                    let (len, name) = (rest.word()?, rest.word()?);
                    let value = rest.bytes(len as usize)?;
                    let name = Cursor(self.strings.get(name as usize..)?).text()?;
                    if wanted == Some(depth) && name == key.as_bytes() {
                        return Some(value);
                    }
                }
                NOP => {}
                _ => return None,
            }
        }
    }
}

/// The number that some cells of 32 bits make; `None` if it needs more than 64.
pub(super) fn number(cells: &[u8]) -> Option<u64> {
    let mut words = Cursor(cells);
    let mut number = 0u64;
    while !words.0.is_empty() {
        if number >> 32 != 0 {
            return None;
        }
        number = number << 32 | u64::from(words.word()?);
    }
    Some(number)
}

/// What of a block has not been read. Everything in it is aligned to 4 bytes.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn word(&mut self) -> Option<u32> {
        let (word, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u32::from_be_bytes(*word))
    }

    fn bytes(&mut self, len: usize) -> Option<&'a [u8]> {
        let bytes = self.0.get(..len)?;
        // The last string of its block need not be padded.
        self.0 = self.0.get(len.checked_next_multiple_of(4)?..).unwrap_or_default();
        Some(bytes)
    }

    /// A string without its final NUL.
    fn text(&mut self) -> Option<&'a [u8]> {
        let len = self.0.iter().position(|&byte| byte == 0)?;
        self.bytes(len.checked_add(1)?)?.split_last().map(|(_, text)| text)
    }
}
