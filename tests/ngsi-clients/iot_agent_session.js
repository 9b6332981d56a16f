// An agent made with iotagent-node-lib (npm), the base of FIWARE's own agents, against the broker at the URL in the first
// argument: it creates entities, registers itself as provider, is asked and commanded through the broker, and subscribes.
"use strict";

const assert = require("node:assert/strict");
const net = require("node:net");
const { promisify } = require("node:util");
const agent = require("iotagent-node-lib");

const DEADLINE_MS = 20_000;
const SERVICE = { service: "agent", subservice: "/greenhouse" };
const HEADERS = { "fiware-service": SERVICE.service, "fiware-servicepath": SERVICE.subservice };

const types = {
  Pump: {
    ...SERVICE,
    commands: [{ name: "turn", type: "command" }],
    lazy: [{ name: "pressure", type: "Number" }],
    active: [{ object_id: "f", name: "flow", type: "Number", metadata: { unit: { type: "Text", value: "l" } } }],
    staticAttributes: [{ name: "place", type: "geo:json", value: { type: "Point", coordinates: [2, 41] } }],
  },
  Valve: { ...SERVICE, cmdMode: "notification", commands: [{ name: "open", type: "command" }], lazy: [], active: [] },
};

function freePort() {
  return new Promise((resolve) => {
    const probe = net.createServer().listen(0, "127.0.0.1", () => {
      const { port } = probe.address();
      probe.close(() => resolve(port));
    });
  });
}

/** What a callback gives when it is called, and a function to be called. */
function expected() {
  let called;
  const come = new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error("nothing came in time")), DEADLINE_MS);
    called = (...given) => {
      clearTimeout(timer);
      resolve(given);
    };
  });
  return { come, called };
}

