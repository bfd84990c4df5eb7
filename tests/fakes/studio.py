"""Plays Edge Impulse Studio and its ingestion service on loopback, by the API package's own models.

Every request body is read by the model that the interface's description gives it, every answer is written by one; what
a test doesn't ask for is filled with the least that the model allows. Faults are put in by path.
"""

from __future__ import annotations

import email
import json
import re
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from enum import Enum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from pydantic.v1 import BaseModel, ValidationError

KEY = "ei_0123456789abcdef"
PROJECT = 77
TARGETS = ("zip", "runner-linux-aarch64", "runner-linux-armv7", "runner-linux-x86_64")
DEVICES = ("cortex-m4f-80mhz", "raspberry-pi-4", "raspberry-pi-5")
_ELF = {"runner-linux-aarch64": 183, "runner-linux-armv7": 40, "runner-linux-x86_64": 62}


def eim_for(target: str) -> bytes:
    """What a build gives: an ELF header for the right processor, and 20 kB of nothing."""
    return b"\x7fELF\x02\x01\x01" + bytes(11) + _ELF[target].to_bytes(2, "little") + bytes(20_000)


def least(model: type[BaseModel], /, **given: Any) -> Any:
    """An instance with these values, and the least that the model allows elsewhere."""
    values = {
        field.alias: given.get(name, given.get(field.alias, _least_of(field)))
        for name, field in model.__fields__.items()
        if field.required or name in given or field.alias in given
    }
    try:
        return model.parse_obj(values)
    except ValidationError as error:  # a text that must be one of some: the message names them
        for one in error.errors():
            choices = re.findall(r"'([^']*)'", one["msg"])
            values[str(one["loc"][0])] = choices[0]
        return model.parse_obj(values)


def _least_of(field: Any) -> Any:
    if field.allow_none:
        return None
    if field.shape != 1:  # a list or a mapping
        return {} if "Dict" in str(field.outer_type_) or "Mapping" in str(field.outer_type_) else []
    kind = field.type_
    if issubclass(kind, BaseModel):
        return json.loads(least(kind).json(by_alias=True))
    if issubclass(kind, Enum):
        return next(iter(kind)).value
    if issubclass(kind, bool) or "Bool" in kind.__name__:
        return False
    if issubclass(kind, datetime):
        return datetime.now(UTC).isoformat()
    return 0 if issubclass(kind, int) else 0.0 if issubclass(kind, float) else ""


