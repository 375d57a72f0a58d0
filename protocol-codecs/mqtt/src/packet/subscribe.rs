//! SUBSCRIBE (§3.8).

use core::fmt;
use core::num::NonZeroU16;

use crate::error::{DecodeError, EncodeError};
use crate::number::{PacketType, QoS, Version};
use crate::property::{Place, Properties};
use crate::read::{Reader, Refused};
use crate::topic::TopicFilter;
use crate::write::{self, Writer};

/// Subscribe request (§3.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscribe<'a> {
    /// The packet identifier (§2.2.1).
    pub packet_id: NonZeroU16,
    /// Empty in MQTT 3.1.1 (§3.8.2.1).
    pub properties: Properties<'a>,
    /// At least one (§3.8.3).
    pub subscriptions: Subscriptions<'a>,
}

/// One topic filter of a SUBSCRIBE with its options (§3.8.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscription<'a> {
    /// The topic filter (§4.7), in MQTT 5.0 possibly of a shared subscription (§4.8.2).
    pub filter: &'a str,
    /// The highest QoS that the client wants messages with.
    pub qos: QoS,
    /// Do not send the client what it published itself; MQTT 5.0 only.
    pub no_local: bool,
    /// Keep the RETAIN flag as published; MQTT 5.0 only.
    pub retain_as_published: bool,
    /// What to do with retained messages now; MQTT 5.0 only.
    pub retain_handling: RetainHandling,
}

/// What happens to retained messages when a subscription is made (§3.8.3.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum RetainHandling {
    /// They are sent. The only behaviour of MQTT 3.1.1.
    #[default]
    Send = 0,
    /// They are sent if the subscription is new.
    SendIfNew = 1,
    /// They are not sent.
    DoNotSend = 2,
}

impl<'a> Subscription<'a> {
    /// A subscription without any of MQTT 5.0's options.
    #[inline]
    pub const fn new(filter: &'a str, qos: QoS) -> Self {
        Self {
            filter,
            qos,
            no_local: false,
            retain_as_published: false,
            retain_handling: RetainHandling::Send,
        }
    }

    /// Reads one, with its filter checked if `FIRST`; the options must be valid in either case.
    #[inline]
    fn read<const FIRST: bool>(reader: &mut Reader<'a>) -> Result<Self, Refused> {
        let filter = reader.string_or_null::<FIRST>()?;
        let options = reader.u8()?;
        if options & RESERVED != 0 {
            return Err(reader.refuse(DecodeError::ReservedSubscriptionOptions(options)));
        }
        let retain_handling = match options >> 4 {
            0 => RetainHandling::Send,
            1 => RetainHandling::SendIfNew,
            2 => RetainHandling::DoNotSend,
            _ => return Err(reader.refuse(DecodeError::RetainHandling3(options))),
        };
        let Some(qos) = QoS::from_u8(options & 3) else {
            return Err(reader.refuse(DecodeError::SubscriptionQos3(options)));
        };
        Ok(Self {
            filter,
            qos,
            no_local: options & NO_LOCAL != 0,
            retain_as_published: options & RETAIN_AS_PUBLISHED != 0,
            retain_handling,
        })
    }

    #[inline]
    fn check(&self, version: Version) -> Result<(), DecodeError> {
        let filter = TopicFilter::of_valid_length(self.filter, version)?;
        if version == Version::V311 && self.options() & !3 != 0 {
            return Err(DecodeError::ReservedSubscriptionOptions(self.options()));
        }
        if self.no_local && filter.share_name().is_some() {
            return Err(DecodeError::NoLocalOnSharedSubscription);
        }
        Ok(())
    }

    #[inline]
    fn options(&self) -> u8 {
        let mut options = self.qos as u8 | (self.retain_handling as u8) << 4;
        if self.no_local {
            options |= NO_LOCAL;
        }
        if self.retain_as_published {
            options |= RETAIN_AS_PUBLISHED;
        }
        options
    }
}

const NO_LOCAL: u8 = 0x04;
const RETAIN_AS_PUBLISHED: u8 = 0x08;
const RESERVED: u8 = 0xc0;

