//! One suite, run on SQLite and on PostgreSQL.

use std::sync::Arc;

use ::store::{PostgresConfig, testing};
use bus::{Bus, EmbeddedBus, OutboxDb};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::*;

/// A store, and what must live as long as it.
struct Fixture {
    store: Arc<dyn Store>,
    _dir: Option<tempfile::TempDir>,
}

async fn sqlite() -> Option<Fixture> {
    let dir = tempfile::tempdir().unwrap();
    let pools = SqliteStore::open(dir.path()).await.unwrap();
    let bus = EmbeddedBus::default();
    let stop = CancellationToken::new();
    let waker = bus.attach(bus::MEASURES, OutboxDb::Sqlite(pools.clone()), stop).await.unwrap();
    Some(Fixture { store: Arc::new(SqliteStore::new(pools, waker)), _dir: Some(dir) })
}

async fn postgres() -> Option<Fixture> {
    let url = testing::server("TEST_POSTGRES_URL")?;
    let schema = testing::fresh_schema("device_agent");
    let pool = PostgresStore::open(&PostgresConfig::new(url), &schema).await.unwrap();
    // Nobody relays in this suite; any waker will do.
    let dir = tempfile::tempdir().unwrap();
    let pools = SqliteStore::open(dir.path()).await.unwrap();
    let waker = EmbeddedBus::default()
        .attach(bus::MEASURES, OutboxDb::Sqlite(pools), CancellationToken::new())
        .await
        .unwrap();
    Some(Fixture { store: Arc::new(PostgresStore::new(pool, waker)), _dir: Some(dir) })
}

macro_rules! suite {
    ($($case:ident),* $(,)?) => {
        mod on_sqlite {
            $(#[tokio::test] async fn $case() {
                if let Some(fixture) = super::sqlite().await { super::$case(fixture.store).await }
            })*
        }
        mod on_postgres {
            $(#[tokio::test] async fn $case() {
                if let Some(fixture) = super::postgres().await { super::$case(fixture.store).await }
            })*
        }
    };
}

suite!(
    a_group_is_found_by_resource_and_key_over_all_tenants,
    resource_and_key_are_unique_over_all_tenants,
    groups_of_one_call_are_stored_together_or_not_at_all,
    groups_are_listed_by_tenant_and_path,
    a_group_is_replaced_only_in_its_own_scope,
    deleting_a_group_can_take_the_devices_of_its_scope,
    devices_are_told_apart_by_scope_id_and_key,
    a_device_without_key_is_the_only_one_of_its_id,
    of_a_device_with_key_and_one_without_inserted_at_once_one_is_stored,
    a_device_without_key_takes_the_first_one,
    lists_of_devices_are_paged_in_order_of_age,
    a_device_is_updated_and_deleted,
    devices_are_found_over_tenants_by_id,
    a_diverted_device_stays_so_until_its_last_record_is_drained,
    the_position_moves_only_from_where_it_is_expected,
);

fn scope(tenant: &str, path: &str) -> Scope {
    Scope::new(Tenant::canonical(tenant).unwrap(), ServicePath::parse(path).unwrap())
}

fn group(at: &Scope, resource: &str, key: &str) -> Group {
    Group {
        id: format!("{resource}{key}"),
        scope: at.clone(),
        resource: resource.into(),
        api_key: ApiKey::new(key),
        body: json!({"entity_type": "Bot"}).as_object().unwrap().clone(),
        created_us: 1,
    }
}

fn device(at: &Scope, id: &str, key: Option<&str>, created_us: i64) -> Device {
    Device {
        scope: at.clone(),
        id: id.into(),
        api_key: key.map(ApiKey::new),
        body: json!({"entity_name": id}).as_object().unwrap().clone(),
        created_us,
    }
}

fn conflict<T: std::fmt::Debug>(result: Result<T, StoreError>) -> bool {
    matches!(result, Err(StoreError::Conflict(_)))
}

async fn a_group_is_found_by_resource_and_key_over_all_tenants(store: Arc<dyn Store>) {
    let stored = group(&scope("a", "/p"), "/iot/d", "k");
    store.insert_groups(std::slice::from_ref(&stored)).await.unwrap();
    assert_eq!(store.group_of_key("/iot/d", &ApiKey::new("k")).await.unwrap(), Some(stored));
    assert_eq!(store.group_of_key("/iot/d", &ApiKey::new("K")).await.unwrap(), None);
    assert_eq!(store.group_of_key("/iot", &ApiKey::new("k")).await.unwrap(), None);
}

async fn resource_and_key_are_unique_over_all_tenants(store: Arc<dyn Store>) {
    store.insert_groups(&[group(&scope("a", "/"), "/iot/d", "k")]).await.unwrap();
    assert!(conflict(store.insert_groups(&[group(&scope("b", "/"), "/iot/d", "k")]).await));
    store.insert_groups(&[group(&scope("b", "/"), "", "k")]).await.unwrap();
}

