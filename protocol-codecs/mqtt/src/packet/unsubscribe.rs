//! UNSUBSCRIBE (§3.10).

use core::fmt;
use core::num::NonZeroU16;

use crate::error::{DecodeError, EncodeError};
use crate::number::{PacketType, Version};
use crate::property::{Place, Properties};
use crate::read::{Reader, Refused};
use crate::topic::TopicFilter;
use crate::write::{self, Writer};

/// Unsubscribe request (§3.10).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unsubscribe<'a> {
    /// The packet identifier (§2.2.1).
    pub packet_id: NonZeroU16,
    /// Empty in MQTT 3.1.1 (§3.10.2.1).
    pub properties: Properties<'a>,
    /// At least one (§3.10.3).
    pub filters: TopicFilters<'a>,
}

impl<'a> Unsubscribe<'a> {
    #[inline]
    pub(super) fn read(reader: &mut Reader<'a>, version: Version) -> Result<Self, Refused> {
        let packet_id = reader.packet_id(PacketType::UNSUBSCRIBE)?;
        let properties = match version {
            Version::V311 => Properties::EMPTY,
            Version::V5 => Properties::read(reader, Place::UNSUBSCRIBE)?,
        };
        let filters = TopicFilters::read(reader, version)?;
        Ok(Self { packet_id, properties, filters })
    }

    /// The size of the whole packet in bytes.
    ///
    /// # Errors
    ///
    /// As [`encode`](Self::encode), except for the size of the output.
    pub fn encoded_len(&self, version: Version) -> Result<usize, EncodeError> {
        write::packet_len(self.measure(version)?.0)
    }

    /// Writes the packet to the front of `out` and returns its size.
    ///
    /// # Errors
    ///
    /// A packet that `version` cannot express, that a receiver would refuse, or that does not fit
    /// `out`. After an error the contents of `out` are unspecified.
    pub fn encode(&self, version: Version, out: &mut [u8]) -> Result<usize, EncodeError> {
        let (remaining, properties) = self.measure(version)?;
        let (mut writer, len) =
            Writer::packet(out, PacketType::UNSUBSCRIBE, 0b0010, remaining, remaining)?;
        writer.packet_id(self.packet_id)?;
        if version == Version::V5 {
            self.properties.write(properties, &mut writer)?;
        }
        for filter in self.filters {
            writer.field(filter.as_bytes())?;
        }
        Ok(len)
    }

    /// The remaining length, and that of the properties.
    fn measure(&self, version: Version) -> Result<(usize, usize), EncodeError> {
        if self.filters.is_empty() {
            return Err(DecodeError::EmptyPayload(PacketType::UNSUBSCRIBE).into());
        }
        let properties = self.properties.measure(Place::UNSUBSCRIBE, version)?;
        let mut remaining: usize = 2;
        if version == Version::V5 {
            remaining += write::variable_byte_integer_len(properties)? + properties;
        }
        for filter in self.filters {
            remaining = remaining.saturating_add(write::binary_len(filter.as_bytes())?);
            TopicFilter::of_valid_length(filter, version).map_err(DecodeError::from)?;
        }
        Ok((remaining, properties))
    }
}

/// The topic filters of an UNSUBSCRIBE, in their order (§3.10.3).
///
/// Decoded ones are a view of the packet's bytes, validated as a whole. For encoding, make them from
/// a slice.
#[derive(Clone, Copy)]
pub struct TopicFilters<'a> {
    /// The caller's, validated when written; empty for decoded ones.
    list: &'a [&'a str],
    /// Validated bytes; empty for the caller's.
    bytes: &'a [u8],
    /// The stretch of text at the end of `bytes`, see [`Reader`].
    text: &'a str,
    /// How many there are, in either.
    count: usize,
}

impl<'a> TopicFilters<'a> {
    fn read(reader: &mut Reader<'a>, version: Version) -> Result<Self, Refused> {
        if reader.is_empty() {
            return Err(reader.refuse(DecodeError::EmptyPayload(PacketType::UNSUBSCRIBE)));
        }
        let bytes = reader.rest();
        let mut count = 0;
        while !reader.is_empty() {
            let filter = reader.string_or_null::<true>()?;
            TopicFilter::of_valid_length(filter, version).map_err(|error| reader.refuse(error))?;
            count += 1;
        }
        Ok(Self { list: &[], bytes, text: reader.text(), count })
    }

    /// How many there are.
    #[inline]
    pub const fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none, which no valid UNSUBSCRIBE has.
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The topic filters, in their order.
    #[inline]
    pub fn iter(&self) -> TopicFilterIter<'a> {
        TopicFilterIter { list: self.list, reader: Reader::again(self.bytes, self.text) }
    }
}

impl<'a> From<&'a [&'a str]> for TopicFilters<'a> {
    #[inline]
    fn from(list: &'a [&'a str]) -> Self {
        Self { list, bytes: &[], text: "", count: list.len() }
    }
}

impl<'a, const N: usize> From<&'a [&'a str; N]> for TopicFilters<'a> {
    #[inline]
    fn from(list: &'a [&'a str; N]) -> Self {
        Self { list, bytes: &[], text: "", count: list.len() }
    }
}

impl PartialEq for TopicFilters<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for TopicFilters<'_> {}

impl fmt::Debug for TopicFilters<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<'a> IntoIterator for TopicFilters<'a> {
    type Item = &'a str;
    type IntoIter = TopicFilterIter<'a>;

    #[inline]
    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<'a> IntoIterator for &TopicFilters<'a> {
    type Item = &'a str;
    type IntoIter = TopicFilterIter<'a>;

    #[inline]
    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// Iterates over [`TopicFilters`].
#[derive(Clone, Debug)]
pub struct TopicFilterIter<'a> {
    list: &'a [&'a str],
    reader: Reader<'a>,
}

impl<'a> Iterator for TopicFilterIter<'a> {
    type Item = &'a str;

    #[inline]
    fn next(&mut self) -> Option<&'a str> {
        if !self.reader.is_empty() {
            // Validated before: does not fail.
            return self.reader.string_or_null::<false>().ok();
        }
        let (first, rest) = self.list.split_first()?;
        self.list = rest;
        Some(*first)
    }
}

impl core::iter::FusedIterator for TopicFilterIter<'_> {}
