//! Counters per service and sub-service, as `/admin/metrics` shows them.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::RwLock;
use scope::Tenant;
use serde_json::{Map, Value, json};

/// Most pairs of service and sub-service that are counted apart; the rest counts in the sums only.
const MAX_PLACES: usize = 10_000;

/// A request that was answered, or that this broker made.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Transaction {
    pub(crate) request_bytes: u64,
    pub(crate) response_bytes: u64,
    pub(crate) failed: bool,
    pub(crate) took: Duration,
}

#[derive(Default)]
struct Counters {
    /// Of transactions, bytes of requests, bytes of answers, errors; incoming, then outgoing.
    incoming: [AtomicU64; 4],
    outgoing: [AtomicU64; 4],
    service_time_us: AtomicU64,
}

fn add(counters: &[AtomicU64; 4], transaction: &Transaction) {
    let [count, request_bytes, response_bytes, errors] = counters;
    count.fetch_add(1, Ordering::Relaxed);
    request_bytes.fetch_add(transaction.request_bytes, Ordering::Relaxed);
    response_bytes.fetch_add(transaction.response_bytes, Ordering::Relaxed);
    errors.fetch_add(u64::from(transaction.failed), Ordering::Relaxed);
}

/// Counters at one moment.
#[derive(Clone, Copy, Default)]
struct Sum {
    incoming: [u64; 4],
    outgoing: [u64; 4],
    service_time_us: u64,
}

impl Sum {
    fn add(&mut self, counters: &Counters) {
        for (sums, counters) in
            [(&mut self.incoming, &counters.incoming), (&mut self.outgoing, &counters.outgoing)]
        {
            for (sum, counter) in sums.iter_mut().zip(counters) {
                *sum += counter.load(Ordering::Relaxed);
            }
        }
        self.service_time_us += counters.service_time_us.load(Ordering::Relaxed);
    }

    /// What is not zero. `serviceTime` is the average of a transaction, seconds.
    fn shown(&self) -> Value {
        let mut shown = Map::new();
        for (prefix, counts) in [("incoming", &self.incoming), ("outgoing", &self.outgoing)] {
            let names =
                ["Transactions", "TransactionRequestSize", "TransactionResponseSize", "TransactionErrors"];
            for (name, count) in names.iter().zip(counts).filter(|(_, count)| **count > 0) {
                shown.insert(format!("{prefix}{name}"), json!(count));
            }
        }
        let [transactions, ..] = self.incoming;
        if transactions > 0 && self.service_time_us > 0 {
            let average = self.service_time_us as f64 / 1e6 / transactions as f64;
            shown.insert("serviceTime".to_owned(), json!(average));
        }
        Value::Object(shown)
    }
}

type Places = HashMap<String, HashMap<String, Arc<Counters>>>;

#[derive(Default)]
pub(crate) struct Transactions {
    places: RwLock<Places>,
    /// Of places beyond [`MAX_PLACES`].
    others: Arc<Counters>,
}

impl Transactions {
    /// Counts a request to this broker. `path` is `Fiware-ServicePath` as it came.
    pub(crate) fn incoming(&self, tenant: &Tenant, path: &str, transaction: &Transaction) {
        let counters = self.counters(tenant, path);
        add(&counters.incoming, transaction);
        let took_us = u64::try_from(transaction.took.as_micros()).unwrap_or(u64::MAX);
        counters.service_time_us.fetch_add(took_us, Ordering::Relaxed);
    }

    /// Counts a notification or a forward.
    pub(crate) fn outgoing(&self, tenant: &Tenant, path: &str, transaction: &Transaction) {
        add(&self.counters(tenant, path).outgoing, transaction);
    }

    fn counters(&self, tenant: &Tenant, path: &str) -> Arc<Counters> {
        let (service, path) = (service_name(tenant), path_name(path));
        if let Some(known) = self.places.read().get(service).and_then(|paths| paths.get(path)) {
            return known.clone();
        }
        let mut places = self.places.write();
        if places.values().map(HashMap::len).sum::<usize>() >= MAX_PLACES {
            return self.others.clone();
        }
        places.entry(service.to_owned()).or_default().entry(path.to_owned()).or_default().clone()
    }

