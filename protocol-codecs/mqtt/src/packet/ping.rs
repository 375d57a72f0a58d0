//! PINGREQ and PINGRESP (§3.12, §3.13): a fixed header and nothing else.

use crate::error::EncodeError;
use crate::number::{PacketType, Version};
use crate::write::Writer;

macro_rules! ping {
    ($(#[$meta:meta])* $name:ident, $packet_type:ident) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct $name;

        impl $name {
            /// The size of the whole packet in bytes: always 2, in both versions.
            ///
            /// # Errors
            ///
            /// None.
            #[inline]
            pub const fn encoded_len(&self, _version: Version) -> Result<usize, EncodeError> {
                Ok(2)
            }

            /// Writes the packet to the front of `out` and returns its size.
            ///
            /// # Errors
            ///
            /// An output of less than 2 bytes.
            #[inline]
            pub fn encode(&self, _version: Version, out: &mut [u8]) -> Result<usize, EncodeError> {
                Writer::packet(out, PacketType::$packet_type, 0, 0, 0).map(|(_, len)| len)
            }
        }
    };
}

ping! {
    /// Ping request (§3.12).
    PingReq, PINGREQ
}

ping! {
    /// Ping response (§3.13).
    PingResp, PINGRESP
}
