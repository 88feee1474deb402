"""paho-python as a counterpart of the interop matrix: commands come on standard
input and answers go to standard output, one JSON object a line. See
counterpart_test.go for what they hold."""

import base64
import hashlib
import json
import platform
import socket
import sys
import threading
import time

import paho.mqtt
import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

PATIENCE = 60  # seconds for an answer of the server, used up by failures only
clients = {}
output = threading.Lock()


def say(line):
    with output:
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()


def payload(size, utf8):
    """What payloadOf in the tests makes of a size."""
    block = bytes(range(32, 127)) if utf8 else bytes(range(251))
    return (block * (size // len(block) + 1))[:size]


def received(name, m):
    p = m.properties
    correlation = getattr(p, "CorrelationData", None)
    say({"client": name, "message": {
        "topic": m.topic, "qos": m.qos, "retain": bool(m.retain), "dup": bool(m.dup),
        "size": len(m.payload), "sha256": hashlib.sha256(m.payload).hexdigest(),
        "utf8": getattr(p, "PayloadFormatIndicator", 0) == 1,
        "expiry": getattr(p, "MessageExpiryInterval", 0),
        "contentType": getattr(p, "ContentType", ""),
        "responseTopic": getattr(p, "ResponseTopic", ""),
        "correlation": None if correlation is None else base64.b64encode(correlation).decode(),
        "user": getattr(p, "UserProperty", []),
        "subscriptionIds": getattr(p, "SubscriptionIdentifier", []),
    }})


class Client:
    def __init__(self, c):
        self.change = threading.Condition()
        self.connected = None  # the CONNACK's reason code
        self.gone = None       # why the connection ended
        self.granted = {}      # by packet identifier
        old = getattr(mqtt, "CallbackAPIVersion", None)
        args = [old.VERSION1] if old else []  # paho 2 asks which callbacks are meant
        self.paho = mqtt.Client(*args, client_id=c["client"], protocol=mqtt.MQTTv5, reconnect_on_failure=False)
        self.paho.on_connect = lambda _c, _u, _f, code, *_: self.note(connected=getattr(code, "value", code))
        self.paho.on_disconnect = lambda _c, _u, code, *_: self.note(gone=str(code))
        self.paho.on_message = lambda _c, _u, m: received(c["client"], m)
        self.paho.on_subscribe = self.on_subscribe
        p = Properties(PacketTypes.CONNECT)
        if c["topicAliasMaximum"]:
            p.TopicAliasMaximum = c["topicAliasMaximum"]
        if c["maximumPacketSize"]:
            p.MaximumPacketSize = c["maximumPacketSize"]
        self.paho.connect(c["host"], c["port"], clean_start=True, properties=p)
        self.paho.loop_start()
        self.wait("CONNACK", lambda: self.connected is not None)
        if self.connected:
            raise RuntimeError("CONNACK 0x%x" % self.connected)
        self.paho.socket().setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def note(self, **what):
        with self.change:
            self.__dict__.update(what)
            self.change.notify_all()

    def on_subscribe(self, _client, _userdata, mid, codes, *_):
        with self.change:
            self.granted[mid] = codes
            self.change.notify_all()

    def wait(self, what, done):
        with self.change:
            if not self.change.wait_for(lambda: done() or self.gone is not None, PATIENCE):
                raise RuntimeError("waited too long for " + what)
            if not done():
                raise RuntimeError("the connection is closed: " + self.gone)

    def subscribe(self, c):
        p = Properties(PacketTypes.SUBSCRIBE)
        if c["subscriptionId"]:
            p.SubscriptionIdentifier = c["subscriptionId"]
        options = SubscribeOptions(qos=c["qos"], retainAsPublished=c["retainAsPublished"])
        result, mid = self.paho.subscribe(c["filter"], options=options, properties=p)
        if result != mqtt.MQTT_ERR_SUCCESS:
            raise RuntimeError(mqtt.error_string(result))
        self.wait("SUBACK", lambda: mid in self.granted)
        for code in self.granted[mid]:
            if code.value >= 0x80:
                raise RuntimeError("SUBACK 0x%x" % code.value)

    def publish(self, c):
        sent = [self.paho.publish(m["topic"], payload(m["size"], m["utf8"]), m["qos"], m["retain"], properties(m))
                for m in c["messages"]]
        end = time.monotonic() + PATIENCE
        for info in sent:
            while not info.is_published():
                info.wait_for_publish(0.2)
                if not info.is_published() and self.gone is not None:
                    raise RuntimeError("the connection is closed: " + self.gone)
                if time.monotonic() > end:
                    raise RuntimeError("waited too long for an acknowledgement")

    def end(self, _):
        self.paho.disconnect()
        self.paho.loop_stop()


def properties(m):
    p = Properties(PacketTypes.PUBLISH)
    if m["utf8"]:
        p.PayloadFormatIndicator = 1
    if m["expiry"]:
        p.MessageExpiryInterval = m["expiry"]
    if m["contentType"]:
        p.ContentType = m["contentType"]
    if m["responseTopic"]:
        p.ResponseTopic = m["responseTopic"]
    if m["correlation"] is not None:
        p.CorrelationData = base64.b64decode(m["correlation"])
    if m["alias"]:
        p.TopicAlias = m["alias"]
    if m["user"]:
        p.UserProperty = [tuple(pair) for pair in m["user"]]
    return p


def run(c):
    answer = {"id": c["id"]}
    try:
        if c["do"] == "connect":
            clients[c["client"]] = Client(c)
        elif c["do"] == "end":
            clients.pop(c["client"]).end(c)
        else:
            getattr(clients[c["client"]], c["do"])(c)
    except Exception as e:  # the test judges it
        answer["error"] = str(e) or repr(e)
    say(answer)


version = getattr(paho.mqtt, "__version__", "?")
say({"hello": "paho-python %s on Python %s" % (version, platform.python_version())})
for line in sys.stdin:
    run(json.loads(line))