    pub(crate) fn reset(&self) {
        self.places.write().clear();
        // Requests at hand may still add to what is gone; the counters of the rest go down with their holders.
        let zero =
            |counters: &[AtomicU64; 4]| counters.iter().for_each(|one| one.store(0, Ordering::Relaxed));
        zero(&self.others.incoming);
        zero(&self.others.outgoing);
        self.others.service_time_us.store(0, Ordering::Relaxed);
    }

    pub(crate) fn shown(&self) -> Value {
        let places = self.places.read();
        let (mut services, mut all_places) = (Map::new(), HashMap::<&str, Sum>::new());
        let mut all = Sum::default();
        for (service, paths) in &*places {
            let (mut shown, mut sum) = (Map::new(), Sum::default());
            for (path, counters) in paths {
                let mut own = Sum::default();
                own.add(counters);
                shown.insert(path.clone(), own.shown());
                sum.add(counters);
                all.add(counters);
                all_places.entry(path).or_default().add(counters);
            }
            services.insert(service.clone(), json!({"subservs": shown, "sum": sum.shown()}));
        }
        all.add(&self.others);
        let paths: Map<String, Value> =
            all_places.into_iter().map(|(path, sum)| (path.to_owned(), sum.shown())).collect();
        json!({"services": services, "sum": {"subservs": paths, "sum": all.shown()}})
    }
}

fn service_name(tenant: &Tenant) -> &str {
    match tenant.as_str() {
        "" => "default-service",
        name => name,
    }
}

/// The first of a list of paths, without its slash.
fn path_name(path: &str) -> &str {
    let first = path.split(',').next().unwrap_or_default().trim();
    match first.strip_prefix('/').unwrap_or(first) {
        "" => "root-subserv",
        name => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transaction(request_bytes: u64, failed: bool) -> Transaction {
        Transaction { request_bytes, response_bytes: 10, failed, took: Duration::from_millis(500) }
    }

    #[test]
    fn counters_are_shown_per_place_with_sums_and_without_zeros() {
        let transactions = Transactions::default();
        let tenant = Tenant::from_header(Some("acme")).unwrap();
        transactions.incoming(&Tenant::default(), "", &transaction(0, false));
        transactions.incoming(&tenant, "/a/b, /c", &transaction(5, true));
        transactions.outgoing(&tenant, "/a/b", &transaction(7, false));
        let default =
            json!({"incomingTransactions": 1, "incomingTransactionResponseSize": 10, "serviceTime": 0.5});
        let acme = json!({
            "incomingTransactions": 1, "incomingTransactionRequestSize": 5, "incomingTransactionResponseSize": 10,
            "incomingTransactionErrors": 1, "outgoingTransactions": 1, "outgoingTransactionRequestSize": 7,
            "outgoingTransactionResponseSize": 10, "serviceTime": 0.5,
        });
        let expected = json!({
            "services": {
                "default-service": {"subservs": {"root-subserv": default}, "sum": default},
                "acme": {"subservs": {"a/b": acme}, "sum": acme},
            },
            "sum": {"subservs": {"root-subserv": default, "a/b": acme}, "sum": {
                "incomingTransactions": 2, "incomingTransactionRequestSize": 5,
                "incomingTransactionResponseSize": 20, "incomingTransactionErrors": 1, "outgoingTransactions": 1,
                "outgoingTransactionRequestSize": 7, "outgoingTransactionResponseSize": 10, "serviceTime": 0.5,
            }},
        });
        assert_eq!(transactions.shown(), expected);
        transactions.reset();
        assert_eq!(transactions.shown(), json!({"services": {}, "sum": {"subservs": {}, "sum": {}}}));
    }

    #[test]
    fn places_beyond_the_limit_count_in_the_sum_only() {
        let transactions = Transactions::default();
        for n in 0..MAX_PLACES + 5 {
            transactions.incoming(&Tenant::default(), &format!("/p{n}"), &transaction(1, false));
        }
        let shown = transactions.shown();
        assert_eq!(shown["sum"]["sum"]["incomingTransactions"], MAX_PLACES + 5);
        assert_eq!(shown["services"]["default-service"]["sum"]["incomingTransactions"], MAX_PLACES);
    }
}
