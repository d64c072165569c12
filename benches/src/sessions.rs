//! Linux's groups of sessions (autogroup, see sched(7)): every session may have the same share of a core, whatever is in it. Each
//! process of Postgres makes itself a session, so each of the two that write the log counts as much as the shop and its clients
//! together. What a service manager or a container has in a group of its own, as in production, has no such groups, and nothing
//! here has them while times are taken.

use std::fs;
use std::io::{self, Write as _};

/// 1 where there are such groups. There is no such file where the kernel knows none.
const SETTING: &str = "/proc/sys/kernel/sched_autogroup_enabled";

/// There are no groups of sessions until this is dropped, which brings back what was there before.
pub(crate) struct Ungrouped {
    before: Option<String>,
}

impl Ungrouped {
    /// Switches the groups off where they are on. Says so where it must not.
    pub(crate) fn new() -> Self {
        let before = fs::read_to_string(SETTING).ok().filter(|setting| setting.trim() != "0");
        let before = before.filter(|_| match fs::write(SETTING, "0") {
            Ok(()) => true,
            Err(error) => {
                tell(&format!(
                    "times will be longer than they need be: the system shares the cores among sessions, and {SETTING} cannot be \
                     written ({error}); as root: sysctl kernel.sched_autogroup_enabled=0"
                ));
                false
            }
        });
        Self { before }
    }
}

impl Drop for Ungrouped {
    fn drop(&mut self) {
        if let Some(before) = &self.before
            && let Err(error) = fs::write(SETTING, before)
        {
            tell(&format!("{SETTING} was {} and is 0 now: {error}", before.trim()));
        }
    }
}

/// Nobody may read it any more, which is no reason to measure nothing.
fn tell(what: &str) {
    drop(writeln!(io::stderr(), "{what}"));
}
