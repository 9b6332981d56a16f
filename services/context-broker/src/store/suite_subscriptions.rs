//! The cases of the suite about subscriptions.

use scope::{PathPattern, Tenant};

use super::{DELETIONS_KEPT, Replacement, suite::Bench};
use crate::subscription::{Known, SubscriptionId};

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
    let read = bench.store.subscription_changes(&tenant, Known::default(), 10).await.unwrap();
    assert_eq!(read.changed, [b.clone(), changed.clone()], "in order of their revisions");
    assert_eq!(read.deleted, Some(vec![]));
    let epoch = read.epoch;
    assert!(epoch >= changed.revision);
    assert_eq!(bench.store.count_subscriptions(&tenant).await.unwrap(), 2);
    let page = |path: &str, offset: usize| {
        let path = (!path.is_empty()).then(|| PathPattern::parse(path).unwrap());
        let (store, tenant) = (bench.store.clone(), tenant.clone());
        async move { store.subscription_page(&tenant, path.as_ref(), offset, 1).await.unwrap() }
    };
    let mut in_order = [changed.clone(), b.clone()];
    in_order.sort_by(|one, other| (one.created_us, &one.id).cmp(&(other.created_us, &other.id)));
    for (offset, one) in in_order.into_iter().enumerate() {
        assert_eq!(page("/#", offset).await, (vec![one.clone()], 2));
        assert_eq!(page("", offset).await, (vec![one], 2), "of all paths");
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

pub(super) async fn changes_of_subscriptions_are_read_from_where_one_is(bench: Bench) {
    let tenant = Tenant::from_header(Some("t")).unwrap();
    let path = PathPattern::parse("/#").unwrap();
    let mut ids = Vec::new();
    for second in 0..5 {
        let id = SubscriptionId::generate(second * 1_000_000);
        bench.store.insert_subscription(&tenant, &path, &id, "{}").await.unwrap();
        ids.push(id);
    }
    let read = async |revision, deletions, limit| {
        let read =
            bench.store.subscription_changes(&tenant, Known { revision, deletions }, limit).await.unwrap();
        let changed: Vec<_> = read.changed.iter().map(|one| one.id.clone()).collect();
        (read.epoch, changed, read.deleted)
    };
    let (epoch, first, deleted) = read(0, None, 3).await;
    assert_eq!((&first[..], deleted), (&ids[..3], Some(vec![])));
    let third = bench.store.find_subscription(&tenant, &ids[2]).await.unwrap().unwrap().revision;

    // While one reads page by page, the first goes and the second changes.
    assert!(bench.store.delete_subscription(&tenant, &ids[0]).await.unwrap());
    let second = bench.store.find_subscription(&tenant, &ids[1]).await.unwrap().unwrap();
    let replacement = Replacement { expected: second.revision, body: "{\"x\":1}", reactivated: false };
    bench.store.replace_subscription(&tenant, &ids[1], replacement).await.unwrap().unwrap();
    let (epoch, rest, deleted) = read(third, Some(epoch), 3).await;
    assert_eq!(rest, [ids[3].clone(), ids[4].clone(), ids[1].clone()]);
    assert_eq!(deleted, Some(vec![ids[0].clone()]));
    assert_eq!(read(epoch, Some(epoch), 3).await, (epoch, vec![], Some(vec![])), "nothing is new");
    let long_ago = Some(epoch - DELETIONS_KEPT - 1);
    assert_eq!(read(epoch, long_ago, 3).await.2, None, "deletions since then may be forgotten");
    let other = Tenant::from_header(Some("u")).unwrap();
    let nothing = bench.store.subscription_changes(&other, Known::default(), 10).await.unwrap();
    assert_eq!((nothing.epoch, nothing.changed), (0, vec![]));
}
