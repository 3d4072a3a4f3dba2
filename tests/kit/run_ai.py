"""A Run:ai control plane, as its public API is described: tokens, lists in pages, measurements; its faults."""

import base64
import urllib.parse
from collections import Counter
from datetime import datetime

import orjson

from openmeter_collector.api import HttpResponse


class FakeRunAi:
    """Called with a request, answers it.

    `workloads` and `pods` are rows as the API shows them; `runs` says when each was running, as pairs of
    Unix seconds. A measurement of a window has a value if its resource ran at the end of it.
    """

    def __init__(self, now):
        self.now = now
        self.workloads = []
        self.pods = []
        self.runs = {}
        self.secret = "s3cret"
        self.valid = set()
        self.lasts = 3600
        self.asked = Counter()
        self.fail = lambda path, query: None
        """Told of each request after the token was checked; an answer it returns is given."""

    def add(self, name, start, end=float("inf"), *, gpus=2, phase="Running", pods=1, **more):
        """A workload that runs from start to end."""
        self.workloads.append(
            {
                "id": name,
                "name": f"name-{name}",
                "tenantId": 7,
                "type": "Training",
                "projectId": "p1",
                "departmentId": "d1",
                "clusterId": "c1",
                "phase": phase,
                "runningPods": pods,
                "allocatedResources": {"gpu": gpus},
                "createdAt": datetime.fromtimestamp(start).astimezone().isoformat(),
                **more,
            }
        )
        self.runs[name] = (start, end, gpus)

    def add_pod(self, name, workload, start, end=float("inf"), **more):
        self.pods.append(
            {"id": name, "name": name, "workloadId": workload, "k8sPhase": "Running", **more}
        )
        self.runs[name] = (start, end, 1)

    def __call__(self, request):
        parts = urllib.parse.urlsplit(request.url)
        query = dict(urllib.parse.parse_qsl(parts.query))
        path = parts.path
        self.asked[path] += 1
        if path == "/api/v1/token":
            return self._token(request)
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if token not in self.valid:
            return HttpResponse(401, {}, b'{"code":401,"message":"unauthorized"}')
        failed = self.fail(path, query)
        if failed is not None:
            return failed
        if path == "/api/v1/workloads":
            return self._page("workloads", self._matching(query), query)
        if path == "/api/v1/workloads/pods":
            wanted = [
                one
                for one in self.pods
                if not (query.get("completed") == "false" and one.get("completedAt"))
            ]
            return self._page("pods", wanted, query)
        return self._metrics(path, query)

    def _token(self, request):
        asked = orjson.loads(request.body)
        assert asked["grantType"] == "app_token"
        if asked["AppSecret"] != self.secret:
            return HttpResponse(401, {}, b"{}")
        claims = base64.urlsafe_b64encode(orjson.dumps({"exp": self.now() + self.lasts}))
        token = f"h.{claims.decode().rstrip('=')}.{len(self.valid)}"
        self.valid.add(token)
        return _json({"accessToken": token})

    def _matching(self, query):
        phases = {
            part.removeprefix("phase!=")
            for part in query.get("filterBy", "").split(",")
            if part.startswith("phase!=")
        }
        return [one for one in self.workloads if one["phase"] not in phases]

    def _page(self, name, rows, query):
        limit, offset = int(query["limit"]), int(query["offset"])
        assert 100 <= limit <= 500
        page = rows[offset : offset + limit]
        following = offset + limit if offset + limit < len(rows) else 0
        return _json({name: page, "next": following})

    def _metrics(self, path, query):
        parts = path.split("/")
        name = parts[6] if "pods" in parts else parts[4]
        if name not in self.runs:
            return HttpResponse(404, {}, b"{}")
        kinds = query["metricType"].split(",")
        if len(kinds) > 9:
            return HttpResponse(400, {}, b'{"message":"too many metric types"}')
        assert query["numberOfSamples"] == "1"
        end = datetime.fromisoformat(query["end"]).timestamp()
        assert end > datetime.fromisoformat(query["start"]).timestamp()
        began, ended, gpus = self.runs[name]
        ran = began < end <= ended
        values = [{"value": f"{gpus}.50", "timestamp": query["end"]}] if ran else []
        return _json({"measurements": [{"type": kind, "values": values} for kind in kinds]})


def _json(value):
    return HttpResponse(200, {}, orjson.dumps(value))
