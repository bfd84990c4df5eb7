"""What is asked of Studio, one method for each question; every failure of the cloud is one StudioError.

By Edge Impulse's own ``edgeimpulse`` (client, project, devices, targets) and ``edgeimpulse_api`` (the rest). Jobs are
waited for here and not by the SDK's ``poll``: that one has no deadline by itself and takes a job that failed for one
that is done.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from appliance.errors import ConfigError, StudioError
from appliance.vision import ResizeMode
from server.config import StudioSettings

T = TypeVar("T")

_LOCK = Path(__file__).resolve().parents[2] / "locks" / "studio.txt"
_TIMES_S = (10.0, 120.0)  # to connect, and between two pieces of an answer
_RESIZE_MODES: Mapping[ResizeMode, str] = {"squash": "squash", "fit-shortest": "fit-short", "fit-longest": "fit-long"}
_LAST_LINES = 5
_SAID = 300  # characters of what Studio says
_UNCHANGED = "Nothing was changed here: nights, versions and cameras go on as before"


@dataclass(frozen=True)
class Estimate:
    """What Studio expects of a device; None for what it doesn't say.

    Attributes:
        ram_bytes: Of the model at work.
        rom_bytes: Of the model as stored.
        inference_ms: For one picture.
        problem: Why there are no figures; empty where there are.
    """

    ram_bytes: int | None
    rom_bytes: int | None
    inference_ms: int | None
    problem: str = ""


@dataclass(frozen=True)
class Tested:
    """What Studio's model testing came to.

    Attributes:
        right: Pictures named right.
        pictures: All of them.
        confusion: Share of a true label's pictures, 0 to 1, by true and then by said label.
    """

    right: int
    pictures: int
    confusion: Mapping[str, Mapping[str, float]]


class Cloud:
    """A project in Studio.

    Args:
        key: Its API key.
        settings: Where Studio is, and how long its jobs may take.
        pause_s: Between two looks at a job.

    Raises:
        ConfigError: The ``studio`` extra is not installed.
        StudioError: Studio can't be reached, or doesn't know the key.
    """

    def __init__(self, key: str, settings: StudioSettings, *, pause_s: float = 1.0) -> None:
        try:
            with _hidden("tensorflow", "keras", "onnx", "pandas"):
                import edgeimpulse.util as sdk
                import edgeimpulse_api as api
            import urllib3
        except ImportError as error:
            raise ConfigError(
                f"Edge Impulse's SDK is not installed ({error})",
                means="Studio can't be asked",
                do=f"Run: {sys.executable} -m pip install --no-deps --require-hashes -r {_LOCK}",
            ) from error
        self._sdk, self._api, self._key, self._settings, self._pause_s = sdk, api, key, settings, pause_s
        self._client: Any = sdk.configure_generic_client(key=key, host=settings.endpoint)
        # Redirects would take the key elsewhere, and a Retry-After could make us wait for as long as it says.
        self._client.configuration.retries = urllib3.Retry(
            total=1, redirect=0, status=0, respect_retry_after_header=False
        )
        self._client.rest_client = type(self._client.rest_client)(self._client.configuration)
        projects = self._ask("its project", api.ProjectsApi(self._client).list_projects).projects
        if len(projects) != 1:
            raise StudioError(
                f"The key opens {len(projects)} projects, not one", means=_UNCHANGED, do="Use a project's own API key"
            )
        self._project: int = projects[0].id
        self.name: str = f"{projects[0].owner} / {projects[0].name}"

    def devices(self) -> list[str]:
        """Names of the devices that it can estimate for."""
        info = self._ask("its devices", self._api.ProjectsApi(self._client).get_project_info, self._project)
        return [device.mcu for device in info.latency_devices]

    def targets(self) -> list[str]:
        """Names of what it can build."""
        listed = self._api.DeploymentApi(self._client).list_deployment_targets_for_project_data_sources
        return [target.format for target in self._ask("its targets", listed, self._project).targets]

    def upload(
        self, model: Path, labels: Sequence[str], *, resize_mode: ResizeMode = "fit-shortest", device: str | None = None
    ) -> None:
        """Give it a .tflite, as an image classifier of pixels 0 to 255 with these labels.

        Args:
            model: The file.
            labels: In the order of its outputs.
            resize_mode: How frames become its input.
            device: To estimate for.
        """
        learn = self._api.LearnApi(self._client)
        self._job(
            "reading the model",
            lambda **how: learn.upload_pretrained_model(
                self._project, str(model), model.name, "tflite", device=device, **how
            ),
        )
        answer = self._ask("the model it has read", learn.get_pretrained_model_info, self._project)
        outputs = answer.model.outputs if answer.model else []
        if len(outputs) != 1 or list(outputs[0].shape)[1:] != [len(labels)]:
            raise StudioError("Studio read another model than was sent", means=_UNCHANGED, do="Try again")
        wanted = {
            "input": {"inputType": "image", "inputScaling": "0..255", "resizeMode": _RESIZE_MODES[resize_mode]},
            "model": {"modelType": "classification", "labels": list(labels)},
        }
        request = self._api.SavePretrainedModelRequest.from_dict(wanted)
        self._ask("the model's settings", learn.save_pretrained_model_parameters, self._project, request)

    def profile(self) -> dict[str, Estimate]:
        """What the uploaded model takes on the device that it was uploaded for, by precision."""
        learn = self._api.LearnApi(self._client)
        self._job("profiling", lambda **how: learn.profile_pretrained_model(self._project, **how))
        model = self._ask("the profile", learn.get_pretrained_model_info, self._project).model
        info = model.profile_info if model else None
        found = {name: getattr(info, name, None) for name in ("float32", "int8")}
        if not any(found.values()):
            raise StudioError("Studio's profile has no figures", means=_UNCHANGED, do="Try again, or another --device")
        return {name: _estimate(one) for name, one in found.items() if one}

    def build(self, target: str) -> bytes:
        """An .eim of the uploaded model, float32."""
        jobs, deployment = self._api.JobsApi(self._client), self._api.DeploymentApi(self._client)
        request = self._api.BuildOnDeviceModelRequest.from_dict({"engine": "tflite", "modelType": "float32"})
        self._job(
            f"building {target}",
            lambda **how: jobs.build_on_device_model_job(self._project, target, request, **how),
        )

        def fetch(**how: Any) -> Any:
            return deployment.download_build(
                self._project, target, model_type="float32", engine="tflite", _preload_content=False, **how
            )

        what = f"the build for {target}"
        answer = self._ask(what, fetch)
        data = bytes(self._ask(what, lambda **_: answer.data))
        if "Content-Length" not in answer.headers and "chunked" not in answer.headers.get("Transfer-Encoding", ""):
            raise StudioError(
                f"Studio didn't say how long {what} is", means=f"It may be cut. {_UNCHANGED}", do="Try again"
            )
        return data

    def send_test(self, name: str, label: str, jpeg: bytes) -> None:
        """Give it a test picture; one that it has already stays there once."""
        import requests

        def post(**_: Any) -> Any:
            answer = requests.post(
                f"{self._settings.ingestion}/api/testing/files",
                headers={"x-api-key": self._key, "x-label": label, "x-disallow-duplicates": "1"},
                files={"data": (name, jpeg, "image/jpeg")},
                timeout=_TIMES_S,
                allow_redirects=False,  # they would take the key elsewhere
            )
            answer.raise_for_status()
            if answer.is_redirect:
                raise requests.TooManyRedirects
            for file in json.loads(answer.content)["files"]:
                said = str(file.get("error", ""))
                if not file["success"] and "duplicate" not in said.lower():
                    raise Exception(said)  # as the API package tells a refusal
            return answer

        self._ask(f"test picture {name}", post)

    def test(self) -> Tested:
        """Run its model testing on all test pictures, float32."""
        request = self._api.StartClassifyJobRequest.from_dict({"modelVariants": ["float32"]})
        jobs = self._api.JobsApi(self._client)
        self._job("model testing", lambda **how: jobs.start_classify_job(self._project, request, **how))
        classify = self._api.ClassifyApi(self._client)
        answer = self._ask(
            "its model testing", lambda **how: classify.get_classify_job_result(self._project, variant="float32", **how)
        )
        total = answer.accuracy.total_summary
        if min(total.good, total.bad) < 0 or not total.good + total.bad:
            raise StudioError(
                "Studio's model testing has no pictures",
                means=_UNCHANGED,
                do="Look at the project's test data in Studio",
            )
        return Tested(total.good, total.good + total.bad, answer.accuracy.confusion_matrix_values)

    # How it is asked

    def _job(self, what: str, start: Callable[..., Any]) -> None:
        """Start a job and wait for its good end."""
        job = self._ask(what, start).id
        jobs = self._api.JobsApi(self._client)
        ends = time.monotonic() + self._settings.job_deadline_s

        def cancel() -> None:
            self._ask(what, lambda **how: jobs.cancel_job(self._project, job, force_cancel="true", **how))

        while True:
            try:
                state = self._ask(what, jobs.get_job_status, self._project, job).job
                if state.finished:
                    break
                time.sleep(self._pause_s)
            except KeyboardInterrupt:
                cancel()
                raise
            if time.monotonic() > ends:
                cancel()
                raise StudioError(
                    f"Studio's job ({what}) was not done within {self._settings.job_deadline_s:g} s and was cancelled",
                    means=_UNCHANGED,
                    do="Try again later, or raise studio.job_deadline_s",
                )
        if not state.finished_successful:
            lines = self._ask(what, jobs.get_jobs_logs, self._project, job).stdout
            last = " / ".join(line.data.strip() for line in lines[-_LAST_LINES:] if line.data.strip())
            raise StudioError(
                f"Studio's job ({what}) failed: {last[-_SAID:] or 'it left no log'}",
                means=_UNCHANGED,
                do="Look at the project's jobs in Studio",
            )

    def _ask(self, what: str, question: Callable[..., T], *given: Any) -> T:
        import requests
        import urllib3
        from pydantic.v1 import ValidationError

        how: dict[str, Any] = {"_request_timeout": _TIMES_S}
        try:
            answer = question(*given, **how)
        except self._api.exceptions.ApiException as error:
            raise self._refused(what, error.status or 0, error.body or error.reason) from error
        except requests.HTTPError as error:
            response = error.response
            raise self._refused(what, response.status_code if response is not None else 0, str(error)) from error
        except (urllib3.exceptions.HTTPError, requests.RequestException, OSError) as error:
            if not _broken_off(error):
                raise StudioError(
                    f"Studio can't be reached ({what}: {type(error).__name__})",
                    means=_UNCHANGED,
                    do="Check this server's way to the internet, and try again",
                ) from error
            raise StudioError(f"Studio broke off in the middle ({what})", means=_UNCHANGED, do="Try again") from error
        except (ValidationError, ValueError, TypeError, AttributeError, LookupError) as error:
            raise StudioError(
                f"Studio's answer can't be understood ({what}: {type(error).__name__})",
                means=_UNCHANGED,
                do="Try again; if it stays so, Studio has changed and Sitecam's edgeimpulse extra is too old",
            ) from error
        except Exception as error:
            if type(error) is not Exception:  # the API package raises a plain one for a refusal with status 200
                raise
            raise self._refused(what, 200, str(error)) from error
        return answer

    def _refused(self, what: str, status: int, said: Any) -> StudioError:
        advice = {
            401: "Check the API key in studio.key_file: Studio doesn't take it",
            403: "Check that the API key may do this (Studio, Dashboard, Keys)",
            429: "The project's quota or rate is used up: wait, or look at its plan",
        }
        do = advice.get(status, "Try again later" if status >= 500 else "")
        return StudioError(f"Studio refused with {status} ({what}): {self._said(said)}", means=_UNCHANGED, do=do)

    def _said(self, said: Any) -> str:
        text = said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said or "no reason given")
        return " ".join(text.replace(self._key, "(the key)").split())[:_SAID]


@contextmanager
def _hidden(*modules: str) -> Iterator[None]:
    """The SDK imports these where they are, for models that it is never given here: 5 s and half a gigabyte."""
    shown = {name: sys.modules[name] for name in modules if name in sys.modules}
    sys.modules.update(dict.fromkeys(modules))  # type: ignore[arg-type]  # None: it can't be imported
    try:
        yield
    finally:
        for name in modules:
            del sys.modules[name]
        sys.modules.update(shown)


def _broken_off(error: BaseException) -> bool:
    """Whether it had begun to answer; a retry hides that in its reason."""
    import requests
    import urllib3

    cause = getattr(error, "reason", None) or error
    return isinstance(cause, urllib3.exceptions.ProtocolError | requests.exceptions.ChunkedEncodingError)


def _estimate(info: Any) -> Estimate:
    memory = info.memory.tflite if info.memory else None
    problem = info.profiling_error or info.mcu_support_error or ""
    return Estimate(
        memory.ram if memory else None,
        memory.rom if memory else info.tflite_file_size_bytes,
        info.time_per_inference_ms,
        "" if info.has_performance else problem or "Studio has no figures for it",
    )
