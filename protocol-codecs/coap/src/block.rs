//! The value of the block options (RFC 7959 §2.2).

/// Which block of a body a message is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Block {
    /// The block's number, below 2^20: the others before it have the same size.
    pub num: u32,
    /// Whether more blocks follow; in a request for a block it has no meaning.
    pub more: bool,
    /// The size exponent: a block has 2^(4 + `szx`) bytes. 7 is reserved over UDP; over TCP it stands for
    /// any number of blocks of 1024 bytes (BERT, RFC 8323 §6).
    pub szx: u8,
}

impl Block {
    /// The largest block number.
    pub const MAX_NUM: u32 = (1 << 20) - 1;

    /// The size exponent of BERT, over TCP only (RFC 8323 §6).
    pub const BERT: u8 = 7;

    /// The block that a uint of 24 bits stands for.
    #[inline]
    pub const fn from_uint(value: u32) -> Self {
        Self { num: value >> 4, more: value & 8 != 0, szx: (value & 7) as u8 }
    }

    /// The uint; of the size exponent the lowest three bits count. A number above
    /// [`MAX_NUM`](Self::MAX_NUM) gives an option that cannot be encoded.
    #[inline]
    pub const fn to_uint(self) -> u32 {
        let num = if self.num > Self::MAX_NUM { Self::MAX_NUM + 1 } else { self.num };
        num << 4 | (self.more as u32) << 3 | (self.szx & 7) as u32
    }

    /// The size of a block in bytes: 16 to 1024.
    #[inline]
    pub const fn size(self) -> u32 {
        if self.szx >= Self::BERT { 1024 } else { 16 << self.szx }
    }

    /// Where the block begins in the body, in bytes: below 2^30.
    #[inline]
    pub const fn offset(self) -> u32 {
        self.num.saturating_mul(self.size())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 33 and 59 are the examples of RFC 7959 §3.
    #[test]
    fn a_block_is_a_uint() {
        for (uint, num, more, size) in [
            (0, 0, false, 16),
            (33, 2, false, 32),
            (59, 3, true, 128),
            (0x1e, 1, true, 1024),
            (0x0f_fff6, 0xffff, false, 1024),
        ] {
            let block = Block::from_uint(uint);
            assert_eq!((block.num, block.more, block.size()), (num, more, size));
            assert_eq!(block.offset(), num * size);
            assert_eq!(block.to_uint(), uint);
        }
        let beyond = Block { num: 1 << 20, more: false, szx: 0 };
        assert_eq!(beyond.to_uint(), 1 << 24);
        assert_eq!(Block { num: u32::MAX, ..beyond }.to_uint(), 1 << 24);
    }
}