impl<'a> Subscribe<'a> {
    #[inline]
    pub(super) fn read(reader: &mut Reader<'a>, version: Version) -> Result<Self, Refused> {
        let packet_id = reader.packet_id(PacketType::SUBSCRIBE)?;
        let properties = match version {
            Version::V311 => Properties::EMPTY,
            Version::V5 => Properties::read(reader, Place::SUBSCRIBE)?,
        };
        let subscriptions = Subscriptions::read(reader, version)?;
        Ok(Self { packet_id, properties, subscriptions })
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
            Writer::packet(out, PacketType::SUBSCRIBE, 0b0010, remaining, remaining)?;
        writer.packet_id(self.packet_id)?;
        if version == Version::V5 {
            self.properties.write(properties, &mut writer)?;
        }
        for subscription in self.subscriptions {
            writer.field(subscription.filter.as_bytes())?;
            writer.u8(subscription.options())?;
        }
        Ok(len)
    }

    /// The remaining length, and that of the properties.
    fn measure(&self, version: Version) -> Result<(usize, usize), EncodeError> {
        if self.subscriptions.is_empty() {
            return Err(DecodeError::EmptyPayload(PacketType::SUBSCRIBE).into());
        }
        let properties = self.properties.measure(Place::SUBSCRIBE, version)?;
        let mut remaining: usize = 2;
        if version == Version::V5 {
            remaining += write::variable_byte_integer_len(properties)? + properties;
        }
        for subscription in self.subscriptions {
            let len = 1 + write::binary_len(subscription.filter.as_bytes())?;
            remaining = remaining.saturating_add(len);
            subscription.check(version)?;
        }
        Ok((remaining, properties))
    }
}

/// The subscriptions of a SUBSCRIBE, in their order (§3.8.3).
///
/// Decoded ones are a view of the packet's bytes, validated as a whole. For encoding, make them from
/// a slice.
#[derive(Clone, Copy)]
pub struct Subscriptions<'a> {
    /// The caller's, validated when written; empty for decoded ones.
    list: &'a [Subscription<'a>],
    /// Validated bytes; empty for the caller's.
    bytes: &'a [u8],
    /// The stretch of text at the end of `bytes`, see [`Reader`].
    text: &'a str,
    /// How many there are, in either.
    count: usize,
}

impl<'a> Subscriptions<'a> {
    fn read(reader: &mut Reader<'a>, version: Version) -> Result<Self, Refused> {
        if reader.is_empty() {
            return Err(reader.refuse(DecodeError::EmptyPayload(PacketType::SUBSCRIBE)));
        }
        let bytes = reader.rest();
        let mut count = 0;
        while !reader.is_empty() {
            let subscription = Subscription::read::<true>(reader)?;
            subscription.check(version).map_err(|error| reader.refuse(error))?;
            count += 1;
        }
        Ok(Self { list: &[], bytes, text: reader.text(), count })
    }

    /// How many there are.
    #[inline]
    pub const fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none, which no valid SUBSCRIBE has.
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The subscriptions, in their order.
    #[inline]
    pub fn iter(&self) -> SubscriptionIter<'a> {
        SubscriptionIter { list: self.list, reader: Reader::again(self.bytes, self.text) }
    }
}

impl<'a> From<&'a [Subscription<'a>]> for Subscriptions<'a> {
    #[inline]
    fn from(list: &'a [Subscription<'a>]) -> Self {
        Self { list, bytes: &[], text: "", count: list.len() }
    }
}

impl<'a, const N: usize> From<&'a [Subscription<'a>; N]> for Subscriptions<'a> {
    #[inline]
    fn from(list: &'a [Subscription<'a>; N]) -> Self {
        Self { list, bytes: &[], text: "", count: list.len() }
    }
}

impl PartialEq for Subscriptions<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Subscriptions<'_> {}

impl fmt::Debug for Subscriptions<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<'a> IntoIterator for Subscriptions<'a> {
    type Item = Subscription<'a>;
    type IntoIter = SubscriptionIter<'a>;

    #[inline]
    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<'a> IntoIterator for &Subscriptions<'a> {
    type Item = Subscription<'a>;
    type IntoIter = SubscriptionIter<'a>;

    #[inline]
    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// Iterates over [`Subscriptions`].
#[derive(Clone, Debug)]
pub struct SubscriptionIter<'a> {
    list: &'a [Subscription<'a>],
    reader: Reader<'a>,
}

impl<'a> Iterator for SubscriptionIter<'a> {
    type Item = Subscription<'a>;

    #[inline]
    fn next(&mut self) -> Option<Subscription<'a>> {
        if !self.reader.is_empty() {
            // Validated before: does not fail.
            return Subscription::read::<false>(&mut self.reader).ok();
        }
        let (first, rest) = self.list.split_first()?;
        self.list = rest;
        Some(*first)
    }
}

impl core::iter::FusedIterator for SubscriptionIter<'_> {}
