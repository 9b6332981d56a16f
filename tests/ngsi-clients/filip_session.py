"""A session of filip (PyPI), as a user writes one, against the broker at the URL in the first argument."""

import itertools
import json
import queue
import sys
import threading
import warnings
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from filip.clients.exceptions import BaseHttpClientException
from filip.clients.ngsi_v2 import ContextBrokerClient
from filip.models.base import FiwareHeader
from filip.models.ngsi_v2.context import (
    ContextAttribute,
    ContextEntity,
    ContextEntityKeyValues,
    NamedContextAttribute,
    Query,
    Update,
)
from filip.models.ngsi_v2.registrations import Registration
from filip.models.ngsi_v2.subscriptions import Message, Subscription
from filip.utils.simple_ql import QueryString

DEADLINE_S = 20
MANY = 1_205


class Sink:
    """A receiver of notifications, and a context provider."""

    def __init__(self):
        self.got = queue.Queue()
        self.provided = []
        sink = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                sink.got.put((self.path, self.headers, body))
                answer = json.dumps(sink.provided).encode() if self.path.endswith("/op/query") else b""
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *arguments):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def next(self):
        return self.got.get(timeout=DEADLINE_S)


def refused(status, call):
    """The error that `call` ends with, which is one of this status."""
    try:
        call()
    except BaseHttpClientException as error:
        assert error.response.status_code == status, (error.response.status_code, error.response.text)
        return error.response.json()
    raise AssertionError(f"no {status}")


def is_(found, expected):
    assert found == expected, f"{found!r} is not {expected!r}"


def versions(client):
    major, minor, patch = client.get_version()["orion"]["version"].split(".")
    is_([part.isdigit() for part in (major, minor, patch)], [True] * 3)
    is_(client.get_resources()["entities_url"], "/v2/entities")
    assert client.get_statistics()["uptime_in_secs"] >= 0


def entities(client):
    room = ContextEntity(
        id="urn:ngsi-ld:Room:1",
        type="Room",
        temperature={"value": 21.5, "type": "Number", "metadata": {"accuracy": {"value": 0.1, "type": "Number"}}},
        name={"value": "Kitchen", "type": "Text"},
        tags={"value": ["a", "b"], "type": "StructuredValue"},
    )
    is_(client.post_entity(room), "/v2/entities/urn:ngsi-ld:Room:1?type=Room")
    is_(refused(422, lambda: client.post_entity(room))["description"], "Already Exists")
    is_(client.get_entity(room.id).model_dump(exclude_none=True), room.model_dump(exclude_none=True))
    assert client.does_entity_exist(room.id, "Room") and not client.does_entity_exist(room.id, "Lamp")

    attribute = client.get_attribute(room.id, "temperature", entity_type="Room")
    is_((attribute.value, attribute.metadata["accuracy"].value), (21.5, 0.1))
    is_(client.get_attribute_value(room.id, "temperature"), 21.5)
    is_(client.get_attribute_value(room.id, "tags"), ["a", "b"])
    for name, value in [("temperature", 22), ("name", "new name"), ("tags", ["c"]), ("tags", {"k": [1]})]:
        client.update_attribute_value(entity_id=room.id, attr_name=name, value=value)
        is_(client.get_attribute_value(room.id, name), value)
    is_(client.get_attribute(room.id, "temperature").metadata["accuracy"].value, 0.1)

    client.update_entity_attribute(room.id, NamedContextAttribute(name="temperature", type="Number", value=23))
    is_(client.get_attribute(room.id, "temperature").metadata, {})
    client.update_or_append_entity_attributes(room.id, {"level": ContextAttribute(type="Number", value=1)}, "Room")
    error = refused(
        422,
        lambda: client.update_or_append_entity_attributes(
            room.id, {"level": ContextAttribute(type="Number", value=2)}, "Room", append_strict=True
        ),
    )
    assert error["description"].endswith("already exist: urn:ngsi-ld:Room:1/Room - [ level ]"), error
    client.update_existing_entity_attributes(room.id, {"level": 3}, "Room", key_values=True)
    is_(client.get_entity_attributes(room.id)["level"].value, 3)
    is_(refused(422, lambda: client.update_existing_entity_attributes(
        room.id, {"none": ContextAttribute(type="Number", value=2)}, "Room"
    ))["error"], "Unprocessable")
    client.delete_entity_attribute(room.id, "level")
    is_(refused(404, lambda: client.get_attribute(room.id, "level"))["error"], "NotFound")

    client.post_entity(ContextEntity(id=room.id, type="Room", only={"value": 1, "type": "Number"}), update=True)
    is_(client.get_entity(room.id, response_format="keyValues").model_dump(), {"id": room.id, "type": "Room", "only": 1})
    client.patch_entity(ContextEntity(id=room.id, type="Room", only={"value": 2, "type": "Number"}))
    is_(client.get_attribute_value(room.id, "only"), 2)
    client.delete_entity(room.id, "Room")
    is_(refused(404, lambda: client.get_entity(room.id))["error"], "NotFound")


