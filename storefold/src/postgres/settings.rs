//! The settings of a private cluster.

use std::fmt::Write;
use std::fs;
use std::path::Path;

/// Part of the socket's name.
pub(super) const PORT: u16 = 5432;

const MEGABYTE: u64 = 1 << 20;

/// What the settings depend on.
pub(super) struct Basis<'a> {
    pub(super) socket_dir: &'a Path,
    /// Whether data must survive a crash.
    pub(super) durable: bool,
    /// Bytes of memory of the machine, where they are known.
    pub(super) memory: Option<u64>,
    /// Whether the server was built to compress its log, and long values, with lz4.
    pub(super) wal_lz4: bool,
    pub(super) toast_lz4: bool,
}

impl Basis<'_> {
    /// The configuration file.
    pub(super) fn render(&self) -> String {
        let mut file = String::from(
            "# Written by storefold at every start. To change a setting, put it into postgresql.conf below the include,\n\
             # or use `alter system`.\n",
        );
        for (name, value) in self.settings() {
            let _ = writeln!(file, "{name} = '{}'", value.replace('\'', "''"));
        }
        file
    }

    fn settings(&self) -> Vec<(&'static str, String)> {
        let mut settings = vec![
            ("listen_addresses", String::new()),
            ("port", PORT.to_string()),
            ("unix_socket_directories", self.socket_dir.display().to_string()),
            ("timezone", "UTC".to_owned()),
            ("log_timezone", "UTC".to_owned()),
            // A file a weekday, overwritten a week later.
            ("logging_collector", "on".to_owned()),
            ("log_directory", "log".to_owned()),
            ("log_filename", "postgres-%a.log".to_owned()),
            ("log_rotation_age", "1d".to_owned()),
            ("log_rotation_size", "0".to_owned()),
            ("log_truncate_on_rotation", "on".to_owned()),
            ("log_line_prefix", "%m [%p] %a ".to_owned()),
            // Flash storage, and short queries.
            ("random_page_cost", "1.1".to_owned()),
            ("jit", "off".to_owned()),
        ];
        if self.toast_lz4 {
            settings.push(("default_toast_compression", "lz4".to_owned()));
        }
        settings.extend(if self.durable { self.for_a_shop() } else { for_tests() });
        settings
    }

    fn for_a_shop(&self) -> Vec<(&'static str, String)> {
        vec![
            // A process opens about 70 at most, and an import may run beside a server.
            ("max_connections", "200".to_owned()),
            ("shared_buffers", format!("{}MB", shared_buffers(self.memory) / MEGABYTE)),
            ("fsync", "on".to_owned()),
            ("synchronous_commit", "on".to_owned()),
            ("full_page_writes", "on".to_owned()),
            ("wal_level", "replica".to_owned()),
            // Few checkpoints: each is followed by a burst of full pages in the log.
            ("max_wal_size", "4GB".to_owned()),
            ("checkpoint_timeout", "15min".to_owned()),
            ("wal_compression", if self.wal_lz4 { "lz4" } else { "on" }.to_owned()),
        ]
    }
}

/// Many small databases, none of which outlives its test.
fn for_tests() -> Vec<(&'static str, String)> {
    vec![
        ("max_connections", "300".to_owned()),
        ("shared_buffers", "128MB".to_owned()),
        ("fsync", "off".to_owned()),
        ("synchronous_commit", "off".to_owned()),
        ("full_page_writes", "off".to_owned()),
        ("wal_level", "minimal".to_owned()),
        ("max_wal_senders", "0".to_owned()),
    ]
}

/// A quarter of the memory, at least Postgres's own default and at most 1 GB: beyond that the file cache serves as well.
fn shared_buffers(memory: Option<u64>) -> u64 {
    memory.map_or(0, |memory| memory / 4).clamp(128 * MEGABYTE, 1024 * MEGABYTE)
}

/// Bytes of memory of this machine, where Linux says it.
pub(super) fn memory() -> Option<u64> {
    total(&fs::read_to_string("/proc/meminfo").ok()?)
}

fn total(meminfo: &str) -> Option<u64> {
    let kilobytes = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB"))?;
    Some(kilobytes.trim().parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shop() -> Basis<'static> {
        Basis {
            socket_dir: Path::new("/tmp/it's"),
            durable: true,
            memory: Some(2048 * MEGABYTE),
            wal_lz4: false,
            toast_lz4: false,
        }
    }

    #[test]
    fn a_shop_syncs_and_a_test_does_not() {
        assert!(shop().render().contains("\nfsync = 'on'\n"));
        assert!(Basis { durable: false, ..shop() }.render().contains("\nfsync = 'off'\n"));
    }

    #[test]
    fn lz4_is_asked_for_only_where_the_server_has_it() {
        assert!(!shop().render().contains("lz4"));
        let lz4 = Basis { wal_lz4: true, toast_lz4: true, ..shop() }.render();
        assert_eq!(lz4.matches("'lz4'").count(), 2, "{lz4}");
    }

    #[test]
    fn values_are_quoted() {
        assert!(shop().render().contains("unix_socket_directories = '/tmp/it''s'"));
    }

    #[test]
    fn shared_buffers_are_a_quarter_of_the_memory_within_bounds() {
        let megabytes = |memory: Option<u64>| shared_buffers(memory.map(|memory| memory * MEGABYTE)) / MEGABYTE;
        assert_eq!([None, Some(256), Some(2048), Some(65_536)].map(megabytes), [128, 128, 512, 1024]);
    }

    #[test]
    fn the_memory_is_read_from_proc() {
        assert_eq!(total("MemTotal:       24689764 kB\nMemFree: 1 kB\n"), Some(24_689_764 * 1024));
        assert_eq!(total("MemFree: 1 kB\n"), None);
    }
}
