//! Pages: their heads, elements and the meta page, as bytes.

use bytes::{Buf, BufMut};

use super::{Error, PAGE_BYTES};

/// Bytes of a page's head, and of each element.
pub(super) const HEAD_BYTES: usize = 16;
pub(super) const ELEMENT_BYTES: usize = 16;

/// Kinds of pages.
pub(super) const BRANCH: u16 = 0x01;
pub(super) const LEAF: u16 = 0x02;
pub(super) const META: u16 = 0x04;
pub(super) const FREELIST: u16 = 0x10;

/// The leaf element is a bucket.
pub(super) const IS_BUCKET: u32 = 1;

/// In [`Meta::freelist`]: the list is not stored.
pub(super) const NO_FREELIST: u64 = u64::MAX;

const MAGIC: u32 = 0xED0C_DAED;
const VERSION: u32 = 2;
const META_BYTES: usize = 64;

/// The head of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) id: u64,
    pub(super) kind: u16,
    pub(super) count: u16,
    pub(super) overflow: u32,
}

impl Head {
    pub(super) fn encode(self, out: &mut Vec<u8>) {
        out.put_u64_le(self.id);
        out.put_u16_le(self.kind);
        out.put_u16_le(self.count);
        out.put_u32_le(self.overflow);
    }

    pub(super) fn decode(mut bytes: &[u8]) -> Option<Self> {
        (bytes.len() >= HEAD_BYTES).then(|| Self {
            id: bytes.get_u64_le(),
            kind: bytes.get_u16_le(),
            count: bytes.get_u16_le(),
            overflow: bytes.get_u32_le(),
        })
    }
}

/// What a meta page says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Meta {
    pub(super) page_bytes: u32,
    pub(super) root: u64,
    pub(super) freelist: u64,
    /// Pages of the file.
    pub(super) high_water: u64,
    pub(super) transaction: u64,
}

impl Meta {
    /// The whole page.
    pub(super) fn encode(self, id: u64, out: &mut Vec<u8>) {
        let end = out.len() + PAGE_BYTES;
        let head = Head {
            id,
            kind: META,
            count: 0,
            overflow: 0,
        };
        head.encode(out);
        let start = out.len();
        out.put_u32_le(MAGIC);
        out.put_u32_le(VERSION);
        out.put_u32_le(self.page_bytes);
        out.put_u32_le(0);
        out.put_u64_le(self.root);
        out.put_u64_le(0);
        out.put_u64_le(self.freelist);
        out.put_u64_le(self.high_water);
        out.put_u64_le(self.transaction);
        let checksum = fnv1a(&out[start..]);
        out.put_u64_le(checksum);
        out.resize(end, 0);
    }

    /// From a page's first bytes, if they are a valid meta page.
    pub(super) fn decode(page: &[u8]) -> Option<Self> {
        let meta = page.get(HEAD_BYTES..HEAD_BYTES + META_BYTES)?;
        let (body, mut checksum) = meta.split_at(META_BYTES - 8);
        if fnv1a(body) != checksum.get_u64_le() {
            return None;
        }
        let mut body = body;
        if body.get_u32_le() != MAGIC || body.get_u32_le() != VERSION {
            return None;
        }
        let page_bytes = body.get_u32_le();
        body.advance(4);
        let root = body.get_u64_le();
        body.advance(8);
        Some(Self {
            page_bytes,
            root,
            freelist: body.get_u64_le(),
            high_water: body.get_u64_le(),
            transaction: body.get_u64_le(),
        })
    }

    /// Bytes that [`Meta::decode`] needs.
    pub(super) const NEEDS: usize = HEAD_BYTES + META_BYTES;
}

/// FNV-1a, 64 bits.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xCBF2_9CE4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3)
    })
}

/// An element of a leaf page.
#[derive(Clone, Copy, Debug)]
pub(super) struct LeafElement<'a> {
    pub(super) flags: u32,
    pub(super) key: &'a [u8],
    pub(super) value: &'a [u8],
}

/// The element `index` of the leaf page in `page`.
pub(super) fn leaf_element(page: &[u8], index: usize) -> Result<LeafElement<'_>, Error> {
    let (start, mut element) = element(page, index)?;
    let flags = element.get_u32_le();
    let (pos, key_len, value_len) = (
        element.get_u32_le(),
        element.get_u32_le(),
        element.get_u32_le(),
    );
    let key = piece(page, start, u64::from(pos), key_len)?;
    let value = piece(page, start, u64::from(pos) + u64::from(key_len), value_len)?;
    Ok(LeafElement { flags, key, value })
}

/// Key and child of the element `index` of the branch page in `page`.
pub(super) fn branch_element(page: &[u8], index: usize) -> Result<(&[u8], u64), Error> {
    let (start, mut element) = element(page, index)?;
    let (pos, key_len) = (element.get_u32_le(), element.get_u32_le());
    let child = element.get_u64_le();
    Ok((piece(page, start, u64::from(pos), key_len)?, child))
}

fn element(page: &[u8], index: usize) -> Result<(usize, &[u8]), Error> {
    let start = HEAD_BYTES + index * ELEMENT_BYTES;
    match page.get(start..start + ELEMENT_BYTES) {
        Some(element) => Ok((start, element)),
        None => Err(Error::Malformed(
            "a page has more elements than it holds".to_owned(),
        )),
    }
}

fn piece(page: &[u8], element: usize, pos: u64, len: u32) -> Result<&[u8], Error> {
    let from = element as u64 + pos;
    let to = from + u64::from(len);
    page.get(from as usize..to as usize)
        .ok_or_else(|| Error::Malformed("an element runs past its page".to_owned()))
}
