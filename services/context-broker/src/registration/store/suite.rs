//! One suite for both stores.

use std::sync::Arc;

use ::store::{PostgresConfig, testing};
use ngsi::registration::ForwardingCounters;
use scope::{ServicePath, Tenant};

use super::{Counted, PostgresRegistrationStore, RegistrationStore, SqliteRegistrationStore};
use crate::registration::RegistrationId;

struct Bench {
    store: Arc<dyn RegistrationStore>,
    _dir: Option<tempfile::TempDir>,
}

impl Bench {
    async fn sqlite() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let store = SqliteRegistrationStore::open(&dir.path().join("registrations.db")).await.unwrap();
        Some(Self { store: Arc::new(store), _dir: Some(dir) })
    }

    async fn postgres() -> Option<Self> {
        let server = PostgresConfig::new(&testing::server("TEST_POSTGRES_URL")?);
        let schema = testing::fresh_schema("registrations");
        let store = PostgresRegistrationStore::open(&server, &schema).await.unwrap();
        Some(Self { store: Arc::new(store), _dir: None })
    }
}

fn tenant(name: &str) -> Tenant {
    Tenant::from_header(Some(name)).unwrap()
}

async fn registrations_are_kept_per_tenant_with_growing_epochs(bench: Bench) {
    let (tenant, path) = (tenant("t"), ServicePath::parse("/a").unwrap());
    let (first, second) = (RegistrationId::generate(1), RegistrationId::generate(2_000_000));
    bench.store.insert(&tenant, &path, &first, "{1}", 5).await.unwrap();
    bench.store.insert(&tenant, &ServicePath::root(), &second, "{2}", 6).await.unwrap();
    let (epoch, all) = bench.store.all(&tenant).await.unwrap();
    let ids: Vec<_> = all.iter().map(|one| one.id.clone()).collect();
    assert_eq!(ids, [first.clone(), second.clone()]);
    assert_eq!((all[0].path.as_str(), all[0].body.as_str()), ("/a", "{1}"));

    let revision = all[0].revision;
    assert!(bench.store.replace(&tenant, &first, revision, "{3}").await.unwrap());
    assert!(
        !bench.store.replace(&tenant, &first, revision, "{4}").await.unwrap(),
        "the revision has moved on"
    );
    let found = bench.store.find(&tenant, &first).await.unwrap().unwrap();
    assert!(found.body == "{3}" && found.revision > epoch);

    let other = self::tenant("u");
    assert_eq!(bench.store.find(&other, &first).await.unwrap(), None);
    assert!(!bench.store.delete(&other, &first).await.unwrap());
    assert!(bench.store.delete(&tenant, &first).await.unwrap());
    assert!(!bench.store.delete(&tenant, &first).await.unwrap());
    let epochs = bench.store.epochs().await.unwrap();
    assert_eq!(epochs.len(), 1, "{epochs:?}");
    assert!(epochs[0].1 > found.revision);
}

async fn counters_add_up_and_instants_never_go_back(bench: Bench) {
    let tenant = tenant("t");
    let id = RegistrationId::generate(1);
    bench.store.insert(&tenant, &ServicePath::root(), &id, "{}", 5).await.unwrap();
    let count = |times_sent, success, failure| Counted {
        tenant: tenant.clone(),
        id: id.clone(),
        counters: ForwardingCounters {
            times_sent,
            last_forwarding_us: Some(9),
            last_success_us: success,
            last_failure_us: failure,
        },
    };
    let gone = Counted { id: RegistrationId::generate(7_000_000), ..count(1, None, None) };
    bench.store.count(&[count(2, Some(9), None), gone]).await.unwrap();
    bench.store.count(&[count(1, Some(3), Some(4))]).await.unwrap();
    let found = bench.store.find(&tenant, &id).await.unwrap().unwrap();
    let expected = ForwardingCounters {
        times_sent: 3,
        last_forwarding_us: Some(9),
        last_success_us: Some(9),
        last_failure_us: Some(4),
    };
    assert_eq!(found.counters, expected);
}

macro_rules! suite {
    ($($case:ident),* $(,)?) => {
        suite!(sqlite: $($case),*);
        suite!(postgres: $($case),*);
    };
    ($store:ident: $($case:ident),*) => {
        mod $store {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                if let Some(bench) = super::Bench::$store().await {
                    super::$case(bench).await;
                }
            })*
        }
    };
}

suite!(registrations_are_kept_per_tenant_with_growing_epochs, counters_add_up_and_instants_never_go_back,);
