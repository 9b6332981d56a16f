//! All services in one process. Neighbours call each other through the same generated clients as over a network.

use std::{net::SocketAddr, path::Path, sync::Arc};

use anyhow::{Context, Result, anyhow};
use gateway::{DevelopmentIssuer, Upstreams, upstream};
use launch::{Foundation, port_is_taken};
use service_kit::{Running, SystemClock, grpc};

use crate::config::MeshConfig;

/// The started mesh.
pub(crate) struct Mesh {
    pub(crate) foundation: Foundation,
    pub(crate) services: Vec<Running>,
    pub(crate) issuer: DevelopmentIssuer,
}

impl Mesh {
    /// Starts everything. What is started stops again if a later part fails, because the process then ends.
    pub(crate) async fn start(config: &MeshConfig, data_dir: &Path) -> Result<Self> {
        Self::start_all(config, data_dir).await.map_err(|error| advised(error, config))
    }

    async fn start_all(config: &MeshConfig, data_dir: &Path) -> Result<Self> {
        let (mut issuer, process) = (None, config.process());
        let foundation = Foundation::lay_with(&process, data_dir, || {
            Ok(issuer.insert(DevelopmentIssuer::open(data_dir, Arc::new(SystemClock))?).router())
        });
        let foundation = foundation.await?;
        let issuer = issuer.context("no development issuer")?;
        let services = Self::start_services(&foundation, config, issuer.clone());
        let services = foundation.unless_interrupted(services).await?;
        foundation.started();
        Ok(Self { foundation, services, issuer })
    }

    async fn start_services(
        foundation: &Foundation,
        config: &MeshConfig,
        issuer: DevelopmentIssuer,
    ) -> Result<Vec<Running>> {
        let mut services = Vec::new();

        let broker = context_broker::start(
            config.context_broker.clone(),
            context_broker::Deps {
                bus: foundation.bus.clone(),
                soft_state: foundation.soft_state.clone(),
                clock: foundation.clock.clone(),
                readiness: foundation.readiness.clone(),
                metrics: foundation.metrics.clone(),
            },
        )
        .await
        .context("context-broker")?;

        let series = time_series::start(
            config.time_series.clone(),
            time_series::Deps {
                bus: foundation.bus.clone(),
                clock: foundation.clock.clone(),
                readiness: foundation.readiness.clone(),
                metrics: foundation.metrics.clone(),
            },
        )
        .await
        .context("time-series")?;

        let agent = device_agent::start(
            config.device_agent.clone(),
            device_agent::Deps {
                bus: foundation.bus.clone(),
                soft_state: foundation.soft_state.clone(),
                clock: foundation.clock.clone(),
                broker: grpc::local(context_broker::api::grpc_service(broker.core.clone())),
                readiness: foundation.readiness.clone(),
                metrics: foundation.metrics.clone(),
            },
        )
        .await
        .context("device-agent")?;

        services.extend([broker.running, series, agent]);
        let gateway = gateway::start(
            config.gateway.clone(),
            gateway::Deps {
                upstreams: upstreams(&services)?,
                development_issuer: Some(issuer),
                readiness: foundation.readiness.clone(),
                metrics: foundation.metrics.clone(),
            },
        )
        .await?;
        services.push(gateway);
        Ok(services)
    }

    /// Stops all services, last started first, within two seconds.
    pub(crate) async fn stop(&self) {
        for service in self.services.iter().rev() {
            service.stop(std::time::Duration::from_millis(400)).await;
        }
        self.foundation.tasks.stop(std::time::Duration::from_millis(200)).await;
    }

    /// The address of a listener, such as `gateway` `http`.
    pub(crate) fn address(&self, service: &str, listener: &str) -> Result<SocketAddr> {
        address(&self.services, service, listener)
    }
}

/// Says which setting a taken port comes from, and what to do.
fn advised(error: anyhow::Error, config: &MeshConfig) -> anyhow::Error {
    if let Some(advice) = config.backends.advice(&error) {
        return anyhow!("{error:#}\n  {advice}");
    }
    if !port_is_taken(&error) {
        return error;
    }
    let text = format!("{error:#}");
    // With the colon that follows, an address is not found in one that only begins like it.
    let setting = config.listeners().into_iter().find(|(_, address)| text.contains(&format!("{address}:")));
    let setting = setting.map_or("its table of the configuration", |(setting, _)| setting);
    anyhow!(
        "{text}\n  The port is set by {setting}. Move all ports with --port-offset N, or this one with --set {setting}=PORT, \
         or stop the program that listens there. `thingmesh doctor` looks at every port."
    )
}

fn address(services: &[Running], service: &str, listener: &str) -> Result<SocketAddr> {
    let running = services.iter().find(|running| running.name() == service);
    running
        .and_then(|running| running.addresses().get(listener).copied())
        .with_context(|| format!("{service} has no listener {listener}"))
}

/// The services behind the gateway, by their destinations in `istio/`.
fn upstreams(services: &[Running]) -> Result<Upstreams> {
    let destinations = [
        ("orion:1026", "context-broker", "http"),
        ("quantumleap:8668", "time-series", "http"),
        ("ulagent:4041", "device-agent", "north"),
        ("ulagent:7896", "device-agent", "south"),
    ];
    let mut upstreams = Upstreams::new();
    for (destination, service, listener) in destinations {
        let router = services
            .iter()
            .find(|running| running.name() == service)
            .and_then(|running| running.router(listener));
        let router = router.with_context(|| format!("{service} serves no {listener}"))?;
        upstreams.insert(destination.to_owned(), upstream::local(router));
    }
    Ok(upstreams)
}
