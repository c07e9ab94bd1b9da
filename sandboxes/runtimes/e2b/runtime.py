"""The E2B cloud as a runtime: what it takes, what runs there now, and whether its key works."""

from __future__ import annotations

import threading
import time
from typing import Any

from sandboxes.daemon import orders
from sandboxes.runtimes import (
    E2B,
    BuildRequest,
    Built,
    Held,
    InvalidRequest,
    Needs,
    OnOutput,
    OnSample,
    OnStarted,
    Opening,
    Outcome,
    Request,
    RuntimeLost,
    RuntimeUnavailable,
    SandboxGone,
    Size,
)
from sandboxes.runtimes.e2b.cloud import Cloud, Plan
from sandboxes.runtimes.e2b.run import GRACE_SECONDS, Run

# How long an answer of E2B about the key is believed, and how soon it is asked again after a bad one.
FRESH_SECONDS = 60.0
AGAIN_SECONDS = 10.0
FIRST_SECONDS = 5.0
NO_BUILDS = "Built templates run on this installation's own nodes, not at E2B."
NOTHING_KEPT = "Long-lived sandboxes are kept on this installation's own nodes, not at E2B."
NOT_YET = "E2B has not answered yet whether the key works."
COUNTS = ("starting", "ready", "running", "draining", "failed")
PROMISES = (
    "Each execution has a virtual machine of its own at E2B, destroyed after it.",
    "The program has no rights in it, a read-only system, and no network but a proxy, when it asked for one.",
    "Code, input, files and output of these executions leave this installation for E2B.",
)


