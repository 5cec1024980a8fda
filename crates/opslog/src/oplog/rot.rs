//! Telling a flipped bit from a torn write, by finding it.
//!
//! Of a torn write every byte is what was written or what was there before: a newline, NUL, or the end of the file. So bytes that a single bit keeps from being operations
//! with right checksums had been written whole, and have changed since.

use crate::Result;
use crate::backend::Object;
use crate::format::op_line;

/// More bytes are not searched: among many bits, chance could find one that fits.
pub(crate) const SEARCHED_MAX: usize = 2048;

/// What a line ends with; `0` stands for any hexadecimal digit.
const TRAILER: &[u8] = b",\"crc\":\"00000000\"}";

/// The byte that a flipped bit has changed, and what it was: with it, `bytes` are whole lines whose checksums hold.
///
/// Of a line of 200 bytes with other damage, chance makes one fit in a case of 2.7 million.
pub(crate) fn flipped_bit(bytes: &[u8]) -> Option<(usize, u8)> {
    if bytes.len() > SEARCHED_MAX {
        return None;
    }
    let mut start = 0;
    let bad = bytes
        .split_inclusive(|byte| *byte == b'\n')
        .find_map(|line| {
            let at = start;
            start += line.len();
            (!is_intact(line)).then_some((at, line))
        });
    let (start, line) = bad?;
    let mut mended = bytes.to_vec();
    candidates(line).into_iter().find_map(|(place, mask)| {
        let place = start + place;
        flip(&mut mended, place, mask)?;
        let found = is_intact(&mended).then(|| mended.get(place).copied());
        flip(&mut mended, place, mask)?;
        Some((place, found??))
    })
}

/// The bits of a bad line of which one may be the flipped one: places and masks.
fn candidates(line: &[u8]) -> Vec<(usize, u8)> {
    let mut found = Vec::new();
    // What changes the checksum tells the place by it.
    let body = line.strip_suffix(b"\n").unwrap_or(line);
    let trailer_start = body.len().saturating_sub(TRAILER.len());
    let (checked, trailer) = body.split_at_checked(trailer_start).unwrap_or((b"", body));
    let digits = trailer
        .get(8..16)
        .and_then(|digits| std::str::from_utf8(digits).ok());
    if let Some(stored) = digits.and_then(|digits| u32::from_str_radix(digits, 16).ok()) {
        found.extend(places_of(crc32c::crc32c(checked) ^ stored, checked.len()));
    }
    // Two lines became one.
    for (place, byte) in line.iter().enumerate() {
        if (byte ^ b'\n').is_power_of_two() {
            found.push((place, byte ^ b'\n'));
        }
    }
    // The checksum and what is around it, the newline too, of this line or of the half that a false newline has made.
    let end = line.len().saturating_sub(TRAILER.len() + 1)..line.len();
    found.extend(end.flat_map(|place| (0..8).map(move |bit| (place, 1 << bit))));
    found
}

/// The bits whose flipping changes the checksum of `length` bytes by `difference`.
///
/// A checksum is linear: what a flipped bit does to it depends on how many bytes follow, and not on what they are.
fn places_of(difference: u32, length: usize) -> Vec<(usize, u8)> {
    let followed_by_zero =
        |change: u32| crc32c::crc32c_append(change, &[0]) ^ crc32c::crc32c_append(0, &[0]);
    let mut changes: Vec<(u8, u32)> = (0..8)
        .map(|bit| (1 << bit, crc32c::crc32c(&[1 << bit]) ^ crc32c::crc32c(&[0])))
        .collect();
    let mut found = Vec::new();
    for place in (0..length).rev() {
        for (mask, change) in &mut changes {
            if *change == difference {
                found.push((place, *mask));
            }
            *change = followed_by_zero(*change);
        }
    }
    found
}

