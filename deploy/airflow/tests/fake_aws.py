"""An AWS that answers ECS RunTask, ListTasks, DescribeTasks, StopTask and SNS Publish over HTTP.

The real boto3 clients talk to it, so requests are checked against AWS's own service model before they leave,
and answers are parsed by it. Exit codes of the tasks are set beforehand; what was asked is kept.
"""

from __future__ import annotations

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import parse_qs

PUBLISHED = (
    '<PublishResponse xmlns="http://sns.amazonaws.com/doc/2010-03-31/"><PublishResult><MessageId>1</MessageId>'
    "</PublishResult><ResponseMetadata><RequestId>1</RequestId></ResponseMetadata></PublishResponse>"
)


class FakeAws:
    """Started on a free port; ``url`` goes into AWS_ENDPOINT_URL."""

    def __init__(self) -> None:
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                target = self.headers.get("X-Amz-Target")
                fake.agents.append(self.headers.get("User-Agent", ""))
                status, kind, answer = 200, "application/x-amz-json-1.1", b"{}"
                if target:
                    answer = json.dumps(fake.ecs(target.split(".")[-1], json.loads(body))).encode()
                elif self.path.startswith("/webhook"):
                    fake.webhooks.append(json.loads(body))
                else:
                    fake.published.append({k: v[0] for k, v in parse_qs(body.decode()).items()})
                    kind, answer = "text/xml", PUBLISHED.encode()
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: Any) -> None:
                pass

        self.reset()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        Thread(target=self.server.serve_forever, daemon=True).start()

    def reset(self) -> None:
        self.exit_codes: list[int] = []  # of the next tasks; 0 when used up
        self.still_running: list[str] = []  # what ListTasks answers
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.agents: list[str] = []  # which clients asked
        self.tasks: dict[str, int] = {}
        self.published: list[dict[str, str]] = []
        self.webhooks: list[dict[str, Any]] = []

    def ecs(self, action: str, request: dict[str, Any]) -> dict[str, Any]:
        self.calls.append((action, request))
        match action:
            case "RunTask":
                arn = f"arn:aws:ecs:eu-west-1:123456789012:task/tessera/{len(self.tasks):032x}"
                self.tasks[arn] = self.exit_codes.pop(0) if self.exit_codes else 0
                return {"tasks": [{"taskArn": arn, "lastStatus": "PROVISIONING", "containers": []}], "failures": []}
            case "ListTasks":
                return {"taskArns": self.still_running}
            case "DescribeTasks":
                return {"tasks": [self.describe(arn) for arn in request["tasks"]], "failures": []}
            case _:
                return {}

    def describe(self, arn: str) -> dict[str, Any]:
        code = self.tasks.get(arn, 0)
        container = {"name": "tessera", "lastStatus": "STOPPED", "exitCode": code}
        return {"taskArn": arn, "lastStatus": "STOPPED", "stopCode": "EssentialContainerExited", "containers": [container]}

    def asked(self, action: str) -> list[dict[str, Any]]:
        return [request for name, request in self.calls if name == action]

    def environments(self) -> list[dict[str, str]]:
        """The environment of each task that was started, in order."""
        found = []
        for request in self.asked("RunTask"):
            (override,) = request["overrides"]["containerOverrides"]
            assert override["name"] == "tessera"
            found.append({pair["name"]: pair["value"] for pair in override["environment"]})
        return found
