//! What one event does to one instance: the commands of the reaction are sent, then the event is folded in.

use std::time::Duration;

use chrono::Utc;
use domain::process::Process;
use futures::{FutureExt as _, StreamExt as _};
use metrics::counter;
use tracing::{Instrument as _, Span};
use uuid::Uuid;

use super::book::{Instance, Stop, Waits};
use super::{Conduct, ManagerError, Seen, Setback, see};
use crate::envelope::Envelope;

/// The namespace of the ids of commands that processes send.
const COMMANDS: Uuid = Uuid::from_u128(0x3c1e_92d7_0b5e_5f0f_a4b6_07d2_9e8c_5521);

/// How many commands of one reaction are under way at a time.
const AT_ONCE: usize = 32;

/// How long to wait before a command is sent again: at first, and at most.
const PAUSE: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(2));

/// The id of an instance of the process that is conducted.
pub(super) type IdOf<C> = <<C as Conduct>::Process as Process>::Id;
/// The state of an instance of the process that is conducted.
pub(super) type StateOf<C> = <<C as Conduct>::Process as Process>::State;

/// Shows an instance its next event. One that cannot go on holds what it has not seen, in order, until an event lets it
/// try again.
pub(super) async fn show<C: Conduct>(
    conduct: &C,
    id: &IdOf<C>,
    instance: &mut Instance<StateOf<C>>,
    seen: Seen,
) -> Result<(), ManagerError> {
    if instance.held.is_empty() {
        react(conduct, id, instance, seen, None).await;
        return Ok(());
    }
    let resumed_by = C::Process::resumes(&conduct.see(&seen)).then_some(seen.recorded.id);
    instance.held.insert(seen.recorded.position, seen.recorded);
    if resumed_by.is_some() {
        while let Some((_, next)) = instance.held.pop_first() {
            if !react(conduct, id, instance, see(next)?, resumed_by).await {
                break;
            }
        }
    }
    Ok(())
}

/// Lets an instance react to an event and folds it in, or parks the instance on it. Answers whether it can go on. What it does
/// belongs to the trace of the event.
async fn react<C: Conduct>(
    conduct: &C,
    id: &IdOf<C>,
    instance: &mut Instance<StateOf<C>>,
    seen: Seen,
    resumed_by: Option<Uuid>,
) -> bool {
    let span = tracing::debug_span!("react", process = C::Process::NAME, instance = %id);
    if let Some(traceparent) = &seen.metadata.traceparent {
        telemetry::go_on(&span, traceparent);
    }
    send_and_fold(conduct, id, instance, seen, resumed_by).instrument(span).await
}

async fn send_and_fold<C: Conduct>(
    conduct: &C,
    id: &IdOf<C>,
    instance: &mut Instance<StateOf<C>>,
    seen: Seen,
    resumed_by: Option<Uuid>,
) -> bool {
    let event = conduct.see(&seen);
    let commands = C::Process::react(&instance.state, &event);
    let sending = commands.iter().enumerate().map(|(index, command)| {
        let envelope = caused_by(C::Process::NAME, &seen, &index.to_string());
        async move { patiently(|| conduct.send(id, command, envelope.clone())).await.err() }.boxed()
    });
    let setbacks: Vec<String> = futures::stream::iter(sending.collect::<Vec<_>>())
        .buffer_unordered(AT_ONCE)
        .filter_map(std::future::ready)
        .collect()
        .await;
    let mark = format!("parked/{}", resumed_by.unwrap_or_default());
    let stop = |why: String| {
        let envelope = caused_by(C::Process::NAME, &seen, &mark);
        Stop { event: seen.recorded.id, why, told_as: envelope.command_id, untold: Some(envelope) }
    };
    if let Some(why) = setbacks.into_iter().next() {
        // What could be done of the reaction is done; let try again, it is repeated, and does what is missing.
        tracing::warn!(process = C::Process::NAME, instance = %id, event.id = %seen.recorded.id, why, "parked");
        instance.parked = Some(stop(why));
        instance.held.insert(seen.recorded.position, seen.recorded);
        return false;
    }
    let state = std::mem::replace(&mut instance.state, C::Process::initial());
    instance.state = C::Process::evolve(state, &event);
    let before = instance.parked.take();
    instance.parked = match (C::Process::stuck(&instance.state), before) {
        (None, None) => None,
        (None, Some(_)) => {
            if resumed_by.is_none() && !C::Process::resumes(&event) {
                tell_helped(conduct, id, caused_by(C::Process::NAME, &seen, "helped")).await;
            }
            None
        }
        // It is told once how it is; what else happens meanwhile changes nothing.
        (Some(why), Some(before)) if instance.held.is_empty() && before.why == why => Some(before),
        (Some(why), _) => Some(stop(why)),
    };
    let waits_for = C::Process::waits_for(&instance.state).map(|timeout| timeout.to_string());
    if waits_for.as_ref() != instance.waits.as_ref().map(|waits| &waits.what) {
        instance.waits = waits_for.map(|what| Waits { what, since: None });
    }
    true
}

/// Puts on record that an instance cannot go on, and why.
pub(super) async fn tell_parked<C: Conduct>(conduct: &C, id: &IdOf<C>, event: Uuid, why: &str, envelope: &Envelope) {
    if let Err(error) = patiently(|| conduct.park(id, event, why, envelope.clone())).await {
        tracing::error!(process = C::Process::NAME, instance = %id, error, "cannot put on record that it is parked");
    }
}

/// Puts on record that an instance goes on, since somebody has done by hand what it could not.
async fn tell_helped<C: Conduct>(conduct: &C, id: &IdOf<C>, envelope: Envelope) {
    if let Err(error) = patiently(|| conduct.go_on(id, envelope.clone())).await {
        tracing::error!(process = C::Process::NAME, instance = %id, error, "cannot put on record that it goes on");
    }
}

/// Carries something out, again and again while it may do better. Whoever stops waiting loses nothing.
async fn patiently<F: Future<Output = Result<(), Setback>>>(mut attempt: impl FnMut() -> F) -> Result<(), String> {
    let mut pause = PAUSE.0;
    loop {
        match attempt().await {
            Ok(()) => return Ok(()),
            Err(Setback::Lasting(why)) => return Err(why),
            Err(Setback::Passing(why)) => {
                counter!("process_manager_retries_total").increment(1);
                tracing::warn!(why, "a command of a process could not be carried out yet; trying again");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(PAUSE.1);
            }
        }
    }
}

/// The envelope of a command that an event caused. Its id follows from the process, the event and `mark`, which tells
/// the commands of one reaction apart.
fn caused_by(process: &str, seen: &Seen, mark: &str) -> Envelope {
    let id = Uuid::new_v5(&COMMANDS, format!("{process}/{}/{mark}", seen.recorded.id).as_bytes());
    Envelope {
        correlation_id: seen.metadata.correlation_id,
        causation_id: seen.recorded.id,
        actor: Some(format!("process {process}")),
        traceparent: telemetry::traceparent(&Span::current()).or_else(|| seen.metadata.traceparent.clone()),
        ..Envelope::new(id, String::new(), Utc::now())
    }
}

/// The envelope of a timeout. Its id follows from what was waited for, so that it fires once.
pub(super) fn of_timeout<P: Process>(id: &P::Id, timeout: P::Timeout) -> Envelope {
    let name = format!("{}/{id}/timeout/{timeout}", P::NAME);
    Envelope {
        actor: Some(format!("process {}", P::NAME)),
        ..Envelope::new(Uuid::new_v5(&COMMANDS, name.as_bytes()), String::new(), Utc::now())
    }
}
