// A session of ngsijs (npm), as a user writes one, against the broker at the URL in the first argument.
"use strict";

const assert = require("node:assert/strict");
const http = require("node:http");
const NGSI = require("ngsijs");

const DEADLINE_MS = 20_000;

/** A receiver of notifications, and a context provider. */
class Sink {
  constructor() {
    this.provided = [];
    this.waiting = [];
    this.got = [];
    this.server = http.createServer((request, response) => {
      const chunks = [];
      request.on("data", (chunk) => chunks.push(chunk));
      request.on("end", () => {
        const body = JSON.parse(Buffer.concat(chunks).toString());
        this.take({ path: request.url, headers: request.headers, body });
        response.setHeader("Content-Type", "application/json");
        response.end(request.url.endsWith("/op/query") ? JSON.stringify(this.provided) : "");
      });
    });
  }

  listen() {
    return new Promise((resolve) => {
      this.server.listen(0, "127.0.0.1", () => {
        this.url = `http://127.0.0.1:${this.server.address().port}`;
        resolve();
      });
    });
  }

  take(request) {
    const first = this.waiting.shift();
    if (first) first(request);
    else this.got.push(request);
  }

  next() {
    if (this.got.length > 0) return Promise.resolve(this.got.shift());
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error("nothing came in time")), DEADLINE_MS);
      this.waiting.push((request) => {
        clearTimeout(timer);
        resolve(request);
      });
    });
  }
}

async function entities(v2) {
  const room = {
    id: "urn:ngsi-ld:Room:1",
    type: "Room",
    temperature: { type: "Number", value: 21.5, metadata: { accuracy: { type: "Number", value: 0.1 } } },
    tags: { type: "StructuredValue", value: ["a"], metadata: {} },
  };
  const created = await v2.createEntity(room);
  assert.equal(created.location, "/v2/entities/urn:ngsi-ld:Room:1?type=Room");
  assert.ok(created.correlator);
  await assert.rejects(v2.createEntity(room), NGSI.AlreadyExistsError);
  await v2.createEntity({ id: room.id, type: "Room", extra: 1 }, { keyValues: true, upsert: true });
  await assert.rejects(v2.createEntity({ id: "no good", type: "Room" }), NGSI.BadRequestError);

  const read = await v2.getEntity({ id: room.id, type: "Room" });
  assert.deepEqual(read.entity, { ...room, extra: { type: "Number", value: 1, metadata: {} } });
  assert.deepEqual((await v2.getEntity({ id: room.id, keyValues: true })).entity, {
    id: room.id, type: "Room", temperature: 21.5, tags: ["a"], extra: 1,
  });
  assert.deepEqual((await v2.getEntityAttributes({ id: room.id, keyValues: true })).attributes, {
    temperature: 21.5, tags: ["a"], extra: 1,
  });
  assert.deepEqual((await v2.getEntityAttribute({ id: room.id, attribute: "extra" })).attribute.value, 1);
  assert.deepEqual((await v2.getEntityAttributeValue({ id: room.id, attribute: "tags" })).value, ["a"]);
  assert.equal((await v2.getEntityAttributeValue({ id: room.id, attribute: "temperature" })).value, 21.5);

  await v2.appendEntityAttributes({ id: room.id, level: { value: 1 } });
  await assert.rejects(v2.appendEntityAttributes({ id: room.id, level: { value: 2 } }, { strict: true }));
  await v2.updateEntityAttributes({ id: room.id, level: 3 }, { keyValues: true });
  await assert.rejects(v2.updateEntityAttributes({ id: "none", level: { value: 3 } }), NGSI.NotFoundError);
  await v2.replaceEntityAttribute({ id: room.id, attribute: "level", type: "Number", value: 4 }, { id: room.id, attribute: "level" });
  await v2.replaceEntityAttributeValue({ id: room.id, attribute: "tags", value: { k: [1] } });
  assert.deepEqual((await v2.getEntity({ id: room.id, keyValues: true })).entity, {
    id: room.id, type: "Room", temperature: 21.5, tags: { k: [1] }, extra: 1, level: 4,
  });
  await v2.deleteEntityAttribute({ id: room.id, attribute: "level" });
  await assert.rejects(v2.getEntityAttribute({ id: room.id, attribute: "level" }), NGSI.NotFoundError);
  await v2.replaceEntityAttributes({ id: room.id, only: { value: 1 } });
  assert.deepEqual((await v2.getEntityAttributes({ id: room.id, keyValues: true })).attributes, { only: 1 });

  await v2.createEntity({ id: room.id, type: "Other" });
  await assert.rejects(v2.getEntity(room.id), NGSI.TooManyResultsError);
  await v2.deleteEntity({ id: room.id, type: "Other" });
  await v2.deleteEntity(room.id);
  await assert.rejects(v2.getEntity(room.id), NGSI.NotFoundError);
}