async fn groups_of_one_call_are_stored_together_or_not_at_all(store: Arc<dyn Store>) {
    let at = scope("a", "/");
    assert!(conflict(store.insert_groups(&[group(&at, "/r", "1"), group(&at, "/r", "1")]).await));
    assert_eq!(store.list_groups(&at.tenant, None, Page::ALL).await.unwrap().1, 0);
}

async fn groups_are_listed_by_tenant_and_path(store: Arc<dyn Store>) {
    let (root, deep, other) = (scope("a", "/"), scope("a", "/x"), scope("b", "/"));
    store
        .insert_groups(&[group(&root, "/r", "1"), group(&deep, "/r", "2"), group(&other, "/r", "3")])
        .await
        .unwrap();
    let (found, total) = store.list_groups(&root.tenant, Some(&root.path), Page::ALL).await.unwrap();
    assert_eq!((found.len(), total), (1, 1));
    let (found, total) = store.list_groups(&root.tenant, None, Page { limit: 1, offset: 1 }).await.unwrap();
    assert_eq!((found.len(), total), (1, 2));
    assert_eq!(found[0].scope, deep);
}

async fn a_group_is_replaced_only_in_its_own_scope(store: Arc<dyn Store>) {
    let at = scope("a", "/");
    let key = ApiKey::new("1");
    store.insert_groups(&[group(&at, "/r", "1"), group(&at, "/r", "2")]).await.unwrap();
    let mut changed = group(&at, "/r", "9");
    changed.id = "/r1".into();
    changed.body.insert("timestamp".into(), true.into());
    let foreign = Group { scope: scope("b", "/"), ..changed.clone() };
    assert!(!store.replace_group("/r", &key, &foreign).await.unwrap());
    assert!(conflict(store.replace_group("/r", &key, &group(&at, "/r", "2")).await));
    assert!(store.replace_group("/r", &key, &changed).await.unwrap());
    assert_eq!(store.group_of_key("/r", &ApiKey::new("9")).await.unwrap(), Some(changed));
    assert_eq!(store.group_of_key("/r", &key).await.unwrap(), None);
}

async fn deleting_a_group_can_take_the_devices_of_its_scope(store: Arc<dyn Store>) {
    let (at, other) = (scope("a", "/"), scope("a", "/x"));
    let key = ApiKey::new("1");
    for place in [&at, &other] {
        store.insert_device(&device(place, "d", None, 1)).await.unwrap();
    }
    store.insert_groups(&[group(&at, "/r", "1")]).await.unwrap();
    assert!(!store.delete_group(&other, "/r", &key, true).await.unwrap());
    assert_eq!(store.find_devices(&other, "d").await.unwrap().len(), 1);
    assert!(store.delete_group(&at, "/r", &key, true).await.unwrap());
    assert!(store.find_devices(&at, "d").await.unwrap().is_empty());
    assert_eq!(store.find_devices(&other, "d").await.unwrap().len(), 1);
}

async fn devices_are_told_apart_by_scope_id_and_key(store: Arc<dyn Store>) {
    let at = scope("a", "/");
    store.insert_device(&device(&at, "d", Some("j"), 1)).await.unwrap();
    store.insert_device(&device(&at, "d", Some("k"), 2)).await.unwrap();
    for other in [scope("b", "/"), scope("a", "/x")] {
        store.insert_device(&device(&other, "d", None, 3)).await.unwrap();
    }
    assert!(conflict(store.insert_device(&device(&at, "d", Some("k"), 4)).await));
    let found = store.find_devices(&at, "d").await.unwrap();
    assert_eq!(found, [device(&at, "d", Some("j"), 1), device(&at, "d", Some("k"), 2)]);
}

async fn a_device_without_key_is_the_only_one_of_its_id(store: Arc<dyn Store>) {
    let at = scope("a", "/");
    let keyless = device(&at, "d", None, 1);
    store.insert_device(&keyless).await.unwrap();
    for key in [None, Some("k")] {
        assert!(conflict(store.insert_device(&device(&at, "d", key, 2)).await), "{key:?}");
    }
    assert!(store.claim_key(&keyless, &ApiKey::new("k")).await.unwrap());
    for key in [None, Some("k")] {
        assert!(conflict(store.insert_device(&device(&at, "d", key, 3)).await), "{key:?}");
    }
    store.insert_device(&device(&at, "d", Some("other"), 4)).await.unwrap();
}

async fn of_a_device_with_key_and_one_without_inserted_at_once_one_is_stored(store: Arc<dyn Store>) {
    let at = scope("a", "/");
    for round in 0..20 {
        let id = format!("d{round}");
        let (keyless, keyed) = (device(&at, &id, None, 1), device(&at, &id, Some("k"), 1));
        let (one, other) = tokio::join!(store.insert_device(&keyless), store.insert_device(&keyed));
        assert!(one.is_ok() != other.is_ok(), "{one:?} {other:?}");
        assert!(conflict(one) || conflict(other));
        assert_eq!(store.find_devices(&at, &id).await.unwrap().len(), 1);
    }
}

