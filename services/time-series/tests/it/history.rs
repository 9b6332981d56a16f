//! The store suite: random operations on a store and on the model, with restarts; run on both engines.

use std::sync::Arc;

use proptest::prelude::*;
use time_series::{
    query::{Aggregation, Attributes, Deletion, Method, Query, Selection, Window},
    row::{Position, Row},
    store::{Appended, HistoryStore, embedded::Options},
    time::Period,
};

use crate::{
    model::{self, Model},
    stores::{self, Engine},
};

const TENANTS: [&str; 2] = ["", "t"];
const TYPES: [&str; 3] = ["Lamp", "LAMP", "Bin"];
const PATHS: [&str; 4] = ["/", "/a", "/a/b", "/ab"];
const IDS: [&str; 3] = ["x", "y", "X"];

/// Where a row goes, as places in the lists above.
type Place = (usize, usize, usize, usize);

#[derive(Clone, Debug)]
enum Step {
    Append(Vec<(Place, i64, u32, i32)>),
    /// Changes from the stream: new versions, then all of them once more.
    Stream(Vec<(Place, i64, u32, i32)>),
    Delete {
        place: Place,
        by_type: bool,
        by_id: bool,
        range: (Option<i64>, Option<i64>),
    },
    Drop(Place),
    Reopen,
    Ask(Box<Question>),
}

#[derive(Clone, Debug)]
struct Question {
    place: Place,
    types: Option<usize>,
    ids: Option<usize>,
    range: (Option<i64>, Option<i64>),
    window: Window,
    aggregation: Option<Aggregation>,
    attribute: Option<&'static str>,
}

/// Instants in steps of 20 minutes; each series has its own fraction, so that rows of two series never share one.
fn instant(place: Place, slot: i64) -> i64 {
    let (_, entity_type, path, id) = place;
    let fraction = (entity_type.max(1) * 100 + path * 10 + id) as i64;
    1_893_456_000_000_000 + slot * 1_200_000_000 + fraction * 1_000
}

fn place() -> impl Strategy<Value = Place> {
    (0..TENANTS.len(), 0..TYPES.len(), 0..PATHS.len(), 0..IDS.len())
}

fn range() -> impl Strategy<Value = (Option<i64>, Option<i64>)> {
    let bound = || prop::option::of((-5i64..80).prop_map(|slot| instant((0, 1, 1, 1), slot)));
    (bound(), bound())
}

fn question() -> impl Strategy<Value = Question> {
    let window = (1usize..30, 0usize..6, prop::option::of(1usize..20))
        .prop_map(|(limit, offset, last_n)| Window { limit, offset, last_n });
    let method =
        prop::sample::select(vec![Method::Count, Method::Sum, Method::Avg, Method::Min, Method::Max]);
    let period = prop::option::of(prop::sample::select(vec![
        Period::Hour,
        Period::Day,
        Period::Minute,
        Period::Month,
    ]));
    let aggregation = (method, period).prop_map(|(method, period)| Aggregation { method, period });
    let attribute =
        prop::option::of(prop::sample::select(vec!["num", "INT", "text", "flag", "open", "irrational"]));
    let chosen = (prop::option::of(0..TYPES.len()), prop::option::of(0..IDS.len()));
    (place(), chosen, range(), window, prop::option::of(aggregation), attribute).prop_map(
        |(place, (types, ids), range, window, aggregation, attribute)| Question {
            place,
            types,
            ids,
            range,
            window,
            aggregation,
            attribute,
        },
    )
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let rows = || prop::collection::vec((place(), 0i64..75, 1u32..512, -500i32..500), 1..25);
    let delete =
        (place(), any::<bool>(), any::<bool>(), range()).prop_map(|(place, by_type, by_id, range)| {
            Step::Delete { place, by_type, by_id: by_id || !by_type, range }
        });
    let step = prop_oneof![
        6 => rows().prop_map(Step::Append),
        3 => rows().prop_map(Step::Stream),
        2 => delete,
        1 => place().prop_map(Step::Drop),
        1 => Just(Step::Reopen),
        12 => question().prop_map(|question| Step::Ask(Box::new(question))),
    ];
    prop::collection::vec(step, 1..40)
}

fn rows_of(rows: &[(Place, i64, u32, i32)]) -> Vec<Row> {
    let row = |(place, slot, pick, number): &(Place, i64, u32, i32)| {
        let (tenant, entity_type, path, id) = *place;
        Row {
            attributes: model::attributes(*pick, *number),
            ..model::row(TENANTS[tenant], PATHS[path], TYPES[entity_type], IDS[id], instant(*place, *slot))
        }
    };
    rows.iter().map(row).collect()
}

/// A store and its model, kept in step.
struct Pair {
    engine: Engine,
    store: Arc<dyn HistoryStore>,
    model: Model,
    next_version: i64,
    position: Option<i64>,
}