class E2BRuntime:
    name = E2B

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._cloud = Cloud(plan)
        self._runs: dict[str, Run] = {}
        self._lock = threading.Lock()
        self._probe = Probe(self._cloud)

    def objections(self, needs: Needs) -> dict[str, str]:
        plan = self.plan
        longest = plan.longest_seconds - GRACE_SECONDS
        return {
            field: sentence
            for field, is_beyond, sentence in (
                ("limits.cpu", needs.limits.cpu > plan.cpus, f"A sandbox at E2B has {plan.cpus} CPUs."),
                (
                    "limits.memory_mb",
                    needs.limits.memory_mb > plan.memory_mb,
                    f"A sandbox at E2B has {plan.memory_mb} MB.",
                ),
                (
                    "timeout_seconds",
                    needs.timeout_seconds > longest,
                    f"A program at E2B may run for {longest} seconds at most.",
                ),
                ("template", bool(needs.template), NO_BUILDS),
                ("language", needs.language not in plan.templates, "There is no E2B template for this language."),
                ("network", needs.network and not plan.network, "Sandboxes have no network here."),
            )
            if is_beyond
        }

    def run(
        self, request: Request, *, on_started: OnStarted, on_output: OnOutput, on_sample: OnSample | None = None
    ) -> Outcome:
        self._check(request)
        run = Run(cloud=self._cloud, request=request)
        with self._lock:
            self._runs[request.id] = run
        try:
            return run.drive(on_started=on_started, on_output=on_output, on_sample=on_sample)
        except RuntimeUnavailable as unavailable:
            # The next one need not find out for itself.
            self._probe.learn(unavailable.reasons)
            raise
        except RuntimeLost as lost:
            if run.sandbox is None:
                self._probe.learn([str(lost)])
            raise
        finally:
            with self._lock:
                del self._runs[request.id]

    def _check(self, request: Request) -> None:
        """Raises InvalidRequest, SandboxGone."""
        if request.sandbox:
            raise SandboxGone(NOTHING_KEPT)
        fields: dict[str, object] = {
            "id": request.id,
            "language": request.language,
            "template": request.template,
            "args": list(request.args),
            "env": dict(request.env),
            "files": list(request.files),
            "timeout_seconds": request.timeout_seconds,
            "limits": request.limits.as_dict(),
            "network": request.network,
        }
        try:
            orders.read_order(fields, [request.code.encode("utf-8", "surrogatepass"), b"", *request.files.values()])
        except orders.BadOrder as problem:
            raise InvalidRequest(str(problem)) from problem
        needs = Needs(
            language=request.language,
            timeout_seconds=request.timeout_seconds,
            limits=request.limits,
            template=request.template,
            network=request.network,
        )
        objections = self.objections(needs)
        if objections:
            raise InvalidRequest(" ".join(objections.values()))

    def cancel(self, request_id: str) -> bool:
        with self._lock:
            run = self._runs.get(request_id)
        if run is None:
            return False
        run.cancel()
        return True

    def resize(self, language: str, size: Size, *, template: str = "") -> None:
        raise RuntimeUnavailable(["E2B keeps no sandboxes ready, so there is no size to take."])

    def build(self, request: BuildRequest, *, on_output: OnOutput) -> Built:
        raise RuntimeUnavailable([NO_BUILDS])

    def discard(self, address: str) -> bool:
        return False

    def open(self, opening: Opening) -> None:
        raise RuntimeUnavailable([NOTHING_KEPT])

    def extend(self, sandbox: str, seconds: float) -> None:
        raise SandboxGone(NOTHING_KEPT)

    def close(self, sandbox: str) -> bool:
        return False

    def describe(self) -> dict[str, Any]:
        reasons = self._probe.reasons()
        counts = dict.fromkeys(COUNTS, 0)
        return {
            "engine": None if reasons else "E2B virtual machines",
            "promises": list(PROMISES),
            "limits": self._limits(),
            "languages": sorted(self.plan.templates),
            "network": self.plan.network or "off",
            "probes": [{"engine": self.name, "ok": not reasons, "reasons": list(reasons)}],
            "pools": {language: counts | self._counts(language) for language in self.plan.templates},
            "pool_sizes": {},
            "templates": [],
            "builds": dict.fromkeys(self.plan.templates, NO_BUILDS),
            "kept": {"most": 0, "sandboxes": [], "ended": {}},
            "reasons": list(reasons),
            "facts": {
                "address": self.plan.address,
                **{f"template for {language}": name for language, name in self.plan.templates.items()},
            },
        }

    def _limits(self) -> dict[str, str]:
        plan = self.plan
        return {
            "memory": f"cgroup v2 in the virtual machine (else sampled), at most {plan.memory_mb} MB; more is refused",
            "processes": "cgroup v2 in the virtual machine, else RLIMIT_NPROC of the program's own user",
            "cpu": f"cgroup v2 quota in the virtual machine (else whole cores), at most {plan.cpus}; more is refused",
            "disk": "one tmpfs under /workspace, /tmp and /dev/shm; the rest is read-only; it counts as memory",
            "output": "counted in the virtual machine",
            "timeout": f"the guest's monotonic clock; E2B ends every machine after {plan.longest_seconds} s",
            "network": "none, or through the guest's proxy, as on the nodes; the proxy counts",
        }

    def _counts(self, language: str) -> dict[str, int]:
        with self._lock:
            runs = [run for run in self._runs.values() if run.request.language == language]
        running = sum(run.has_started for run in runs)
        return {"running": running, "starting": len(runs) - running}

    def held(self) -> list[Held]:
        return self._cloud.held()

    def kill(self, sandbox: str) -> bool:
        return self._cloud.kill(sandbox)


class Probe:
    """Whether the key works and the templates are there: asked once a minute, by a thread of its own."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud
        self._reasons = [NOT_YET]
        self._at = 0.0
        self._asking = threading.Lock()
        self._answered = threading.Event()

    def reasons(self) -> list[str]:
        """Why nothing would run; empty when it would. Only the first ones wait for the answer, and not for long."""
        if not self._at or time.monotonic() - self._at > (AGAIN_SECONDS if self._reasons else FRESH_SECONDS):
            self._refresh()
        self._answered.wait(FIRST_SECONDS)
        return self._reasons

    def _refresh(self) -> None:
        if self._asking.acquire(blocking=False):
            threading.Thread(target=self._ask, name="e2b-probe", daemon=True).start()

    def _ask(self) -> None:
        try:
            self._cloud.probe()
            self.learn([])
        except RuntimeUnavailable as unavailable:
            self.learn(unavailable.reasons)
        except RuntimeLost as lost:
            self.learn([str(lost)])
        finally:
            self._asking.release()

    def learn(self, reasons: list[str]) -> None:
        self._reasons, self._at = list(reasons), time.monotonic()
        self._answered.set()
