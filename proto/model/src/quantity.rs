//! Kubernetes quantities (`512Mi`, `0.5`, `1e3`), compared exactly.

use std::cmp::Ordering;

/// A quantity: mantissa × 10^exponent. More digits than the 20 that Kubernetes can tell apart are rounded away.
#[derive(Debug, Clone, Copy)]
pub struct Quantity {
    negative: bool,
    mantissa: u128,
    exponent: i32,
}

/// The text is no quantity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotAQuantity;

const MAX_DIGITS: usize = 20;
/// Beyond this no two quantities differ for any cluster.
const MAX_EXPONENT: i32 = 60;

impl Quantity {
    /// Reads a quantity.
    ///
    /// # Errors
    /// When the text is none.
    pub fn parse(text: &str) -> Result<Self, NotAQuantity> {
        let (negative, rest) = match text.as_bytes().first() {
            Some(b'-') => (true, &text[1..]),
            Some(b'+') => (false, &text[1..]),
            _ => (false, text),
        };
        let end = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len());
        let (number, suffix) = rest.split_at(end);
        let (whole, part) = number.split_once('.').unwrap_or((number, ""));
        if part.contains('.') || (whole.is_empty() && part.is_empty()) {
            return Err(NotAQuantity);
        }
        let (factor, exponent) = suffix_value(suffix)?;
        let mut digits = String::new();
        digits.push_str(whole);
        digits.push_str(part);
        let significant = digits.trim_start_matches('0');
        let mut exponent = exponent - i32::try_from(part.len()).map_err(|_| NotAQuantity)?;
        let kept = significant.len().min(MAX_DIGITS);
        exponent += i32::try_from(significant.len() - kept).map_err(|_| NotAQuantity)?;
        let mantissa: u128 = if kept == 0 {
            0
        } else {
            significant[..kept].parse().map_err(|_| NotAQuantity)?
        };
        Ok(Self {
            negative: negative && mantissa != 0,
            // At most 20 digits times 2^60: below 2^128.
            mantissa: mantissa.saturating_mul(factor),
            exponent: exponent.clamp(-MAX_EXPONENT, MAX_EXPONENT),
        }
        .normal())
    }

    /// Whether it is zero.
    #[must_use]
    pub fn is_zero(self) -> bool {
        self.mantissa == 0
    }

    /// As a whole number of bytes, rounded up; none when it is negative or too large.
    #[must_use]
    pub fn bytes(self) -> Option<u64> {
        if self.negative {
            return None;
        }
        let scale = 10_u128.checked_pow(self.exponent.unsigned_abs());
        let bytes = if self.exponent >= 0 {
            self.mantissa.checked_mul(scale?)?
        } else {
            // Beyond all digits there is less than one byte.
            scale.map_or(u128::from(!self.is_zero()), |scale| {
                self.mantissa.div_ceil(scale)
            })
        };
        u64::try_from(bytes).ok()
    }

    /// Whether it is below zero.
    #[must_use]
    pub fn is_negative(self) -> bool {
        self.negative
    }

    /// Both together; `None` where that has more digits than can be kept, or one is below zero.
    #[must_use]
    pub fn checked_add(self, other: Self) -> Option<Self> {
        if self.negative || other.negative {
            return None;
        }
        let exponent = self.exponent.min(other.exponent);
        let scaled = |it: Self| {
            let scale = 10_u128.checked_pow((it.exponent - exponent).unsigned_abs())?;
            it.mantissa.checked_mul(scale)
        };
        let sum = Self {
            negative: false,
            mantissa: scaled(self)?.checked_add(scaled(other)?)?,
            exponent,
        };
        Some(sum.normal())
    }

    /// As Kubernetes writes it, with the largest suffix that leaves a whole number; `binary` prefers `Ki`, `Mi` and so on.
    #[must_use]
    pub fn write(self, binary: bool) -> String {
        let sign = if self.negative { "-" } else { "" };
        let whole = u32::try_from(self.exponent)
            .ok()
            .and_then(|exponent| self.mantissa.checked_mul(10_u128.checked_pow(exponent)?));
        if let (true, Some(mut whole)) = (binary, whole) {
            let mut suffixes = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"].into_iter();
            let mut suffix = suffixes.next().unwrap_or_default();
            while whole != 0 && whole.is_multiple_of(1024) {
                let Some(next) = suffixes.next() else { break };
                (whole, suffix) = (whole / 1024, next);
            }
            return format!("{sign}{whole}{suffix}");
        }
        let suffixes = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"];
        let step = self.exponent.div_euclid(3);
        let suffix = usize::try_from(step + 3).ok();
        match suffix.and_then(|at| suffixes.get(at)) {
            Some(suffix) => {
                let whole = self.mantissa * 10_u128.pow(self.exponent.rem_euclid(3).unsigned_abs());
                format!("{sign}{whole}{suffix}")
            }
            None => format!("{sign}{}e{}", self.mantissa, self.exponent),
        }
    }

    fn normal(mut self) -> Self {
        if self.mantissa == 0 {
            self.exponent = 0;
        }
        while self.mantissa != 0 && self.mantissa.is_multiple_of(10) {
            self.mantissa /= 10;
            self.exponent += 1;
        }
        self
    }

    fn compare_size(self, other: Self) -> Ordering {
        if self.is_zero() || other.is_zero() {
            return self.mantissa.cmp(&other.mantissa);
        }
        let magnitude = |q: Self| q.exponent.saturating_add(digits(q.mantissa));
        magnitude(self).cmp(&magnitude(other)).then_with(|| {
            // The same magnitude: the difference of the exponents is a difference in digits, so nothing overflows.
            let difference = self.exponent - other.exponent;
            let scale = 10_u128.pow(difference.unsigned_abs().min(38));
            if difference >= 0 {
                self.mantissa.saturating_mul(scale).cmp(&other.mantissa)
            } else {
                self.mantissa.cmp(&other.mantissa.saturating_mul(scale))
            }
        })
    }
}