async function lists(v2) {
  const sensors = [...Array(60).keys()].map((n) => ({
    id: `sensor:${String(n).padStart(3, "0")}`,
    type: n % 5 ? "Sensor" : "Meter",
    n: { value: n, metadata: { unit: { value: n % 2 ? "W" : "V" } } },
    kind: { value: n % 5 ? "a" : "b" },
    place: { type: "geo:json", value: { type: "Point", coordinates: [2, n / 100] } },
  }));
  await v2.batchUpdate({ actionType: "APPEND", entities: sensors });
  await v2.batchUpdate({ actionType: "update", entities: [{ id: "sensor:001", type: "Sensor", n: -1 }] }, { keyValues: true });
  await v2.batchUpdate({ actionType: "update", entities: [{ id: "sensor:001", type: "Sensor", n: 1 }] }, { keyValues: true });
  await assert.rejects(v2.batchUpdate({ actionType: "none", entities: sensors }), NGSI.BadRequestError);

  const ids = async (options) => (await v2.listEntities(options)).results.map((entity) => Number(entity.id.slice(7)));
  const first = await v2.listEntities({ count: true, limit: 25 });
  assert.deepEqual([first.count, first.results.length], [60, 25]);
  assert.deepEqual(await ids({ offset: 50, limit: 25 }), [50, 51, 52, 53, 54, 55, 56, 57, 58, 59]);
  assert.deepEqual(await ids({ id: ["sensor:003", "sensor:001"] }), [1, 3]);
  assert.deepEqual(await ids({ idPattern: "00[4-6]$", type: "Sensor" }), [4, 6]);
  assert.deepEqual(await ids({ typePattern: "^M", q: "n<=10" }), [0, 5, 10]);
  assert.deepEqual(await ids({ q: "n>1;n<5", mq: "n.unit==V" }), [2, 4]);
  assert.deepEqual(await ids({ q: "n==1..3", orderBy: "!n" }), [3, 2, 1]);
  assert.deepEqual(await ids({ georel: "near;maxDistance:1500", geometry: "point", coords: "0.102,2" }), [10, 11, 9]);
  assert.deepEqual(await ids({ georel: "coveredBy", geometry: "polygon", coords: "0,1;0,3;0.015,3;0.015,1;0,1" }), [0, 1]);
  assert.deepEqual((await v2.listEntities({ q: "n<2", values: true, attrs: ["n", "kind"] })).results, [[0, "b"], [1, "a"]]);
  assert.deepEqual((await v2.listEntities({ q: "n<2", unique: true, attrs: ["kind", "kind"] })).results, [["b"], ["a"]]);
  const shown = await v2.listEntities({ id: "sensor:002", attrs: ["n"], metadata: ["dateCreated", "*"] });
  assert.deepEqual(Object.keys(shown.results[0].n.metadata).sort(), ["dateCreated", "unit"]);

  const query = { entities: [{ idPattern: ".*", type: "Meter" }], attrs: ["n"], expression: { q: "n<11" } };
  const page = await v2.batchQuery(query, { count: true, limit: 2, offset: 1, keyValues: true, orderBy: "!n" });
  assert.equal(page.count, 3);
  assert.deepEqual(page.results.map((entity) => entity.n), [5, 0]);
  assert.equal((await v2.batchQuery(null, { count: true })).count, 60);

  const types = await v2.listTypes({ count: true });
  assert.deepEqual([types.count, types.results.map((type) => [type.type, type.count])], [2, [["Meter", 12], ["Sensor", 48]]]);
  assert.deepEqual((await v2.listTypes({ values: true })).results, ["Meter", "Sensor"]);
  assert.deepEqual((await v2.getType("Meter")).type.attrs.place.types, ["geo:json"]);
  await assert.rejects(v2.getType("None"), NGSI.NotFoundError);
  await v2.batchUpdate({ actionType: "DELETE", entities: sensors.map(({ id, type }) => ({ id, type })) });
  assert.equal((await v2.listEntities({ count: true })).count, 0);
}