/// Whether the line of `length` bytes at `offset`, which is none, was one before a bit flipped in it, or in the newline behind it.
pub(super) fn is_rotten(object: &dyn Object, offset: u64, length: usize) -> Result<bool> {
    if length > SEARCHED_MAX {
        return Ok(false);
    }
    let mut bytes = vec![0; SEARCHED_MAX + 1];
    let read = object.read_at(offset, &mut bytes)?;
    bytes.truncate(read);
    let (line, rest) = bytes.split_at_checked(length).unwrap_or((&bytes, b""));
    // Nearly everything that is torn ends otherwise, and need not be searched.
    if ends_like_a_line(line, 1)
        || ends_like_a_line(line.split_last().map_or(line, |(_, line)| line), 1)
    {
        return Ok(flipped_bit(line).is_some());
    }
    // A byte may have become a newline.
    let other_half = rest.get(1..).unwrap_or_default();
    let end = memchr::memchr(b'\n', other_half).unwrap_or(other_half.len());
    if !ends_like_a_line(other_half.get(..end).unwrap_or_default(), 1) {
        return Ok(false);
    }
    let mut joined = bytes.get(..length + 1 + end).unwrap_or_default().to_vec();
    Ok((0..8).any(|bit| {
        flip(&mut joined, length, 1 << bit);
        let found = is_intact(&joined);
        flip(&mut joined, length, 1 << bit);
        found
    }))
}

fn flip(bytes: &mut [u8], place: usize, mask: u8) -> Option<()> {
    *bytes.get_mut(place)? ^= mask;
    Some(())
}

/// Whether the end is that of a line with a checksum, but for `wrong` bytes at most.
fn ends_like_a_line(line: &[u8], wrong: usize) -> bool {
    let Some(end) = line.len().checked_sub(TRAILER.len()) else {
        return false;
    };
    let pairs = line.iter().skip(end).zip(TRAILER);
    let same = pairs.filter(|(byte, pattern)| match pattern {
        b'0' => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
        _ => byte == pattern,
    });
    same.count() + wrong >= TRAILER.len()
}

/// Whether every line in `bytes` is an operation whose checksum holds.
fn is_intact(bytes: &[u8]) -> bool {
    let mut lines = bytes
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty());
    lines.all(|line| {
        ends_like_a_line(line, 0) && matches!(op_line::decode(line), Ok(op) if op.seq.is_some())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::{Backend, MemoryBackend};

    fn lines() -> Vec<u8> {
        let mut lines = Vec::new();
        for seq in 0..2 {
            let begin = lines.len();
            lines.extend_from_slice(b"{\"ts\":\"2026-01-01T00:00:00.000Z\",\"op\":\"set\",\"id\":\"a\",\"prev\":null,\"data\":{}");
            op_line::encode_trailer(&mut lines, begin, seq, 0);
        }
        lines
    }

    fn first_line_is_rotten(bytes: &[u8]) -> bool {
        let backend = MemoryBackend::new();
        backend.put("log", bytes).unwrap();
        let length = memchr::memchr(b'\n', bytes).unwrap_or(bytes.len());
        is_rotten(&*backend.open("log").unwrap(), 0, length).unwrap()
    }

    #[test]
    fn a_flipped_bit_is_found_wherever_it_is() {
        let lines = lines();
        let first = memchr::memchr(b'\n', &lines).unwrap();
        for bit in (0..lines.len() * 8).step_by(3) {
            let mut flipped = lines.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(flipped_bit(&flipped), Some((bit / 8, lines[bit / 8])));
            if bit / 8 <= first {
                assert!(first_line_is_rotten(&flipped), "bit {bit}");
            }
            flipped[(bit / 8 + 5) % lines.len()] ^= 6;
            assert_eq!(flipped_bit(&flipped), None);
        }
    }

    #[test]
    fn what_is_torn_is_not_rotten() {
        let lines = lines();
        let first = memchr::memchr(b'\n', &lines).unwrap();
        for from in (0..first).step_by(3) {
            for to in from + 1..=first {
                for blank in [0, b'\n'] {
                    let mut torn = lines.clone();
                    torn[from..to].fill(blank);
                    let length = memchr::memchr(b'\n', &torn).unwrap();
                    // One byte alone, of a pair that differs in one bit, cannot be told; writes are torn at more than that.
                    let alone = to - from == 1 && (lines[from] ^ blank).is_power_of_two();
                    assert!(
                        alone || length == 0 || !first_line_is_rotten(&torn),
                        "{from}..{to}"
                    );
                }
            }
            assert!(!first_line_is_rotten(&lines[..from]));
        }
    }
}