fn digits(value: u128) -> i32 {
    value
        .checked_ilog10()
        .map_or(0, |digits| i32::try_from(digits + 1).unwrap_or(i32::MAX))
}

fn suffix_value(suffix: &str) -> Result<(u128, i32), NotAQuantity> {
    let decimal = |exponent| Ok((1, exponent));
    let binary = |power: u32| Ok((1_u128 << power, 0));
    match suffix {
        "" => decimal(0),
        "n" => decimal(-9),
        "u" => decimal(-6),
        "m" => decimal(-3),
        "k" => decimal(3),
        "M" => decimal(6),
        "G" => decimal(9),
        "T" => decimal(12),
        "P" => decimal(15),
        "E" => decimal(18),
        "Ki" => binary(10),
        "Mi" => binary(20),
        "Gi" => binary(30),
        "Ti" => binary(40),
        "Pi" => binary(50),
        "Ei" => binary(60),
        _ => {
            let exponent = suffix
                .strip_prefix(['e', 'E'])
                .filter(|text| {
                    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
                    !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
                })
                .ok_or(NotAQuantity)?;
            let exponent: i32 = exponent.parse().map_err(|_| NotAQuantity)?;
            decimal(exponent.clamp(-MAX_EXPONENT, MAX_EXPONENT))
        }
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self.negative, other.negative) {
            (false, true) => Ordering::Greater,
            (true, false) => Ordering::Less,
            (false, false) => self.compare_size(*other),
            (true, true) => other.compare_size(*self),
        }
    }
}

/// What was probably meant by a text that is no quantity.
#[must_use]
pub fn repair(text: &str) -> Option<String> {
    let trimmed: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    let end = trimmed.find(|c: char| !c.is_ascii_digit() && c != '.' && c != '-')?;
    let (number, suffix) = trimmed.split_at(end);
    let suffix = match suffix.to_ascii_lowercase().as_str() {
        "k" | "kb" => "k",
        "m" | "mb" => "M",
        "g" | "gb" => "G",
        "t" | "tb" => "T",
        "ki" | "kib" => "Ki",
        "mi" | "mib" => "Mi",
        "gi" | "gib" => "Gi",
        "ti" | "tib" => "Ti",
        _ => return None,
    };
    let repaired = format!("{number}{suffix}");
    Quantity::parse(&repaired).is_ok().then_some(repaired)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_and_compared_exactly() {
        let quantity = |text: &str| Quantity::parse(text).unwrap();
        for (a, order, b) in [
            ("1Gi", Ordering::Greater, "1G"),
            ("1024Mi", Ordering::Equal, "1Gi"),
            ("0.5", Ordering::Equal, "500m"),
            ("1e3", Ordering::Equal, "1k"),
            ("1E", Ordering::Equal, "1e18"),
            ("-1", Ordering::Less, "0"),
            ("-2", Ordering::Less, "-1"),
            ("0.1", Ordering::Less, "0.10000000000000000001"),
            ("9007199254740993", Ordering::Greater, "9007199254740992"),
            ("1n", Ordering::Less, "1u"),
            ("8Ei", Ordering::Greater, "9e17"),
            ("+.5", Ordering::Equal, "500m"),
            ("1.", Ordering::Equal, "1"),
            ("0Gi", Ordering::Equal, "0"),
            ("99999999999999999999Ei", Ordering::Greater, "1Ei"),
        ] {
            assert_eq!(quantity(a).cmp(&quantity(b)), order, "{a} and {b}");
        }
    }

    #[test]
    fn sums_are_written_as_kubernetes_writes_them() {
        for (first, second, binary, expected) in [
            ("1Gi", "512Mi", true, "1536Mi"),
            ("1000Mi", "1.5G", true, "2548576000"),
            ("1500m", "0.5", false, "2"),
            ("1", "500m", false, "1500m"),
            ("15m", "100m", false, "115m"),
            ("2Gi", "1024Mi", true, "3Gi"),
            ("1G", "1G", false, "2G"),
            ("0", "0", true, "0"),
            ("1n", "0", false, "1n"),
            ("1500", "500", false, "2k"),
        ] {
            let read = |text| Quantity::parse(text).unwrap();
            let sum = read(first).checked_add(read(second)).unwrap();
            assert_eq!(sum.write(binary), expected, "{first} + {second}");
        }
        let huge = Quantity::parse("1e60").unwrap();
        assert!(huge.checked_add(Quantity::parse("1n").unwrap()).is_none());
        assert!(huge.checked_add(Quantity::parse("-1").unwrap()).is_none());
        assert_eq!(huge.write(true), "1e60");
    }

    #[test]
    fn other_texts_are_no_quantities() {
        for text in [
            "", "1GB", "1K", "Gi", ".", "1.2.3", "1 Gi", "e3", "1e", "1e+", "--1", "1Mi2", "0x10",
            "{{a}}",
        ] {
            assert!(Quantity::parse(text).is_err(), "{text}");
        }
        assert_eq!(repair("1GB").as_deref(), Some("1G"));
        assert_eq!(repair("512 MiB").as_deref(), Some("512Mi"));
        assert_eq!(repair("lots"), None);
    }
}