async function subscriptions(v2, sink) {
  await v2.createEntity({ id: "door", type: "Door", open: false }, { keyValues: true });
  const { subscription } = await v2.createSubscription({
    description: "doors",
    subject: { entities: [{ idPattern: ".*", type: "Door" }], condition: { attrs: ["open"], expression: { q: "open==true" } } },
    notification: { http: { url: `${sink.url}/doors` }, attrs: ["open"], attrsFormat: "keyValues" },
    expires: "2040-01-01T14:00:00.00Z",
  }, { skipInitialNotification: true });
  assert.match(subscription.id, /^[0-9a-f]{24}$/);
  await v2.updateEntityAttributes({ id: "door", open: true }, { keyValues: true, correlator: "of-the-session" });
  const notified = await sink.next();
  assert.deepEqual(notified.body, { subscriptionId: subscription.id, data: [{ id: "door", type: "Door", open: true }] });
  assert.equal(notified.headers["fiware-service"], "ngsijs");
  assert.equal(notified.headers["fiware-servicepath"], "/js");
  assert.match(notified.headers["fiware-correlator"], /^of-the-session; cbnotif=1$/);

  const listed = await v2.listSubscriptions({ count: true });
  assert.deepEqual([listed.count, listed.results[0].id], [1, subscription.id]);
  await v2.updateSubscription({ id: subscription.id, status: "inactive" });
  const read = (await v2.getSubscription(subscription.id)).subscription;
  assert.deepEqual([read.status, read.notification.http.url], ["inactive", `${sink.url}/doors`]);
  await v2.deleteSubscription(subscription.id);
  await assert.rejects(v2.getSubscription(subscription.id), NGSI.NotFoundError);
  await assert.rejects(v2.createSubscription({ subject: {}, notification: {} }), NGSI.BadRequestError);
  await v2.deleteEntity("door");
}

async function registrations(v2, sink) {
  const { registration } = await v2.createRegistration({
    description: "weather",
    dataProvided: { entities: [{ id: "station", type: "Station" }], attrs: ["pressure"] },
    provider: { http: { url: `${sink.url}/v2` }, supportedForwardingMode: "query" },
  });
  const read = (await v2.getRegistration(registration.id)).registration;
  assert.deepEqual([read.description, read.dataProvided.attrs, read.status], ["weather", ["pressure"], "active"]);
  assert.equal((await v2.listRegistrations({ count: true })).count, 1);
  sink.provided = [{ id: "station", type: "Station", pressure: { type: "Number", value: 1013, metadata: {} } }];
  assert.equal((await v2.getEntity({ id: "station", type: "Station" })).entity.pressure.value, 1013);
  assert.equal((await sink.next()).path, "/v2/op/query");
  await v2.updateRegistration({ id: registration.id, description: "wind" });
  assert.equal((await v2.getRegistration(registration.id)).registration.description, "wind");
  await v2.deleteRegistration(registration.id);
  await assert.rejects(v2.getRegistration(registration.id), NGSI.NotFoundError);
}

async function main(url) {
  const sink = new Sink();
  await sink.listen();
  const connection = new NGSI.Connection(url, { service: "ngsijs", servicepath: "/js" });
  const details = (await connection.getServerDetails()).details;
  assert.match(details.orion.version, /^\d+\.\d+\.\d+$/);
  await entities(connection.v2);
  await lists(connection.v2);
  await subscriptions(connection.v2, sink);
  await registrations(connection.v2, sink);
  sink.server.close();
  sink.server.closeAllConnections();
}

main(process.argv[2]);
