//! What a schedule means: when it is due after a given time. Pure; the time zones are compiled in, so that every
//! manager knows the same.
//!
//! Asked by admission and by the planner. Where clocks go forward, a time of the hour that is left out is due right
//! after the gap; where they go back, a time that comes twice is due once. What is due more often than daily
//! (`*/5 * * * *`) follows the time as it passes.

use croner::{
    Cron,
    parser::{CronParser, Seconds, Year},
};
use jiff::tz::{TimeZone, TimeZoneDatabase};
use types::{ScheduleSpec, Timestamp};

pub(crate) struct Calendar {
    cron: Cron,
    zone: TimeZone,
}

impl Calendar {
    /// # Errors
    /// What of the schedule cannot be read, in words for people.
    pub(crate) fn of(schedule: &ScheduleSpec) -> Result<Self, String> {
        let text = &schedule.cron;
        let cron = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build().parse(text);
        let cron = cron.map_err(|why| {
            let why = why.to_string();
            let why = why.trim_end_matches('.');
            format!(
                "schedule {text:?} cannot be read: {why}; write minute, hour, day of the month, month and day of the \
                 week, such as \"0 3 * * *\""
            )
        })?;
        let name = &schedule.timezone;
        let zone = match name.as_str() {
            "" => TimeZone::UTC,
            name => TimeZoneDatabase::bundled().get(name).map_err(|_| {
                format!("timezone {name:?} of schedule {text:?} is unknown: use a name such as Europe/Berlin, or UTC")
            })?,
        };
        Ok(Self { cron, zone })
    }

    /// The first time after `at`. `None` if there is none.
    pub(crate) fn next_after(&self, at: Timestamp) -> Option<Timestamp> {
        let at = jiff::Timestamp::from_nanosecond(i128::from(at.as_unix_ns())).ok()?;
        let due = self.cron.find_next_occurrence(&at.to_zoned(self.zone.clone()), false).ok()?;
        u64::try_from(due.timestamp().as_nanosecond()).ok().map(Timestamp::from_unix_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(cron: &str, timezone: &str) -> Result<Calendar, String> {
        Calendar::of(&ScheduleSpec { cron: cron.into(), timezone: timezone.into(), ..ScheduleSpec::default() })
    }

    /// The times due after one another.
    fn due(cron: &str, timezone: &str, after: &str, count: usize) -> Vec<String> {
        let calendar = of(cron, timezone).expect("a good schedule");
        let after: jiff::Timestamp = after.parse().expect("a time");
        let mut at = Timestamp::from_unix_ns(u64::try_from(after.as_nanosecond()).expect("after 1970"));
        let mut next = || {
            at = calendar.next_after(at).expect("due some day");
            jiff::Timestamp::from_nanosecond(i128::from(at.as_unix_ns())).expect("in range").to_string()
        };
        (0..count).map(|_| next()).collect()
    }

    #[test]
    fn p26_due_times_follow_the_calendar_and_the_zone() {
        assert_eq!(
            due("0 3 * * *", "", "2026-01-01T03:00:00Z", 2),
            ["2026-01-02T03:00:00Z", "2026-01-03T03:00:00Z"],
            "the time itself is not after itself"
        );
        assert_eq!(due("*/15 9-17 * * mon-fri", "", "2026-01-02T17:46:10Z", 1), ["2026-01-05T09:00:00Z"]);
        assert_eq!(due("@daily", "Asia/Kolkata", "2026-01-01T00:00:00Z", 1), ["2026-01-01T18:30:00Z"]);
        assert_eq!(due("0 0 29 2 *", "", "2026-01-01T00:00:00Z", 1), ["2028-02-29T00:00:00Z"]);
    }

    #[test]
    fn p26_changing_clocks_neither_lose_nor_double_a_daily_run() {
        // 2026-03-29: 02:00 becomes 03:00 in Berlin
        assert_eq!(
            due("30 2 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z", 2),
            ["2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"]
        );
        // 2026-10-25: 03:00 becomes 02:00 again
        assert_eq!(
            due("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", 2),
            ["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]
        );
        assert_eq!(
            due("30 * * * *", "Europe/Berlin", "2026-10-25T00:00:00Z", 3),
            ["2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z", "2026-10-25T02:30:00Z"]
        );
    }

    #[test]
    fn bad_schedules_say_what_is_wrong() {
        let error = |cron, timezone| of(cron, timezone).err().expect("must be refused");
        assert!(error("0 25 * * *", "").starts_with("schedule \"0 25 * * *\" cannot be read: "));
        assert!(error("0 0 3 * * *", "").contains("write minute, hour"));
        assert!(error("", "").contains("cannot be read"));
        assert!(error("0 3 * * *", "Europe/Atlantis").contains("timezone \"Europe/Atlantis\""));
        let never = of("0 0 31 2 *", "").map(|calendar| calendar.next_after(Timestamp::from_unix_ms(0)));
        assert!(matches!(never, Ok(None) | Err(_)), "{never:?}");
    }
}
