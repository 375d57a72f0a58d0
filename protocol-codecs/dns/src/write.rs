//! Putting fields into a message.

use crate::message::HEADER_LEN;
use crate::name::{Name, POINTER};

/// Why something was not written. Without contents, so that the results of writing stay in registers.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Refused {
    /// There is no room.
    Full,
    /// The field cannot hold the value.
    Value,
}

/// How many places of names are remembered, for others to point to. A bound on the time that a name takes:
/// with more names than that, those that come late are not pointed to.
const PLACES: usize = 32;
/// The first offset that a pointer cannot lead to (RFC 1035 §4.1.4).
const UNREACHABLE: usize = 0x4000;

/// Where a name is that others can point to.
#[derive(Clone, Copy)]
struct Place {
    at: u16,
    /// Length and first octet of its first label: what tells most names apart without a look at them.
    mark: [u8; 2],
}

/// The message that is being written, and what is left of the room for it.
pub(crate) struct Writer<'a> {
    out: &'a mut [u8],
    at: usize,
    end: usize,
    places: [Place; PLACES],
    known: usize,
}

/// How far a message has been written.
#[derive(Clone, Copy)]
pub(crate) struct Mark {
    at: usize,
    known: usize,
}

/// The place of a length that is written when what it counts has been.
pub(crate) struct Length {
    at: usize,
}

impl<'a> Writer<'a> {
    /// Writes behind a header, which is the caller's.
    #[inline(always)]
    pub(crate) fn new(out: &'a mut [u8]) -> Self {
        let end = out.len();
        let places = [Place { at: 0, mark: [0; 2] }; PLACES];
        Self { out, at: HEADER_LEN, end, places, known: 0 }
    }

    /// How many octets have been written, the header included.
    #[inline(always)]
    pub(crate) fn len(&self) -> usize {
        self.at
    }

    /// How many octets there is room for, the header included.
    #[inline(always)]
    pub(crate) fn end(&self) -> usize {
        self.end
    }

    /// Takes this many octets off the end, or gives them back.
    #[inline(always)]
    pub(crate) fn set_end(&mut self, end: usize) {
        self.end = end.min(self.out.len());
    }

    #[inline(always)]
    pub(crate) fn out_len(&self) -> usize {
        self.out.len()
    }

    #[inline(always)]
    pub(crate) fn mark(&self) -> Mark {
        Mark { at: self.at, known: self.known }
    }

    /// Forgets what was written since.
    #[inline(always)]
    pub(crate) fn rewind(&mut self, mark: Mark) {
        self.at = mark.at;
        self.known = mark.known;
    }

    /// What has been written, the header included.
    pub(crate) fn written(&mut self) -> &mut [u8] {
        self.out.get_mut(..self.at).unwrap_or_default()
    }

    /// The next octets, if there are so many.
    #[inline(always)]
    fn room(&mut self, len: usize) -> Result<&mut [u8], Refused> {
        let at = self.at;
        // Neither is above 65,535.
        if at + len > self.end {
            return Err(Refused::Full);
        }
        self.at = at + len;
        self.out.get_mut(at..at + len).ok_or(Refused::Full)
    }

    #[inline(always)]
    pub(crate) fn array<const N: usize>(&mut self, value: [u8; N]) -> Result<(), Refused> {
        *self.room(N)?.first_chunk_mut().ok_or(Refused::Full)? = value;
        Ok(())
    }

    #[inline(always)]
    pub(crate) fn u16(&mut self, value: u16) -> Result<(), Refused> {
        self.array(value.to_be_bytes())
    }

    #[inline(always)]
    pub(crate) fn u32(&mut self, value: u32) -> Result<(), Refused> {
        self.array(value.to_be_bytes())
    }

    #[inline(always)]
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Result<(), Refused> {
        if bytes.len() > self.end {
            return Err(Refused::Full);
        }
        copy(self.room(bytes.len())?, bytes);
        Ok(())
    }

