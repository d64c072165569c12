//! How a trace goes on from one process, or one moment, to the next: by the header and the metadata `traceparent`, as the W3C's
//! Trace Context has it (<https://www.w3.org/TR/trace-context/>, level 1).
//!
//! Spans are `tracing`'s. Where nobody collects traces, nothing in here does anything.

use std::sync::atomic::{AtomicBool, Ordering};

use opentelemetry::Context;
use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceId, TraceState};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

/// Whether traces are collected.
static COLLECTED: AtomicBool = AtomicBool::new(false);

/// Says that traces are collected from here on.
pub fn collect() {
    COLLECTED.store(true, Ordering::Relaxed);
}

/// Whether traces are collected. Who would have to work to tell what a span follows from asks first.
pub fn is_collected() -> bool {
    COLLECTED.load(Ordering::Relaxed)
}

/// Has a span go on with a trace, as a child of what `traceparent` names. To be called before the span is entered; a text of
/// another form is passed over.
pub fn go_on(span: &Span, traceparent: &str) {
    if let Some(parent) = parsed(traceparent).filter(|_| is_collected()) {
        // A span that is filtered out has no parent.
        let _ = span.set_parent(Context::new().with_remote_span_context(parent));
    }
}

/// Notes that a span follows from what `traceparent` names, which may be one of many. A text of another form is passed over.
pub fn link(span: &Span, traceparent: &str) {
    if let Some(context) = parsed(traceparent).filter(|_| is_collected()) {
        span.add_link(context);
    }
}

/// What names a span to whoever goes on with its trace; `None` where it is not collected.
pub fn traceparent(span: &Span) -> Option<String> {
    if !is_collected() {
        return None;
    }
    let context = span.context();
    let context = context.span().span_context().clone();
    let is_known = context.is_valid() && context.is_sampled();
    is_known.then(|| format!("00-{}-{}-{:02x}", context.trace_id(), context.span_id(), context.trace_flags().to_u8()))
}

/// The trace that `traceparent` names, as 32 hexadecimal digits.
pub fn trace_id(traceparent: &str) -> Option<&str> {
    parsed(traceparent)?;
    traceparent.split('-').nth(1)
}

/// Reads `version-trace-span-flags`. Later versions begin as this one does.
fn parsed(traceparent: &str) -> Option<SpanContext> {
    let mut parts = traceparent.split('-');
    let mut digits = |length: usize| {
        let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        parts.next().filter(|part| part.len() == length && part.bytes().all(is_digit))
    };
    let (version, trace, span, flags) = (digits(2)?, digits(32)?, digits(16)?, digits(2)?);
    let is_whole = version != "00" || parts.next().is_none();
    if version == "ff" || !is_whole {
        return None;
    }
    let context = SpanContext::new(
        TraceId::from_hex(trace).ok()?,
        SpanId::from_hex(span).ok()?,
        TraceFlags::new(u8::from_str_radix(flags, 16).ok()?),
        true,
        TraceState::default(),
    );
    context.is_valid().then_some(context)
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::TracerProvider as _;
    use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider};
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn only_what_the_recommendation_has_is_read() {
        assert_eq!(trace_id(PARENT), Some("4bf92f3577b34da6a3ce929d0e0e4736"));
        let later = "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-what-comes";
        assert!(parsed(later).is_some());
        for wrong in [
            "",
            "00",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473é-00f067aa0ba902b7-01",
            "00-+bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ] {
            assert!(parsed(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn a_trace_goes_on_and_its_links_are_kept() {
        collect();
        let exporter = InMemorySpanExporter::default();
        let provider = SdkTracerProvider::builder().with_simple_exporter(exporter.clone()).build();
        let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            let span = tracing::info_span!("child");
            go_on(&span, PARENT);
            link(&span, "00-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-bbbbbbbbbbbbbbbb-01");
            let told = span.in_scope(|| traceparent(&Span::current())).unwrap();
            assert_eq!(trace_id(&told), trace_id(PARENT));
            assert_ne!(told, PARENT);
        });
        let spans = exporter.get_finished_spans().unwrap();
        let [child] = &spans[..] else { panic!("{spans:?}") };
        assert_eq!(child.parent_span_id.to_string(), "00f067aa0ba902b7");
        assert_eq!(
            child.links.iter().map(|link| link.span_context.span_id().to_string()).collect::<Vec<_>>(),
            ["bbbbbbbbbbbbbbbb"]
        );
    }
}