impl Pair {
    async fn take(&mut self, step: &Step) {
        match step {
            Step::Append(rows) => {
                let rows = rows_of(rows);
                self.model.append(&rows);
                self.store.append(rows, None).await.unwrap();
            }
            Step::Stream(rows) => self.stream(rows_of(rows)).await,
            Step::Delete { place, by_type, by_id, range } => {
                let (tenant, entity_type, path, id) = *place;
                let deletion = Deletion {
                    scope: model::tree(TENANTS[tenant], PATHS[path]),
                    entity_type: by_type.then(|| TYPES[entity_type].to_owned()),
                    entity_id: by_id.then(|| IDS[id].to_owned()),
                    from_us: range.0,
                    to_us: range.1,
                };
                let expected = self.model.delete(&deletion);
                assert_eq!(self.store.delete(&deletion).await.unwrap(), expected, "{deletion:?}");
            }
            Step::Drop(place) => {
                let tenant = model::tree(TENANTS[place.0], "/").tenant;
                self.model.drop_type(&tenant, TYPES[place.1]);
                self.store.drop_type(&tenant, TYPES[place.1]).await.unwrap();
            }
            Step::Reopen => {
                self.store.close().await;
                self.store = self.engine.open().await;
            }
            Step::Ask(question) => self.ask(question).await,
        }
    }

    /// The same batch comes twice, as after a rebalance, and its records once more in the next batch, as from a relay
    /// that was killed after it had published.
    async fn stream(&mut self, mut rows: Vec<Row>) {
        for row in &mut rows {
            self.next_version += 1;
            row.version = Some(self.next_version);
        }
        self.model.append(&rows);
        let next = self.position.unwrap_or(0) + rows.len() as i64;
        let at = |expected, next| Some(Position { topic: "history".into(), partition: 0, expected, next });
        let stored = self.store.append(rows.clone(), at(self.position, next)).await.unwrap();
        assert!(matches!(stored, Appended::Stored { repeated: 0, .. }), "{stored:?}");
        assert_eq!(self.store.append(rows.clone(), at(self.position, next)).await.unwrap(), Appended::Moved);
        let again = rows.len() as u64;
        let stored = self.store.append(rows, at(Some(next), next + 1)).await.unwrap();
        assert!(
            matches!(stored, Appended::Stored { rows: 0, repeated, .. } if repeated == again),
            "{stored:?}"
        );
        self.position = Some(next + 1);
        assert_eq!(self.store.position("history", 0).await.unwrap(), self.position);
    }

    async fn ask(&self, question: &Question) {
        let (tenant, _, path, _) = question.place;
        let selection = Selection {
            types: question.types.map(|no| vec![TYPES[no].to_owned()]),
            ids: question.ids.map(|no| vec![IDS[no].to_owned()]),
            from_us: question.range.0,
            to_us: question.range.1,
            ..Selection::all(model::tree(TENANTS[tenant], PATHS[path]))
        };
        let attributes =
            question.attribute.map_or(Attributes::All, |name| Attributes::AllOf(vec![name.to_owned()]));
        let (window, aggregation) = (question.window, question.aggregation);
        let query = Query { selection, attributes, window, aggregation };
        let found = self.store.query(&query).await.unwrap();
        model::assert_same(&found, &self.model.query(&query), &query);
        let page = Window { last_n: None, ..window };
        let listed = self.store.entities(&query.selection, page).await.unwrap();
        assert_eq!(listed, self.model.entities(&query.selection, page), "{:?}", query.selection);
    }
}

fn run(engine: Engine, steps: &[Step]) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        let store = engine.open().await;
        let mut pair = Pair { engine, store, model: Model::default(), next_version: 0, position: None };
        for step in steps {
            pair.take(step).await;
        }
        pair.store.close().await;
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, max_shrink_iters: 400, ..ProptestConfig::default() })]

    #[test]
    fn the_embedded_store_does_what_the_model_does(steps in steps(), head_bytes in 0usize..3_000, log_bytes in 0usize..3_000, chunk_rows in 1usize..9) {
        if store::testing::too_long_for_quick() {
            return Ok(());
        }
        run(Engine::embedded(Options { head_bytes, log_bytes, chunk_rows }), &steps);
    }

    #[test]
    fn the_embedded_store_does_what_the_model_does_when_nothing_is_sealed(steps in steps()) {
        if store::testing::too_long_for_quick() {
            return Ok(());
        }
        run(Engine::embedded(Options::default()), &steps);
    }
}

#[test]
fn the_postgres_store_does_what_the_model_does() {
    if !stores::has_postgres() {
        return;
    }
    let config = ProptestConfig { cases: 25, max_shrink_iters: 60, ..ProptestConfig::default() };
    proptest!(config, |(steps in steps())| {
        if let Some(engine) = Engine::postgres() {
            run(engine, &steps);
        }
    });
}