    pub(crate) fn zeros(&mut self, len: usize) -> Result<(), Refused> {
        self.room(len)?.fill(0);
        Ok(())
    }

    /// A character-string (RFC 1035 §3.3).
    pub(crate) fn string(&mut self, string: &[u8]) -> Result<(), Refused> {
        let len = u8::try_from(string.len()).map_err(|_| Refused::Value)?;
        self.array([len])?;
        self.bytes(string)
    }

    /// A character-string with octets in it.
    pub(crate) fn some_string(&mut self, string: &[u8]) -> Result<(), Refused> {
        if string.is_empty() { Err(Refused::Value) } else { self.string(string) }
    }

    #[inline(always)]
    pub(crate) fn length(&mut self) -> Result<Length, Refused> {
        let at = self.at;
        self.u16(0)?;
        Ok(Length { at })
    }

    /// Fills in how many octets were written behind the place of the length.
    #[inline(always)]
    pub(crate) fn fill_length(&mut self, length: Length) -> Result<(), Refused> {
        let len = (self.at - length.at - 2) as u16;
        let place = self.out.get_mut(length.at..).and_then(|rest| rest.first_chunk_mut());
        *place.ok_or(Refused::Full)? = len.to_be_bytes();
        Ok(())
    }

    /// A name; with `compress`, the rest of it is a pointer as soon as that is in the message already, in
    /// the same case (RFC 1035 §4.1.4). The one and the other can be pointed to.
    pub(crate) fn name(&mut self, name: Name<'_>, compress: bool) -> Result<(), Refused> {
        // Not the name's own labels, which do not end yet.
        let known = self.known;
        let mut rest = name;
        let mut labels = name.labels();
        while let Some(label) = labels.next() {
            let mark = [label.len() as u8, label.first().copied().unwrap_or_default()];
            if compress && let Some(at) = self.find(known, rest, mark) {
                return self.u16(u16::from(POINTER) << 8 | at);
            }
            self.remember(mark);
            let place = self.room(1 + label.len())?;
            if let Some((first, place)) = place.split_first_mut() {
                *first = label.len() as u8;
                copy(place, label);
            }
            rest = labels.rest();
        }
        self.array([0])
    }

    #[inline(always)]
    fn find(&self, known: usize, name: Name<'_>, mark: [u8; 2]) -> Option<u16> {
        let places = self.places.get(..known).unwrap_or_default();
        let found = places.iter().find(|place| {
            place.mark == mark && Name::checked(&*self.out, usize::from(place.at)).eq_exact(name)
        });
        found.map(|place| place.at)
    }

    #[inline(always)]
    fn remember(&mut self, mark: [u8; 2]) {
        if self.at < UNREACHABLE
            && let Some(place) = self.places.get_mut(self.known)
        {
            *place = Place { at: self.at as u16, mark };
            self.known += 1;
        }
    }
}

/// Copies between slices of the same length. Most fields are short, and for those the call that
/// `copy_from_slice` makes takes longer than the copy; in wasm several times as long.
#[inline(always)]
fn copy(to: &mut [u8], from: &[u8]) {
    match from.len() {
        0..4 => to.iter_mut().zip(from).for_each(|(to, from)| *to = *from),
        4..8 => copy_ends::<4>(to, from),
        8..16 => copy_ends::<8>(to, from),
        16..=32 => copy_ends::<16>(to, from),
        _ => to.copy_from_slice(from),
    }
}

/// Copies the first and the last `N` octets, which may overlap.
#[inline(always)]
fn copy_ends<const N: usize>(to: &mut [u8], from: &[u8]) {
    if let (Some(to), Some(from)) = (to.first_chunk_mut::<N>(), from.first_chunk::<N>()) {
        *to = *from;
    }
    if let (Some(to), Some(from)) = (to.last_chunk_mut::<N>(), from.last_chunk::<N>()) {
        *to = *from;
    }
}
