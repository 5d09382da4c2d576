//! How full the disk with the images may get. Pure.

use std::{fmt, str::FromStr};

/// A share of a disk; 0, which is written `off` too, stands for never.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Percent(u8);

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => f.write_str("off"),
            percent => write!(f, "{percent}"),
        }
    }
}

impl FromStr for Percent {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "off" {
            return Ok(Self(0));
        }
        let percent = text.parse::<u8>().ok().filter(|percent| *percent <= 100);
        percent.map(Self).ok_or_else(|| format!("{text:?} is no share of a disk: write 1 to 100 percent, or off"))
    }
}

/// When images that tasks brought here are collected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImageGc {
    Never,
    /// When the disk is fuller than the high share, until it is no fuller than the low one.
    Between {
        high: u8,
        low: u8,
    },
}

impl Default for ImageGc {
    /// Kubelet's.
    fn default() -> Self {
        Self::Between { high: 85, low: 80 }
    }
}

impl ImageGc {
    /// Until nothing is left that may go.
    pub(super) const ALL: Self = Self::Between { high: 0, low: 0 };

    /// Between these two; never, if one of them is off.
    ///
    /// # Errors
    /// In words, where the low one is above the high one.
    pub fn new(high: Percent, low: Percent) -> Result<Self, String> {
        match (high.0, low.0) {
            (0, _) | (_, 0) => Ok(Self::Never),
            (high, low) if low > high => Err(format!(
                "image-gc-low {low} is above image-gc-high {high}: images are removed when the disk is fuller than the high \
                 share, until it is down to the low one; set the low one to {high} or less"
            )),
            (high, low) => Ok(Self::Between { high, low }),
        }
    }

    pub(super) fn is_too_full(self, disk: Disk) -> bool {
        matches!(self, Self::Between { high, .. } if disk.is_fuller_than(high))
    }

    pub(super) fn is_enough(self, disk: Disk) -> bool {
        !matches!(self, Self::Between { low, .. } if disk.is_fuller_than(low))
    }
}

/// What a file system has, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Disk {
    pub used: u64,
    /// For whom there is no reserve.
    pub free: u64,
}

impl Disk {
    fn is_fuller_than(self, percent: u8) -> bool {
        u128::from(self.used) * 100 > u128::from(percent) * (u128::from(self.used) + u128::from(self.free))
    }

    /// As `df` shows it: rounded up.
    pub fn percent(self) -> u128 {
        let whole = u128::from(self.used) + u128::from(self.free);
        (u128::from(self.used) * 100).div_ceil(whole.max(1))
    }

    /// What it will be when the kernel has given these bytes free: some file systems take their time for that.
    pub fn without(self, bytes: u64) -> Self {
        let gone = bytes.min(self.used);
        Self { used: self.used - gone, free: self.free + gone }
    }

    pub fn emptier(self, other: Self) -> Self {
        if other.used < self.used { other } else { self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// P27: what makes no sense is refused with what would.
    #[test]
    fn p27_shares_of_a_disk_are_read_or_refused() {
        let percent = |text: &str| text.parse::<Percent>();
        for (text, shown) in [("85", "85"), ("100", "100"), ("0", "off"), ("off", "off")] {
            assert_eq!(percent(text).map(|percent| percent.to_string()), Ok(shown.to_owned()));
        }
        for text in ["101", "256", "-1", "", "many", "8.5"] {
            let refused = format!("{text:?} is no share of a disk: write 1 to 100 percent, or off");
            assert_eq!(percent(text), Err(refused));
        }
        let between = |high: &str, low: &str| ImageGc::new(percent(high).expect(high), percent(low).expect(low));
        assert_eq!(between("85", "80"), Ok(ImageGc::default()));
        assert_eq!(between("70", "70"), Ok(ImageGc::Between { high: 70, low: 70 }));
        assert_eq!((between("off", "80"), between("85", "0")), (Ok(ImageGc::Never), Ok(ImageGc::Never)));
        let refused = between("70", "80").expect_err("the wrong way round");
        assert!(refused.starts_with("image-gc-low 80 is above image-gc-high 70: "), "{refused}");
        assert!(refused.ends_with("set the low one to 70 or less"), "{refused}");
    }

    #[test]
    fn p27_a_disk_is_too_full_above_the_high_share_and_fine_at_the_low_one() {
        let (gc, disk) = (ImageGc::default(), |used| Disk { used, free: 1000 - used });
        let is = |used| (gc.is_too_full(disk(used)), gc.is_enough(disk(used)), disk(used).percent());
        assert_eq!(is(850), (false, false, 85));
        assert_eq!(is(851), (true, false, 86));
        assert_eq!(is(801), (false, false, 81));
        assert_eq!(is(800), (false, true, 80));
        let full = disk(1000);
        assert!(!ImageGc::Never.is_too_full(full) && ImageGc::Never.is_enough(full));
        assert!(ImageGc::ALL.is_too_full(disk(1)) && !ImageGc::ALL.is_enough(disk(1)));
        assert_eq!(disk(100).without(300), disk(0), "never below nothing");
        assert_eq!(disk(100).emptier(disk(90)), disk(90));
        assert_eq!(Disk { used: 0, free: 0 }.percent(), 0);
    }
}