class FakeStudio:
    """A project that is asked over HTTP.

    Attributes:
        faults: By the end of a path: a status, or "half", "rubbish", "hang up", "refused" (with status 200), "cut"
            (half, and no length told), "elsewhere" (a redirect).
        failing: Jobs of these kinds end badly: upload, profile, build, classify.
        endless: Jobs of these kinds never end.
        model: The .tflite it was given; settings, device likewise.
        samples: Test pictures by name: label and bytes.
        cancelled: Jobs that were.
        picky: It refuses every test picture, with status 200.
        no_pictures: Its model testing finds none.
        unknown: Requests that no route took: a test looks that there are none.
    """

    def __init__(self, labels: tuple[str, ...]) -> None:
        self.labels = labels
        self.faults: dict[str, int | str] = {}
        self.failing: set[str] = set()
        self.endless: set[str] = set()
        self.model, self.settings, self.device = b"", {}, ""  # type: bytes, dict[str, Any], str
        self.samples: dict[str, tuple[str, bytes]] = {}
        self.built: list[str] = []
        self.cancelled: list[int] = []
        self.picky = False
        self.no_pictures = False
        self.unknown: list[str] = []
        self._jobs: list[tuple[str, Callable[[], None]]] = []
        studio = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None:
                pass

            def do_GET(self) -> None:
                studio._serve(self, b"")

            def do_POST(self) -> None:
                studio._serve(self, self.rfile.read(int(self.headers.get("Content-Length", 0))))

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _serve(self, request: BaseHTTPRequestHandler, body: bytes) -> None:
        path, _, query = request.path.partition("?")
        fault = next((fault for end, fault in self.faults.items() if path.endswith(end)), None)
        if fault == "hang up":
            request.close_connection = True
            request.connection.close()
            return
        if isinstance(fault, int):
            self._send(request, fault, json.dumps({"success": False, "error": f"no, because of {KEY}"}).encode())
            return
        if request.headers.get("x-api-key") != KEY:
            self._send(request, 401, b'{"success": false, "error": "Invalid API key"}')
            return
        if fault == "refused":
            self._send(request, 200, json.dumps({"success": False, "error": f"not today, {KEY}"}).encode())
            return
        if fault == "elsewhere":
            request.send_response(302)
            request.send_header("Location", f"{self.url}/elsewhere")
            request.send_header("Content-Length", "0")
            request.end_headers()
            return
        if fault == "rubbish":
            self._send(request, 200, b'{"success": true, "odd": [1')
            return
        answer = self._answer(path, query, request, body)
        if answer is None:
            self.unknown.append(request.path)
            self._send(request, 404, b'{"success": false, "error": "no such route"}')
            return
        data = answer if isinstance(answer, bytes) else answer.json(by_alias=True).encode()
        if fault == "cut":
            request.send_response(200)
            request.end_headers()
            request.wfile.write(data[: len(data) // 2])
            request.close_connection = True
            return
        self._send(request, 200, data, half=fault == "half", binary=isinstance(answer, bytes))

    def _send(
        self, request: BaseHTTPRequestHandler, status: int, data: bytes, *, half: bool = False, binary: bool = False
    ) -> None:
        request.send_response(status)
        request.send_header("Content-Type", "application/octet-stream" if binary else "application/json")
        request.send_header("Content-Length", str(len(data)))
        request.end_headers()
        request.wfile.write(data[: len(data) // 2] if half else data)
        if half:
            request.close_connection = True

    def _answer(self, path: str, query: str, request: BaseHTTPRequestHandler, body: bytes) -> Any:  # noqa: C901  # routes
        import edgeimpulse_api as api

        if path == "/api/testing/files":
            ((name, data),) = _files(request, body)
            assert request.headers["x-disallow-duplicates"] == "1"
            known = name in self.samples
            self.samples[name] = (request.headers["x-label"], data)
            told = {"success": not known and not self.picky, "error": "Duplicate" if known else "too dark"}
            return json.dumps({"success": True, "files": [told if known or self.picky else {"success": True}]}).encode()
        base = f"/v1/api/{PROJECT}"
        match path.removeprefix(base) if path.startswith(base) else path:
            case "/v1/api/projects":
                return least(api.ListProjectsResponse, success=True, projects=[self._project()])
            case "":
                devices = [json.loads(least(api.LatencyDevice, mcu=mcu).json(by_alias=True)) for mcu in DEVICES]
                return least(api.ProjectInfoResponse, success=True, latency_devices=devices, project=self._project())
            case "/deployment/targets/data-sources":
                targets = [json.loads(least(api.DeploymentTarget, format=name).json(by_alias=True)) for name in TARGETS]
                return least(api.DeploymentTargetsResponse, success=True, targets=targets)
            case "/pretrained-model/upload":
                return self._upload(request, body)
            case "/pretrained-model":
                return self._pretrained()
            case "/pretrained-model/save":
                self.settings = json.loads(body)
                api.SavePretrainedModelRequest.from_dict(self.settings)
                return least(api.GenericApiResponse, success=True)
            case "/pretrained-model/profile":
                return self._job("profile", lambda: None)
            case "/jobs/build-ondevice-model":
                target = query.partition("type=")[2].partition("&")[0]
                asked = api.BuildOnDeviceModelRequest.parse_raw(body)
                assert (asked.engine, asked.model_type) == ("tflite", "float32")
                return self._job("build", lambda: self.built.append(target))
            case "/deployment/download":
                target = query.partition("type=")[2].partition("&")[0]
                return eim_for(target) if target in self.built else None
            case "/jobs/evaluate" | "/jobs/classify":
                api.StartClassifyJobRequest.parse_raw(body)
                return self._job("classify", lambda: None)
            case "/classify/all/result":
                return self._tested()
            case rest if rest.startswith("/jobs/"):
                return self._look(*rest.removeprefix("/jobs/").split("/"))
        return None

    def _project(self) -> dict[str, Any]:
        import edgeimpulse_api as api

        project = least(api.Project, id=PROJECT, owner="Site", name="Hardhats")
        return dict(json.loads(project.json(by_alias=True)))

    def _upload(self, request: BaseHTTPRequestHandler, body: bytes) -> Any:
        fields = dict(_fields(request, body))
        assert fields["modelFileType"] == b"tflite"
        self.device = fields.get("device", b"").decode()

        def take() -> None:
            self.model = fields["modelFile"]

        return self._job("upload", take)

    def _pretrained(self) -> Any:
        import edgeimpulse_api as api

        tensor = {"dataType": "float32", "name": "t"}
        info = least(
            api.ProfileModelInfo,
            variant="float32",
            device=self.device,
            tflite_file_size_bytes=len(self.model),
            has_performance=True,
            time_per_inference_ms=21,
            memory={"tflite": {"ram": 4_000_000, "rom": 9_000_000, "arenaSize": 3_000_000}},
        )
        missing = least(
            api.ProfileModelInfo, variant="int8", device=self.device, has_performance=False, profiling_error="no int8"
        )
        model = {
            "fileName": "m.tflite",
            "inputs": [{**tensor, "shape": [1, 32, 32, 3]}],
            "outputs": [{**tensor, "shape": [1, len(self.labels)]}],
            "profileInfo": {
                "float32": json.loads(info.json(by_alias=True)),
                "int8": json.loads(missing.json(by_alias=True)),
                "table": json.loads(least(api.ProfileModelTable).json(by_alias=True)),
            },
        }
        held = {"model": model} if self.model else {}
        return least(api.GetPretrainedModelResponse, success=True, available_model_types=["float32"], **held)

    def _tested(self) -> Any:
        import edgeimpulse_api as api

        right, wrong = (0, 0) if self.no_pictures else (len(self.samples) - 1, 1)
        matrix = {label: {label: 1.0} for label in self.labels}
        accuracy = {
            "totalSummary": {"good": right, "bad": wrong},
            "summaryPerClass": {},
            "confusionMatrixValues": matrix,
            "allLabels": list(self.labels),
        }
        return least(api.ClassifyJobResponse, success=True, accuracy=accuracy)

    def _job(self, kind: str, done: Callable[[], None]) -> Any:
        import edgeimpulse_api as api

        self._jobs.append((kind, done))
        return least(api.StartJobResponse, success=True, id=len(self._jobs))

    def _look(self, number: str, what: str) -> Any:
        import edgeimpulse_api as api

        kind, done = self._jobs[int(number) - 1]
        if what == "cancel":
            self.cancelled.append(int(number))
            return least(api.GenericApiResponse, success=True)
        if what == "stdout":
            now = datetime.now(UTC).isoformat()
            lines = [{"created": now, "data": f"{kind}: out of luck"}]
            return least(api.LogStdoutResponse, success=True, stdout=lines)
        if what != "status":
            return None
        ended, good = kind not in self.endless, kind not in self.failing
        if ended and good:
            done()
        more = {"finished": datetime.now(UTC).isoformat(), "finished_successful": good} if ended else {}
        job = json.loads(least(api.Job, id=int(number), **more).json(by_alias=True))
        return least(api.GetJobResponse, success=True, job=job)


def _parts(request: BaseHTTPRequestHandler, body: bytes) -> list[Any]:
    head = f"Content-Type: {request.headers['Content-Type']}\r\n\r\n".encode()
    return list(email.message_from_bytes(head + body).get_payload())


def _fields(request: BaseHTTPRequestHandler, body: bytes) -> list[tuple[str, bytes]]:
    return [
        (str(part.get_param("name", header="content-disposition")), part.get_payload(decode=True))
        for part in _parts(request, body)
    ]


def _files(request: BaseHTTPRequestHandler, body: bytes) -> list[tuple[str, bytes]]:
    return [(str(part.get_filename()), part.get_payload(decode=True)) for part in _parts(request, body)]