def lists(client):
    def sensor(n):
        return ContextEntity(
            id=f"sensor:{n:05}",
            type="Sensor" if n % 5 else "Meter",
            n={"value": n, "type": "Number", "metadata": {"side": {"value": "W" if n % 2 else "V", "type": "Text"}}},
            place={"value": f"{n / 100}, 2.0", "type": "geo:point"},
        )

    sensors = [sensor(n) for n in range(MANY)]
    for at in range(0, MANY, 500):
        client.update(entities=sensors[at : at + 500], action_type="append")
    everything = client.get_entity_list()
    is_([entity.id for entity in everything], [entity.id for entity in sensors])
    is_(everything[7].model_dump(exclude_none=True), sensors[7].model_dump(exclude_none=True))
    is_(len(client.get_entity_list(limit=1_100)), 1_100)

    def ids(**parameters):
        return [int(entity.id.split(":")[1]) for entity in client.get_entity_list(**parameters)]

    is_(ids(entity_ids=["sensor:00003", "sensor:00001"]), [1, 3])
    is_(ids(id_pattern="^sensor:0000[4-6]"), [4, 5, 6])
    is_(len(ids(entity_types=["Meter"])), MANY // 5)
    is_(ids(q=QueryString(qs=[("n", ">=", 10), ("n", "<", 13)])), [10, 11, 12])
    is_(ids(q="n==3"), [3])
    is_(ids(mq=QueryString(qs=("n.side", "==", "V")), id_pattern="0000[0-3]$"), [0, 2])
    is_(ids(q="n<4", order_by="!n"), [3, 2, 1, 0])
    is_(ids(georel="near;maxDistance:2500", geometry="point", coords="0.102,2"), [10, 11, 9, 12, 8])
    is_(ids(georel="coveredBy", geometry="box", coords="0.005,1;0.035,3"), [1, 2, 3])
    shown = client.get_entity_list(id_pattern="00001$", attrs=["n"], response_format="keyValues")
    is_([entity.model_dump() for entity in shown], [{"id": "sensor:00001", "type": "Sensor", "n": 1}])

    query = Query.model_validate(
        {"entities": [{"idPattern": "sensor.*", "type": "Meter"}], "attrs": ["n"], "expression": {"q": "n<=10"}}
    )
    is_([entity.n.value for entity in client.query(query=query)], [0, 5, 10])
    is_(len(client.query(query=Query.model_validate({"entities": [{"idPattern": ".*"}]}))), MANY)
    plain = client.query(query=query, response_format="keyValues")
    is_([entity.model_dump()["n"] for entity in plain], [0, 5, 10])

    types = {item["type"]: item for item in client.get_entity_types()}
    is_({name: item["count"] for name, item in types.items()}, {"Sensor": MANY - MANY // 5, "Meter": MANY // 5})
    is_(client.get_entity_type("Meter")["attrs"]["place"]["types"], ["geo:point"])

    plain = [ContextEntityKeyValues(id="sensor:00001", type="Sensor", n=-1)]
    client.update(entities=plain, action_type="update", update_format="keyValues")
    is_(client.get_attribute_value("sensor:00001", "n"), -1)
    error = refused(404, lambda: client.update(entities=[ContextEntity(id="gone", type="T")], action_type="delete"))
    is_(error["description"], "do not exist: gone/T - [entity itself]")
    client.delete_entities(client.get_entity_list())
    is_(client.get_entity_list(), [])


def subscriptions(client, sink):
    client.post_entity(ContextEntity(id="door", type="Door", open={"value": False, "type": "Boolean"}))
    subscription = Subscription.model_validate({
        "description": "doors",
        "subject": {
            "entities": [{"idPattern": ".*", "type": "Door"}],
            "condition": {"attrs": ["open"], "expression": {"q": "open==true"}},
        },
        "notification": {"http": {"url": f"{sink.url}/doors"}, "attrs": ["open"], "metadata": ["dateCreated", "*"]},
        "expires": "2040-01-01T14:00:00.00Z",
        "throttling": 0,
    })
    created = client.post_subscription(subscription)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        is_(client.post_subscription(subscription), created)
    is_([one.id for one in client.get_subscription_list()], [created])

    client.update_attribute_value(entity_id="door", attr_name="open", value=True)
    path, headers, body = sink.next()
    message = Message.model_validate(body)
    is_((path, message.subscriptionId), ("/doors", created))
    is_((headers["Fiware-Service"], headers["Ngsiv2-AttrsFormat"]), ("filip", "normalized"))
    is_((message.data[0].id, message.data[0].open.value), ("door", True))

    shown = counted(client, created, 1)
    is_((shown.status.value, shown.notification.lastSuccessCode), ("active", 200))
    shown.notification.http.url = f"{sink.url}/again"
    client.update_subscription(shown)
    attributes = {"open": ContextAttribute(type="Boolean", value=True)}
    client.update_existing_entity_attributes("door", attributes, "Door", forcedUpdate=True)
    is_(sink.next()[0], "/again")
    counted(client, created, 2)
    shown = client.get_subscription(created)
    shown.status = "inactive"
    client.update_subscription(shown)
    is_(client.get_subscription(created).status.value, "inactive")
    client.delete_subscription(created)
    is_(refused(404, lambda: client.get_subscription(created))["error"], "NotFound")
    client.delete_entity("door", "Door")
    forward(client, message)


def counted(client, subscription, times):
    """The subscription once so many notifications are counted."""
    for _ in itertools.repeat(None, 400):
        shown = client.get_subscription(subscription)
        if (shown.notification.timesSent or 0) >= times and shown.notification.lastSuccess:
            is_(shown.notification.timesSent, times)
            return shown
        threading.Event().wait(0.05)
    raise AssertionError(f"{times} notifications are not counted in time")


def forward(client, message):
    """What was notified goes into another broker."""
    client.notify(message)
    is_(client.get_attribute_value("door", "open"), True)
    client.delete_entity("door", "Door")


def registrations(client, sink):
    registration = Registration.model_validate({
        "description": "weather",
        "dataProvided": {"entities": [{"id": "station", "type": "Station"}], "attrs": ["pressure"]},
        "provider": {"http": {"url": f"{sink.url}/v2"}, "supportedForwardingMode": "all"},
    })
    created = client.post_registration(registration)
    is_([one.id for one in client.get_registration_list()], [created])
    shown = client.get_registration(created)
    is_((shown.description, shown.dataProvided.attrs), ("weather", ["pressure"]))
    sink.provided = [
        {"id": "station", "type": "Station", "pressure": {"type": "Number", "value": 1013, "metadata": {}}}
    ]
    is_(client.get_entity("station", entity_type="Station").pressure.value, 1013)
    path, _, body = sink.next()
    is_(path, "/v2/op/query")
    is_((body["entities"][0]["id"], body["attrs"]), ("station", ["pressure"]))
    client.update_existing_entity_attributes(
        "station", {"pressure": ContextAttribute(type="Number", value=1000)}, "Station"
    )
    path, _, body = sink.next()
    is_((path, body["actionType"], body["entities"][0]["pressure"]["value"]), ("/v2/op/update", "update", 1000))
    is_(client.get_registration(created).forwardingInformation.timesSent, 2)
    client.delete_registration(created)
    is_(client.get_registration_list(), [])


def tenants(url, client):
    other = FiwareHeader(service="filip_other", service_path="/a")
    with ContextBrokerClient(url=url, fiware_header=other) as elsewhere:
        elsewhere.post_entity(ContextEntity(id="room", type="Room"))
        is_([entity.id for entity in elsewhere.get_entity_list()], ["room"])
        is_(client.get_entity_list(), [])
        elsewhere.delete_entity("room")


def main(url):
    sink = Sink()
    with ContextBrokerClient(url=url, fiware_header=FiwareHeader(service="filip", service_path="/")) as client:
        versions(client)
        entities(client)
        lists(client)
        subscriptions(client, sink)
        registrations(client, sink)
        tenants(url, client)
    sink.server.shutdown()


main(sys.argv[1])