async function main(url) {
  const broker = new URL(url);
  const port = await freePort();
  await promisify(agent.activate)({
    ...SERVICE,
    logLevel: "FATAL",
    contextBroker: { host: broker.hostname, port: broker.port, ngsiVersion: "v2" },
    server: { port, host: "127.0.0.1" },
    providerUrl: `http://127.0.0.1:${port}`,
    deviceRegistry: { type: "memory" },
    deviceRegistrationDuration: "P1M",
    useCBflowControl: true,
    types,
  });

  const call = async (method, path, body) => {
    const headers = { ...HEADERS, ...(body && { "Content-Type": "application/json" }) };
    const answer = await fetch(new URL(path, broker), { method, headers, body: body && JSON.stringify(body) });
    const text = await answer.text();
    assert.ok(answer.ok, `${method} ${path}: ${answer.status} ${text}`);
    return text && JSON.parse(text);
  };
  /** Reads `path` until it is as it should be. */
  const until = async (path, holds) => {
    const deadline = Date.now() + DEADLINE_MS;
    for (;;) {
      const shown = await call("GET", path);
      if (holds(shown)) return shown;
      assert.ok(Date.now() < deadline, `still ${JSON.stringify(shown)}`);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  };

  await pump(call, until);
  await valve(call, until);
  await promisify(agent.deactivate)();
}

/** A device as the agent keeps it; what its type says of it is not in there. */
function stored(id) {
  return promisify(agent.getDevice)(id, undefined, SERVICE.service, SERVICE.subservice);
}

async function pump(call, until) {
  await promisify(agent.register)({ id: "p1", name: "pump:1", type: "Pump", ...SERVICE });
  const [registration] = await call("GET", "/v2/registrations");
  assert.deepEqual(registration.dataProvided, {
    entities: [{ id: "pump:1", type: "Pump" }],
    attrs: ["pressure", "turn"],
  });

  const device = { ...(await stored("p1")), ...types.Pump };
  await promisify(agent.update)("pump:1", "Pump", "", [{ name: "f", type: "Number", value: 2.5 }], device);
  const measured = await call("GET", "/v2/entities/pump:1?type=Pump&options=skipForwarding");
  assert.deepEqual([measured.flow.value, measured.flow.metadata.unit.value], [2.5, "l"]);
  assert.deepEqual(measured.place.value, { type: "Point", coordinates: [2, 41] });
  const asked = await promisify(agent.query)("pump:1", "Pump", "", ["flow"], device);
  assert.equal(asked.flow.value, 2.5);

  // A lazy attribute: the broker asks the agent.
  agent.setDataQueryHandler((id, type, service, subservice, attributes, callback) => {
    callback(null, { id, type, pressure: { type: "Number", value: 3 } });
  });
  assert.equal((await call("GET", "/v2/entities/pump:1/attrs/pressure?type=Pump")).value, 3);

  // A command: the broker sends it on, and the agent writes how it went.
  const commanded = expected();
  agent.setCommandHandler((id, type, service, subservice, attributes, callback) => {
    commanded.called(id, type, attributes);
    callback(null, { id, type, attributes });
  });
  await call("PATCH", "/v2/entities/pump:1/attrs?type=Pump", { turn: { type: "command", value: "on" } });
  const [id, type, attributes] = await commanded.come;
  assert.deepEqual([id, type, attributes[0].name, attributes[0].value], ["pump:1", "Pump", "turn", "on"]);
  await until("/v2/entities/pump:1/attrs/turn_status?options=skipForwarding", ({ value }) => value === "PENDING");
  await promisify(agent.setCommandResult)("pump:1", "", "", "turn", "done", "OK", device);
  await until("/v2/entities/pump:1/attrs/turn_info", ({ value }) => value === "done");
  assert.equal((await call("GET", "/v2/entities/pump:1/attrs/turn_status")).value, "OK");

  // What others write, the agent is told.
  const notified = expected();
  agent.setNotificationHandler((told, values, callback) => {
    notified.called(told.id, values);
    callback();
  });
  await promisify(agent.subscribe)(device, ["target"], ["target"], "normalized");
  const [subscription] = await call("GET", "/v2/subscriptions");
  assert.deepEqual(subscription.subject.condition.attrs, ["target"]);
  await call("POST", "/v2/entities/pump:1/attrs?type=Pump", { target: { type: "Number", value: 9 } });
  const [told, values] = await notified.come;
  assert.deepEqual([told, values.map(({ name, value }) => [name, value])], ["p1", [["target", 9]]]);
  await promisify(agent.unsubscribe)(device, subscription.id);
  assert.deepEqual(await call("GET", "/v2/subscriptions"), []);

  await promisify(agent.unregister)("p1", undefined, SERVICE.service, SERVICE.subservice);
  assert.deepEqual(await call("GET", "/v2/registrations"), []);
  await call("DELETE", "/v2/entities/pump:1?type=Pump");
}

/** Commands that come as notifications of a subscription of the agent's own. */
async function valve(call, until) {
  await promisify(agent.register)({ id: "v1", name: "valve:1", type: "Valve", cmdMode: "notification", ...SERVICE });
  assert.deepEqual(await call("GET", "/v2/registrations"), []);
  const [subscription] = await call("GET", "/v2/subscriptions");
  assert.deepEqual(subscription.subject.condition.attrs, ["open"]);
  const commanded = expected();
  agent.setNotificationHandler((device, values, callback) => {
    // The entity begins with a command of no value, which is told too.
    const [{ name, value }] = values;
    if (value !== null && value !== "") commanded.called(device.id, name, value);
    callback();
  });
  await call("POST", "/v2/entities/valve:1/attrs?type=Valve", { open: { type: "command", value: { by: 5 } } });
  assert.deepEqual(await commanded.come, ["v1", "open", { by: 5 }]);
  const device = { ...(await stored("v1")), ...types.Valve };
  await promisify(agent.setCommandResult)("valve:1", "", "", "open", "5", "OK", device);
  await until("/v2/entities/valve:1/attrs/open_info", ({ value }) => value === "5");
  await promisify(agent.unregister)("v1", undefined, SERVICE.service, SERVICE.subservice);
  await call("DELETE", "/v2/entities/valve:1?type=Valve");
}

main(process.argv[2]).then(
  // The library keeps timers of its own.
  () => process.exit(0),
  (error) => {
    console.error(error);
    process.exit(1);
  },
);
