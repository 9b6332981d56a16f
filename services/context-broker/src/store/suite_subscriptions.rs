//! The case of the suite about subscriptions.

use scope::{PathPattern, Tenant};

use super::{Replacement, suite::Bench};
use crate::subscription::SubscriptionId;

pub(super) async fn subscriptions_keep_their_epochs(bench: Bench) {
    let tenant = Tenant::from_header(Some("t")).unwrap();
    let path = PathPattern::parse("/#").unwrap();
    let (first, second) = (SubscriptionId::generate(0), SubscriptionId::generate(1));
    let a = bench.store.insert_subscription(&tenant, &path, &first, "{}").await.unwrap();
    let b = bench.store.insert_subscription(&tenant, &path, &second, "{}").await.unwrap();
    assert!(a.since_epoch < b.since_epoch);
    let replacement = Replacement { expected: a.revision, body: "{\"x\":1}", reactivated: false };
    let changed = bench.store.replace_subscription(&tenant, &first, replacement).await.unwrap().unwrap();
    assert_eq!(changed.since_epoch, a.since_epoch);
    assert!(changed.revision > b.revision);
    let stale = bench.store.replace_subscription(&tenant, &first, replacement).await.unwrap();
    assert_eq!(stale, None, "the revision has moved on");
    let (epoch, all) = bench.store.subscriptions(&tenant).await.unwrap();
    assert_eq!(all.len(), 2);
    assert!(epoch >= changed.revision);
    let page = |path: &str, offset: usize| {
        let path = PathPattern::parse(path).unwrap();
        let (store, tenant) = (bench.store.clone(), tenant.clone());
        async move { store.subscription_page(&tenant, &path, offset, 1).await.unwrap() }
    };
    let mut in_order = [changed.clone(), b.clone()];
    in_order.sort_by(|one, other| (one.created_us, &one.id).cmp(&(other.created_us, &other.id)));
    for (offset, one) in in_order.into_iter().enumerate() {
        assert_eq!(page("/#", offset).await, (vec![one], 2));
    }
    assert_eq!(page("/#", 2).await, (vec![], 2));
    assert_eq!(page("/a", 0).await, (vec![], 0));
    assert!(bench.store.delete_subscription(&tenant, &second).await.unwrap());
    assert!(!bench.store.delete_subscription(&tenant, &second).await.unwrap());
    let other = Tenant::from_header(Some("u")).unwrap();
    assert_eq!(bench.store.find_subscription(&other, &first).await.unwrap(), None);
    let epochs = bench.system.subscription_epochs().await.unwrap();
    assert!(epochs.iter().any(|(t, known)| *t == tenant && *known > epoch));
}
