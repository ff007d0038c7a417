"""Carts and orders of one ticket through pretix's API, from several clients: `pretix_load.py URL TOKEN ITEM SECONDS`."""

import http.client
import json
import sys
import threading
import time
from urllib.parse import urlparse

url, token, item, seconds = urlparse(sys.argv[1]), sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
BASE = "/api/v1/organizers/bench/events/bench"


def clients(count, path, body):
    good, other = [0] * count, []

    def ask(me):
        connection = http.client.HTTPConnection(url.hostname, url.port)
        n = 0
        while time.monotonic() < until:
            n += 1
            headers = {"Authorization": f"Token {token}", "Content-Type": "application/json"}
            connection.request("POST", BASE + path, json.dumps(body(f"{me}-{n}-{time.time_ns()}")), headers)
            answer = connection.getresponse()
            text = answer.read()
            if answer.status == 201:
                good[me] += 1
            else:
                other.append(f"{answer.status} {text[:300]}")

    began = time.monotonic()
    until = began + seconds
    threads = [threading.Thread(target=ask, args=(me,)) for me in range(count)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    return sum(good) / (time.monotonic() - began), other


def cart(key):
    return {"cart_id": f"{key}@api", "item": item, "variation": None, "price": "10.00", "answers": []}


def order(key):
    return {
        "email": f"{key}@example.org",
        "locale": "en",
        "payment_provider": "manual",
        "positions": [{"positionid": 1, "item": item, "variation": None, "price": "10.00", "answers": []}],
    }


for name, path, body in [("carts", "/cartpositions/", cart), ("orders", "/orders/", order)]:
    for count in (2, 8):
        rate, other = clients(count, path, body)
        print(f"{name}, {count} clients: {rate:.1f} a second{'; ' + other[0] if other else ''}", flush=True)
