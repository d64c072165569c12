//! Every event counts once, wherever the projector is stopped: at each step of a batch its program dies, or the server's
//! answer is lost and the program goes on.

use futures::StreamExt as _;

use super::wire::{Cut, Step, Wire};
use super::*;
use crate::sales_daily::SalesDaily;

/// How many histories are tried; `./soak` tries more.
const HISTORIES: usize = 20;

/// What is to be the same, however the projector got there.
#[derive(Debug, PartialEq)]
struct Folded {
    rows: Vec<String>,
    events: i64,
    /// The place, the key, what is wrong and how often it was tried.
    parked: Vec<(u64, String, Option<String>, i32)>,
    error: Option<String>,
}

impl Shop {
    async fn folded(&self, model: &Arc<dyn Projector>) -> Folded {
        let live = self.live(model.name()).await;
        let of_this = |parked: Parked| (parked.name == model.name()).then_some(parked);
        let parked = parked(&self.context.pool).await.unwrap().into_iter().filter_map(of_this);
        let parked = parked.map(|parked| (parked.position.commit, parked.key, parked.error, parked.attempts)).collect();
        Folded { rows: self.rows(model).await, events: live.folded, parked, error: live.error }
    }

    /// Runs a projector on a wire until it has folded everything or, where it dies of that, the wire is cut. Answers whether it
    /// was cut.
    async fn follow_over(&self, wire: &Wire, model: &Arc<dyn Projector>, cut: Cut, step: Step) -> bool {
        let context = Context::new(self.context.store.clone(), pool(&wire.options()).await.unwrap());
        let mut moved = context.moved.subscribe();
        wire.cut_at(cut, step);
        let (_stop, stopped) = watch::channel(false);
        let running = tokio::spawn({
            let model = model.clone();
            async move { model.run(context, stopped).await }
        });
        let head = self.context.store.head().await.unwrap();
        let is_done = async {
            loop {
                let live = self.live(model.name()).await;
                if live.checkpoint >= head && live.error.is_none() {
                    return;
                }
                // It says so when it commits; when only the answer was lost, nobody says it.
                let _ = tokio::time::timeout(std::time::Duration::from_millis(20), moved.changed()).await;
            }
        };
        match cut {
            Cut::Before(_) => tokio::select! { () = wire.is_cut() => {}, () = is_done => {} },
            Cut::After(_) => is_done.await,
        }
        let was_cut = wire.was_cut();
        running.abort();
        let _ = running.await;
        wire.cut();
        wire.is_quiet().await;
        was_cut
    }
}

/// A history of which the later part is one batch with something in it for the read model, and how long the first part is.
fn in_two<M: ReadModel>(runner: &mut TestRunner) -> (Vec<(StreamName, NewEvent)>, usize) {
    loop {
        let events: Vec<_> = history(runner).iter().map(stored).collect();
        let first = events.len() / 2;
        if events[first..].iter().filter(|(stream, _)| M::CATEGORIES.contains(&stream.category())).count() > 3 {
            return (events, first);
        }
    }
}

/// Stops a projector at each step of a batch.
#[expect(clippy::print_stdout, reason = "how much was tried is worth knowing")]
async fn stop_at_every_step<M: ReadModel>(stopping: fn(usize) -> Cut) {
    let mut runner = soak::runner();
    let histories = (0..HISTORIES * soak::times()).map(|number| (number, in_two::<M>(&mut runner)));
    // Several at a time: a projector that goes on waits a moment first.
    let stopped = futures::stream::iter(histories)
        .map(|(number, (events, first))| stop_in_a_history::<M>(number, events, first, stopping))
        .buffer_unordered(10);
    let (stops, parked) = stopped.fold((0, 0), async |sum, one| (sum.0 + one.0, sum.1 + one.1)).await;
    println!("{}: stopped {stops} times, {parked} events parked", M::NAME);
}

/// Answers how often it was stopped, and how many events were parked.
async fn stop_in_a_history<M: ReadModel>(
    number: usize,
    mut events: Vec<(StreamName, NewEvent)>,
    first: usize,
    stopping: fn(usize) -> Cut,
) -> (usize, usize) {
    let (shop, model, mut stops) = (Shop::open().await, runs::<M>(), 0);
    model.prepare(&shop.context.pool).await.unwrap();
    if number.is_multiple_of(3) {
        let of_this = |(stream, _): &&mut (StreamName, NewEvent)| M::CATEGORIES.contains(&stream.category());
        events[first..].iter_mut().find(of_this).unwrap().1.data = "nonsense".into();
    }
    append_all(&shop, &events[..first]).await;
    shop.follow(&model).await;
    shop.keep(&model).await;
    append_all(&shop, &events[first..]).await;
    // What is to come of it: that of a projector that nobody stops, which is that of a plain fold.
    shop.follow(&model).await;
    let expected = shop.folded(&model).await;
    let verified = model.verify(&shop.context, Extent::Full, &|_| {}).await.unwrap();
    assert_eq!((verified.differing, verified.rows), (0, expected.rows.len() as u64), "{verified:?}");
    assert_eq!(expected.parked.is_empty(), !number.is_multiple_of(3));

    // Between the messages of a request nothing happens that lasts; one history shows it.
    let step = if number == 0 { Step::Message } else { Step::Request };
    for steps in 1.. {
        shop.put_back(&model).await;
        let wire = Wire::to(&shop.server.clone().database(&shop.database));
        let was_cut = shop.follow_over(&wire, &model, stopping(steps), step).await;
        // Whoever comes next finds out where to go on.
        shop.follow(&model).await;
        let folded = shop.folded(&model).await;
        assert_eq!(folded, expected, "cut at step {steps} of history {number} of seed {}", soak::seed());
        if !was_cut {
            // To lead, to read the checkpoint, to begin, to move it, to write rows, to commit.
            assert!(steps > 10, "there were only {steps} steps");
            break;
        }
        stops += 1;
    }
    model.rebuild(&shop.context, &|_| {}).await.unwrap();
    assert_eq!(shop.rows(&model).await, expected.rows, "history {number} of seed {}", soak::seed());
    let whole = shop.context.store.read_all(None, &Filter::all(), usize::MAX).await.unwrap();
    assert_eq!(whole.events.len(), events.len(), "a projector has appended something");
    shop.close().await;
    (stops, expected.parked.len())
}

#[tokio::test]
async fn orders_count_once_whichever_step_its_program_dies_before() {
    stop_at_every_step::<Orders>(Cut::Before).await;
}

#[tokio::test]
async fn orders_count_once_whichever_answer_is_lost() {
    stop_at_every_step::<Orders>(Cut::After).await;
}

#[tokio::test]
async fn sales_count_once_whichever_step_their_program_dies_before() {
    stop_at_every_step::<SalesDaily>(Cut::Before).await;
}

#[tokio::test]
async fn sales_count_once_whichever_answer_is_lost() {
    stop_at_every_step::<SalesDaily>(Cut::After).await;
}
