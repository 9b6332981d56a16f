//! The mesh over PostgreSQL and Kafka, as replicas run it.

use anyhow::{Context, Result};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor, PgConnection, postgres::PgConnectOptions};

use super::{Bench, Results, seed};
use crate::floor;

/// Where they are.
#[derive(Clone)]
pub struct Servers {
    /// `postgres://user:password@host:port/database`; the user may make databases.
    pub postgres: String,
    /// `host:port`
    pub kafka: String,
}

/// PATCH of one attribute, and what PostgreSQL commits by itself. Nothing is measured where no servers are named.
pub(super) fn postgres(bench: &Bench, results: &mut Results) -> Result<()> {
    let Some(servers) = &bench.servers else {
        eprintln!("postgres: left out, no PostgreSQL and Kafka are named");
        return Ok(());
    };
    let database = Database::make(&servers.postgres)?;
    results.postgres = Some(floor::postgres_commit_rates(&database.url, bench.effort.step)?);
    let (postgres, kafka) = (&database.url, &servers.kafka);
    let mesh = bench.mesh_with(&format!("[backends]\npostgres = {postgres:?}\nkafka = {kafka:?}\n"))?;
    let count = bench.sizes.entities;
    mesh.fill(mesh.broker(), seed::batches(0, count), "making entities", &seed::rooms(0, count))?;
    let title = "PATCH one attribute, PostgreSQL and Kafka";
    let row = bench.compare(("patch-postgres", title), &mesh, mesh.broker(), &seed::patches(count))?;
    results.rows.push(row);
    Ok(())
}

/// A database of this run's own; dropped with it.
struct Database {
    server: PgConnectOptions,
    name: String,
    url: String,
}

impl Database {
    fn make(server: &str) -> Result<Self> {
        let name = format!("thingmesh_bench_{:08x}", rand::random::<u32>());
        let (address, _) = server.rsplit_once('/').context("the URL of PostgreSQL names no database")?;
        let database = Self { server: server.parse()?, url: format!("{address}/{name}"), name };
        database.run(&format!("CREATE DATABASE {}", database.name))?;
        Ok(database)
    }

    fn run(&self, statement: &str) -> Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let mut connection: PgConnection = self.server.connect().await?;
            connection.execute(AssertSqlSafe(statement.to_owned())).await?;
            connection.close().await?;
            Ok(())
        })
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if let Err(error) = self.run(&format!("DROP DATABASE {} WITH (FORCE)", self.name)) {
            eprintln!("database {} stays behind: {error:#}", self.name);
        }
    }
}
