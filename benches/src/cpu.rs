//! The CPU time and the memory of processes, from `/proc`.

use std::fs;

/// Clock ticks are hundredths of a second wherever Linux runs.
const TICK_MICROS: u64 = 10_000;

/// The CPU microseconds of a process, of its children that live and of those that were waited for.
pub(crate) fn of_tree(pid: u32) -> u64 {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let ticks = pids.filter_map(|other| {
        let stat = Stat::read(other)?;
        match other == pid {
            true => Some(stat.own + stat.waited_for),
            false => (stat.parent == pid).then_some(stat.own),
        }
    });
    ticks.sum::<u64>() * TICK_MICROS
}

/// The CPU microseconds of this process and of those that it waited for.
pub(crate) fn of_this() -> u64 {
    Stat::read(std::process::id()).map_or(0, |stat| (stat.own + stat.waited_for) * TICK_MICROS)
}

/// A figure of a process's memory, in MiB; see proc(5).
pub(crate) fn memory(pid: u32, name: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let kibibytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kibibytes.unwrap_or_default() / 1024
}

struct Stat {
    parent: u32,
    /// User and system time, in ticks.
    own: u64,
    /// The same of children that have ended.
    waited_for: u64,
}

impl Stat {
    /// See proc(5): after the name in parentheses stand the state, the parent, and, from the 12th field on, the times.
    fn read(pid: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let number = |place: usize| fields.get(place)?.parse::<u64>().ok();
        Some(Self {
            parent: fields.get(1)?.parse().ok()?,
            own: number(11)? + number(12)?,
            waited_for: number(13)? + number(14)?,
        })
    }
}
