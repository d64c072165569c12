//! `storefold schema`: the schemas that clients build on, printed, or held against an older one.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;

use crate::cli::Schema;
use crate::print;

/// The exit code that says that something breaks clients.
const BREAKS: u8 = 4;

/// A schema as text.
///
/// # Errors
/// When it has no JSON form.
pub(crate) fn text_of(schema: Schema) -> anyhow::Result<String> {
    Ok(match schema {
        Schema::Sdl => read_api::sdl(),
        Schema::Openapi => {
            format!(
                "{}\n",
                serde_json::to_string_pretty(&write_side::http::openapi::document(&write_side::registry()))?
            )
        }
        Schema::EventsLock => format!("{:#}\n", domain::schemas::events_lock()),
    })
}

/// Prints what has changed since an older schema that breaks clients.
///
/// # Errors
/// When the older schema cannot be read, or is none.
pub(crate) fn check(schema: Schema, old: &Path) -> anyhow::Result<ExitCode> {
    let before = std::fs::read_to_string(old).with_context(|| format!("cannot read {}", old.display()))?;
    let at = || format!("cannot compare with {}", old.display());
    let broken = match schema {
        Schema::Sdl => read_api::breaking_changes(&before, &read_api::sdl()).with_context(at)?,
        Schema::Openapi => {
            write_side::http::openapi::breaking_changes(&before, &text_of(Schema::Openapi)?).with_context(at)?
        }
        Schema::EventsLock => anyhow::bail!("events.lock is held against the code by the tests of domain, not here"),
    };
    print(&broken.iter().map(|change| format!("{change}\n")).collect::<String>())?;
    Ok(if broken.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(BREAKS) })
}
