//! Numbers for people.

use std::time::Duration;

/// `bytes` in the largest binary unit of which there is at least one.
pub(super) fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    // 1023.95 and more would be printed as 1024.0.
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    match unit {
        0 => format!("{bytes} B"),
        _ => format!("{value:.1} {}", UNITS[unit]),
    }
}

/// `seconds` as "4 s", "2 min 3 s" or "5 h 7 min".
pub(super) fn seconds(seconds: u64) -> String {
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, s) => format!("{s} s"),
        (0, m, s) => format!("{m} min {s} s"),
        (h, m, _) => format!("{h} h {m} min"),
    }
}

/// A duration with three digits or so: "0.25 ms", "12.3 ms", "4.56 s".
pub(super) fn duration(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    match seconds {
        s if s < 0.001 => format!("{:.0} µs", s * 1e6),
        s if s < 1.0 => format!("{:.1} ms", s * 1e3),
        s => format!("{s:.2} s"),
    }
}

/// Width of the bar of a resync or a verify in a status.
pub(super) const BAR_COLUMNS: usize = 30;

/// A bar of `width` characters: `[#####>----]`.
pub(super) fn bar(percent: f64, width: usize) -> String {
    let full = percent.clamp(0.0, 100.0) / 100.0 * width as f64;
    let full = (full as usize).min(width);
    let head = usize::from(full < width);
    let rest = width - full - head;
    format!("[{}{}{}]", "#".repeat(full), ">".repeat(head), "-".repeat(rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_read_as_expected() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1 << 20), "1.0 MiB");
        assert_eq!(bytes((1 << 20) - 1), "1.0 MiB");
        assert_eq!(bytes(u64::MAX), "16.0 EiB");
        assert_eq!(seconds(3725), "1 h 2 min");
        assert_eq!(seconds(125), "2 min 5 s");
        assert_eq!(duration(Duration::from_micros(2500)), "2.5 ms");
    }

    #[test]
    fn a_bar_is_as_wide_as_it_is_said() {
        assert_eq!(bar(0.0, 4), "[>---]");
        assert_eq!(bar(50.0, 4), "[##>-]");
        assert_eq!(bar(100.0, 4), "[####]");
        assert_eq!(bar(f64::NAN, 4), "[>---]");
    }
}