async fn a_device_without_key_takes_the_first_one(store: Arc<dyn Store>) {
    let at = scope("a", "/");
    let keyless = device(&at, "d", None, 1);
    store.insert_device(&keyless).await.unwrap();
    assert!(store.claim_key(&keyless, &ApiKey::new("k")).await.unwrap());
    assert!(!store.claim_key(&keyless, &ApiKey::new("other")).await.unwrap());
    assert_eq!(store.find_devices(&at, "d").await.unwrap(), [device(&at, "d", Some("k"), 1)]);
}

async fn lists_of_devices_are_paged_in_order_of_age(store: Arc<dyn Store>) {
    let at = scope("a", "/");
    for (id, created_us) in [("c", 1), ("b", 2), ("a", 3)] {
        store.insert_device(&device(&at, id, None, created_us)).await.unwrap();
    }
    let (found, total) = store.list_devices(&at, Page { limit: 2, offset: 1 }).await.unwrap();
    assert_eq!(found.iter().map(|device| device.id.as_str()).collect::<Vec<_>>(), ["b", "a"]);
    assert_eq!(total, 3);
    assert_eq!(store.list_devices(&scope("b", "/"), Page::ALL).await.unwrap().1, 0);
}

async fn a_device_is_updated_and_deleted(store: Arc<dyn Store>) {
    let at = scope("a", "/");
    let stored = device(&at, "d", Some("k"), 1);
    store.insert_device(&stored).await.unwrap();
    let body = json!({"timezone": "Europe/Zurich", "text": "é'\"\\"}).as_object().unwrap().clone();
    assert!(store.update_device(&stored, &body).await.unwrap());
    assert_eq!(store.find_devices(&at, "d").await.unwrap()[0].body, body);
    assert!(store.delete_device(&stored).await.unwrap());
    assert!(!store.delete_device(&stored).await.unwrap());
    assert!(!store.update_device(&stored, &body).await.unwrap());
}

async fn devices_are_found_over_tenants_by_id(store: Arc<dyn Store>) {
    store.insert_device(&device(&scope("a", "/"), "d", None, 1)).await.unwrap();
    assert_eq!(store.devices_anywhere("d", 2).await.unwrap().len(), 1);
    store.insert_device(&device(&scope("b", "/"), "d", None, 1)).await.unwrap();
    assert_eq!(store.devices_anywhere("d", 2).await.unwrap().len(), 2);
    assert!(store.devices_anywhere("e", 2).await.unwrap().is_empty());
}

fn diverted(id: &str, mark: u8) -> Diverted {
    let device = device(&scope("a", "/"), id, None, 1).key();
    Diverted { device, mark: [mark; 16], payload: Bytes::from_static(b"x"), headers: vec![] }
}

async fn a_diverted_device_stays_so_until_its_last_record_is_drained(store: Arc<dyn Store>) {
    let (one, two) = (diverted("one", 1).device, diverted("two", 1).device);
    store.divert(&[diverted("one", 1), diverted("one", 2), diverted("two", 7)]).await.unwrap();
    let both = [one.clone(), two.clone()];
    assert_eq!(store.diverted_of(&both).await.unwrap().len(), 2);
    let mut all = store.all_diverted().await.unwrap();
    all.sort();
    assert_eq!(all, [(one.clone(), [2; 16]), (two.clone(), [7; 16])]);

    assert!(store.drained("measures", 0, None, 2, &[(one.clone(), [1; 16])]).await.unwrap());
    assert_eq!(store.diverted_of(&both).await.unwrap().len(), 2, "an older mark ends nothing");
    assert!(store.drained("measures", 0, Some(2), 4, &[(one.clone(), [2; 16])]).await.unwrap());
    assert_eq!(store.diverted_of(&both).await.unwrap(), [two]);
}

async fn the_position_moves_only_from_where_it_is_expected(store: Arc<dyn Store>) {
    store.divert(&[diverted("one", 1)]).await.unwrap();
    let one = (diverted("one", 1).device, [1; 16]);
    assert_eq!(store.position("measures", 0).await.unwrap(), None);
    assert!(store.drained("measures", 0, None, 5, &[]).await.unwrap());
    assert!(!store.drained("measures", 0, None, 6, std::slice::from_ref(&one)).await.unwrap());
    assert!(!store.drained("measures", 0, Some(4), 6, std::slice::from_ref(&one)).await.unwrap());
    assert_eq!(store.position("measures", 0).await.unwrap(), Some(5));
    assert_eq!(store.all_diverted().await.unwrap().len(), 1, "a lost race must not end a diversion");
}
