//! Reading the versions that programs print.

use std::fmt;

/// A version as `--version` prints it, without what follows the numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version {
    /// The first number.
    pub(crate) major: u32,
    /// The second number.
    pub(crate) minor: u32,
    /// The third number, 0 where there is none.
    pub(crate) patch: u32,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// Finds the first word that is a version, such as `v2.12.1` or `15.18-1`.
pub(crate) fn find_version(text: &str) -> Option<Version> {
    text.split_whitespace().find_map(parse_word)
}

fn parse_word(word: &str) -> Option<Version> {
    let word = word.strip_prefix('v').unwrap_or(word);
    let numbers: &str = word
        .split(|c: char| c != '.' && !c.is_ascii_digit())
        .next()?;
    let mut parts = numbers.split('.');
    Some(Version {
        major: parts.next()?.parse().ok()?,
        minor: parts.next()?.parse().ok()?,
        patch: parts.next().and_then(|part| part.parse().ok()).unwrap_or(0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> Option<(u32, u32, u32)> {
        find_version(text).map(|v| (v.major, v.minor, v.patch))
    }

    #[test]
    fn reads_what_programs_print() {
        assert_eq!(version("nats-server: v2.15.1\n"), Some((2, 15, 1)));
        assert_eq!(version("nats-server: v2.12.0-RC.3"), Some((2, 12, 0)));
        assert_eq!(version("cargo-deny 0.20.2"), Some((0, 20, 2)));
        assert_eq!(
            version("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)"),
            Some((15, 18, 0))
        );
        assert_eq!(
            version("cargo-nextest 0.9.143 (60fa45f63)"),
            Some((0, 9, 143))
        );
    }

    #[test]
    fn finds_none_in_other_text() {
        assert_eq!(version(""), None);
        assert_eq!(version("nats-server: unknown"), None);
        assert_eq!(version("version 3"), None);
    }

    #[test]
    fn compares_number_by_number() {
        assert!(find_version("2.9.25") < find_version("2.12.0"));
        assert!(find_version("2.12.0") <= find_version("2.12"));
        assert!(find_version("3.0.0") > find_version("2.15.1"));
    }
}
