//! Times as the files have them: `2026-01-31T12:34:56.789Z`, always UTC with three decimals.
//!
//! Every operation carries one, so writing and reading this one form is done by hand; any other ISO 8601 form is left to jiff.

use std::time::Instant;

use jiff::Timestamp;

use crate::testing;

const MILLISECONDS_PER_DAY: i64 = 86_400_000;

/// The present time.
pub(crate) fn now() -> Timestamp {
    testing::frozen_time().unwrap_or_else(Timestamp::now)
}

/// How long ago `began` was.
pub(crate) fn milliseconds_since(began: Instant) -> u64 {
    match testing::frozen_time() {
        Some(_) => 0,
        None => u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
    }
}

/// The text of `timestamp`.
pub(crate) fn format_timestamp(timestamp: Timestamp) -> String {
    let mut out = Vec::with_capacity(24);
    write_timestamp(&mut out, timestamp);
    String::from_utf8(out).expect("only ASCII is written")
}

/// Appends the text of `timestamp`.
pub(crate) fn write_timestamp(out: &mut Vec<u8>, timestamp: Timestamp) {
    // Rounded down, not towards zero: a time before 1970 belongs to the millisecond that it is in.
    let mut milliseconds = timestamp.as_millisecond();
    if timestamp.subsec_nanosecond() % 1_000_000 < 0 {
        milliseconds -= 1;
    }
    let (year, month, day) = civil_date(milliseconds.div_euclid(MILLISECONDS_PER_DAY));
    let time = milliseconds.rem_euclid(MILLISECONDS_PER_DAY);
    if year < 0 {
        // JavaScript's form of a year outside 0 to 9999.
        out.push(b'-');
        write_digits(out, -year, 100_000);
    } else {
        write_digits(out, year, 1000);
    }
    for (before, number) in [
        (b'-', month),
        (b'-', day),
        (b'T', time / 3_600_000),
        (b':', time / 60_000 % 60),
        (b':', time / 1000 % 60),
    ] {
        out.push(before);
        write_digits(out, number, 10);
    }
    out.push(b'.');
    write_digits(out, time % 1000, 100);
    out.push(b'Z');
}

/// The time that `text` stands for, if it is an ISO 8601 time with an offset.
pub(crate) fn parse_timestamp(text: &str) -> Option<Timestamp> {
    parse_exact(text.as_bytes()).or_else(|| text.parse().ok())
}

/// The calendar quarter of `timestamp` in UTC, such as `2026-Q4`.
pub(crate) fn quarter(timestamp: Timestamp) -> String {
    let seconds = timestamp.as_second() - i64::from(timestamp.subsec_nanosecond() < 0);
    let (year, month, _) = civil_date(seconds.div_euclid(86_400));
    format!("{year:04}-Q{}", (month + 2) / 3)
}

/// Appends `number` with as many digits as `unit`, the power of ten of the first digit, has.
fn write_digits(out: &mut Vec<u8>, number: i64, unit: i64) {
    let mut unit = unit;
    while unit > 0 {
        out.push(b'0' + u8::try_from(number / unit % 10).unwrap_or_default());
        unit /= 10;
    }
}

/// Reads exactly `YYYY-MM-DDTHH:MM:SS.mmmZ`.
fn parse_exact(text: &[u8]) -> Option<Timestamp> {
    let [
        y1,
        y2,
        y3,
        y4,
        b'-',
        o1,
        o2,
        b'-',
        d1,
        d2,
        b'T',
        h1,
        h2,
        b':',
        m1,
        m2,
        b':',
        s1,
        s2,
        b'.',
        f1,
        f2,
        f3,
        b'Z',
    ] = text
    else {
        return None;
    };
    let number = |digits: &[&u8]| {
        digits.iter().try_fold(0_i64, |value, digit| {
            digit
                .is_ascii_digit()
                .then(|| value * 10 + i64::from(**digit - b'0'))
        })
    };
    let year = number(&[y1, y2, y3, y4])?;
    let (month, day) = (number(&[o1, o2])?, number(&[d1, d2])?);
    let (hour, minute) = (number(&[h1, h2])?, number(&[m1, m2])?);
    let (second, millisecond) = (number(&[s1, s2])?, number(&[f1, f2, f3])?);
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let days = days_since_1970(year, month, day);
    // A date that does not exist (30 February) comes back as another one.
    if civil_date(days) != (year, month, day) {
        return None;
    }
    let seconds = days * 86_400 + hour * 3600 + minute * 60 + second;
    Timestamp::from_millisecond(seconds * 1000 + millisecond).ok()
}

/// Year, month and day of the day that is `days` after 1 January 1970.
/// Source: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`.
fn civil_date(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// The inverse of [`civil_date`]. Source: the same, `days_from_civil`.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn three_decimals_and_z_always() {
        let at = |text: &str| format_timestamp(text.parse().expect("a time"));
        assert_eq!(at("2026-01-01T00:00:00Z"), "2026-01-01T00:00:00.000Z");
        assert_eq!(at("2024-02-29T23:59:59.9999Z"), "2024-02-29T23:59:59.999Z");
        assert_eq!(at("1969-12-31T23:59:59.9995Z"), "1969-12-31T23:59:59.999Z");
        assert_eq!(at("-000001-03-01T00:00:00Z"), "-000001-03-01T00:00:00.000Z");
        assert_eq!(at("0000-01-01T00:00:00Z"), "0000-01-01T00:00:00.000Z");
    }

    #[test]
    fn other_forms_are_read_and_nonsense_is_not() {
        assert_eq!(
            parse_timestamp("2026-01-01T02:00:00+02:00"),
            parse_timestamp("2026-01-01T00:00:00.000Z")
        );
        for text in [
            "",
            "x",
            "2026-02-30T00:00:00.000Z",
            "2026-00-10T00:00:00.000Z",
            "2026-13-01T00:00:00.000Z",
            "2026-01-01T24:00:00.000Z",
            "2026-01-01T00:00:00.00éZ",
            "2026-01-01",
        ] {
            assert_eq!(parse_timestamp(text), None, "{text}");
        }
    }

    #[test]
    fn quarters_are_of_utc() {
        let of = |text: &str| quarter(text.parse().expect("a time"));
        assert_eq!(of("2026-12-31T23:59:59.999Z"), "2026-Q4");
        assert_eq!(of("2026-01-01T00:00:00+01:00"), "2025-Q4");
        assert_eq!(of("2026-04-01T00:00:00Z"), "2026-Q2");
        assert_eq!(of("1969-12-31T23:59:59.5Z"), "1969-Q4");
    }

    proptest! {
        #[test]
        fn agrees_with_jiff(milliseconds in -377_705_023_201_000_i64..=253_402_207_200_999) {
            let timestamp = Timestamp::from_millisecond(milliseconds).expect("in range");
            let text = format_timestamp(timestamp);
            prop_assert_eq!(text.parse::<Timestamp>().ok(), Some(timestamp));
            prop_assert_eq!(parse_timestamp(&text), Some(timestamp));
        }

        #[test]
        fn parsing_agrees_with_jiff_on_near_misses(text in "[0-2][0-9]{3}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-6][0-9]:[0-5][0-9]\\.[0-9]{3}Z") {
            prop_assert_eq!(parse_timestamp(&text), text.parse().ok());
        }
    }
}
