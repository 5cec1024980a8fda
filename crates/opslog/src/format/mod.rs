//! Op lines, snapshots, manifests and archive segments, to and from bytes, as `docs/format.md` says.
//!
//! Everything here is pure: no input/output, no wall clock, no panic whatever the bytes. The flows call it.

pub(crate) mod archive;
pub(crate) mod index;
pub(crate) mod json;
pub(crate) mod manifest;
pub(crate) mod op_line;
pub(crate) mod snapshot;
pub(crate) mod stamps;

/// Appends `checksum` as eight lowercase hexadecimal digits.
fn write_checksum(out: &mut Vec<u8>, checksum: u32) {
    let digit = |shift: u32| match u8::try_from((checksum >> shift) & 0xf).unwrap_or_default() {
        value @ 0..=9 => b'0' + value,
        value => b'a' + value - 10,
    };
    out.extend([28, 24, 20, 16, 12, 8, 4, 0].map(digit));
}

/// The checksum that exactly eight lowercase hexadecimal digits stand for.
fn read_checksum(digits: &[u8]) -> Option<u32> {
    if digits.len() != 8 {
        return None;
    }
    digits.iter().try_fold(0_u32, |value, byte| {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            _ => return None,
        };
        Some((value << 4) | u32::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_eight_lowercase_digits() {
        for checksum in [0, 1, 0xabcd_ef01, u32::MAX] {
            let mut out = Vec::new();
            write_checksum(&mut out, checksum);
            assert_eq!(out, format!("{checksum:08x}").into_bytes());
            assert_eq!(read_checksum(&out), Some(checksum));
        }
        assert_eq!(read_checksum(b"ABCDEF01"), None);
        assert_eq!(read_checksum(b"abcdef0"), None);
        assert_eq!(read_checksum(b"+bcdef01"), None);
    }
}
