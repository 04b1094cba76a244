"""The recipes, as they are run where people are: web services, a task queue, cron, systemd, Kubernetes."""

from __future__ import annotations

import configparser
import importlib.util
import json
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from saga.operations import Operations
from saga.working.shift import BEAT
from tests.kit import until

RECIPES: Final = Path(__file__).parents[2] / "examples" / "recipes"
SITE: Final = RECIPES / "django_site"
WORKER: Final = [sys.executable, str(RECIPES / "worker.py")]
SITES_WORKER: Final = [sys.executable, str(SITE / "manage.py"), "saga_worker"]
(GRACE,) = map(float, re.findall(r"^GRACE = ([\d.]+)", (RECIPES / "worker.py").read_text(encoding="utf-8"), re.MULTILINE))


class Shop:
    """A place where recipes run: a folder, with a store in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = folder / "orders.db"
        paths = [str(RECIPES), str(SITE), str(folder), *filter(None, [os.environ.get("PYTHONPATH")])]
        self.environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(paths),
            "PYTHONDONTWRITEBYTECODE": "1",
            "SAGA_STORE": str(self.store),
            "SHOP_DATABASE": str(self.store),
            "DJANGO_SETTINGS_MODULE": "settings",
        }

    def run(self, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(
            command,
            cwd=self.folder,
            env={**self.environment, **environment},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def python(self, code: str) -> Any:
        """Run code; return what it prints, which is JSON."""
        ran = self.run(sys.executable, "-c", code)
        assert ran.returncode == 0, ran.stderr
        return json.loads(ran.stdout.splitlines()[-1])

    @contextmanager
    def beside(self, command: list[str], **environment: str) -> Iterator[None]:
        """Run a command until the end of the block, where it is asked to stop, and does."""
        with (self.folder / "beside.log").open("wb") as log:
            process = subprocess.Popen(
                command, cwd=self.folder, env={**self.environment, **environment}, stdout=log, stderr=log
            )
            try:
                yield
                process.terminate()
                assert process.wait(30) == 0, (self.folder / "beside.log").read_text(encoding="utf-8")
            finally:
                process.kill()
                process.wait()

    def statuses(self) -> dict[str, str]:
        return {one.saga_id: one.status for one in Operations(self.store, "a test").all()}


def needs(library: str) -> None:
    """Skip a test whose library is not installed. It is imported where the recipe is run, and not here."""
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"{library} is not installed")


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


# -- web services ----------------------------------------------------------------------------------------------------------

FASTAPI: Final = """
from fastapi.testclient import TestClient
from fastapi_app import app
with TestClient(app) as client:
    def post(id, card): return client.post("/orders", json={"order_id": id, "card": card})
    def get(id): return client.get(f"/orders/{id}")
    talk(post, get, "declined")
"""
FLASK: Final = """
from flask_app import app
client = app.test_client()
def post(id, card): return client.post("/orders", json={"order_id": id, "card": card})
def get(id): return client.get(f"/orders/{id}")
talk(post, get, "declined")
"""
DJANGO: Final = """
import django
django.setup()
from django.test import Client
client = Client()
def post(id, item): return client.post("/orders", {"number": id, "item": item})
def get(id): return client.get(f"/orders/{id}")
talk(post, get, "piano")
from shop.models import Order
assert [order.state for order in Order.objects.order_by("number")] == ["shipped", "placed"]
from django.db import connection, transaction
from shop.sagas import place_order
with transaction.atomic():
    place_order.submit({}, saga_id="A4", connection=connection.connection)
    transaction.set_rollback(True)
"""
TALK: Final = """
import json, time
def read(answer): return json.loads(answer.content if hasattr(answer, "content") else answer.text)
def talk(post, get, fails):
    def ended(id):
        while (told := read(get(id)))["status"] in ("submitted", "running", "compensating"):
            time.sleep(0.02)
        return [told["status"], told["error"]]
    answers = [post("A1", "mug"), post("A1", "mug"), post("A1", "cup"), post("A2", fails), get("A3")]
    print(json.dumps([[answer.status_code for answer in answers], ended("A1"), ended("A2")]))
"""


@pytest.mark.parametrize(
    ("library", "prepared", "worker", "client", "error"),
    [
        ("fastapi", None, None, FASTAPI, "the card was declined"),
        ("flask", None, WORKER, FLASK, "the card was declined"),
        ("django", "migrate", SITES_WORKER, DJANGO, "the pianos are sold out"),
    ],
    ids=["fastapi", "flask", "django"],
)
def test_a_web_service_submits_what_a_worker_runs(
    shop: Shop, library: str, prepared: str | None, worker: list[str] | None, client: str, error: str
) -> None:
    needs(library)
    if prepared is not None:
        ran = shop.run(sys.executable, str(SITE / "manage.py"), prepared, "--run-syncdb", "-v0")
        assert ran.returncode == 0, ran.stderr
    if worker is None:
        said = shop.python(TALK + client)
    else:
        with shop.beside(worker):
            said = shop.python(TALK + client)
    assert said == [[202, 202, 409, 202, 404], ["completed", None], ["compensated", error]]
    assert shop.statuses() == {"A1": "completed", "A2": "compensated"}


# -- a task queue ----------------------------------------------------------------------------------------------------------

QUEUE: Final = """
import pathlib, time
import celery_app
from celery_app import app, ship
folder = pathlib.Path("broker").absolute()
folder.mkdir(exist_ok=True)
app.conf.broker_url = "filesystem://"
app.conf.broker_transport_options = dict.fromkeys(["data_folder_in", "data_folder_out", "control_folder"], str(folder))
book_parcel = celery_app.book_parcel
def book(key, order_id):
    time.sleep(60.0 if order_id == "slow" else 0.0)
    return book_parcel(key, order_id)
celery_app.book_parcel = book
"""


def test_a_celery_task_that_exceeds_its_soft_limit_leaves_its_step_in_doubt_which_is_undone(shop: Shop) -> None:
    needs("celery")
    (shop.folder / "queue_here.py").write_text(QUEUE, encoding="utf-8")
    shop.python(
        "from queue_here import ship\n"
        'ship.apply_async(("slow", "4242"), soft_time_limit=1)\n'
        'ship.apply_async(("fast", "4242"))\n'
        'ship.apply_async(("fast", "4242"))\n'
        "print(1)"
    )
    options = "-c 1 --loglevel info --without-gossip --without-mingle --without-heartbeat"
    celery = [sys.executable, "-m", "celery", "-A", "queue_here", "worker", *options.split()]
    log = shop.folder / "beside.log"
    with shop.beside(celery):
        until(lambda: log.read_text(encoding="utf-8").count("succeeded in") == 3, 40)
    assert shop.statuses() == {"slow": "compensated", "fast": "completed"}
    journal = Operations(shop.store, "a test").show("slow").journal
    (failed,) = [line for line in journal if line.kind == "StepFailed"]
    assert failed.details["in_doubt"]
    assert "called back the parcel" in log.read_text(encoding="utf-8")


# -- cron ------------------------------------------------------------------------------------------------------------------

SUBMIT: Final = 'from orders import *; place_order.submit(Order("A1", {card!r}), saga_id="A1"); print(1)'
CANNOT_UNDO: Final = """
import runpy, orders
def compensate(self, context): raise OSError("the shelf is locked")
orders.ReserveStock.compensate = compensate
runpy.run_path({path!r}, run_name="__main__")
"""


def test_cron_runs_what_is_there_and_hears_of_what_is_stuck(shop: Shop) -> None:
    (line,) = [line for line in (RECIPES / "crontab").read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    script = RECIPES / line.split()[-1]
    shop.python(SUBMIT.format(card="4242"))
    ran = shop.run(sys.executable, str(script))
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "A1 completed\n", "")
    assert shop.run(sys.executable, str(script)).stdout == ""
    shop.python(SUBMIT.format(card="declined").replace("A1", "A2"))
    ran = shop.run(sys.executable, "-c", CANNOT_UNDO.format(path=str(script)))
    assert (ran.returncode, ran.stdout) == (1, "A2 stuck\n")
    assert ran.stderr == "A2 is stuck: compensation failed: ReserveStock\n"


# -- systemd ---------------------------------------------------------------------------------------------------------------


def test_systemd_takes_the_unit(shop: Shop) -> None:
    text = (RECIPES / "saga-worker.service").read_text(encoding="utf-8")
    unit = configparser.RawConfigParser(strict=False)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read_string(text)
    service = unit["Service"]
    assert service["Type"] == "notify"
    assert float(service["WatchdogSec"]) > 2 * BEAT
    assert float(service["TimeoutStopSec"]) > GRACE
    assert (RECIPES / service["ExecStart"].split()[-1]).exists()
    if shutil.which("systemd-analyze") is not None:
        there = shop.folder / "saga-worker.service"
        there.write_text(text.replace("/opt/shop/venv/bin/python", sys.executable), encoding="utf-8")
        ran = shop.run("systemd-analyze", "verify", str(there))
        assert str(there.name) not in ran.stderr, ran.stderr


def test_the_worker_tells_systemd_how_it_is(shop: Shop) -> None:
    address = shop.folder / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(address))
        systemd.settimeout(30)
        with shop.beside(WORKER, NOTIFY_SOCKET=str(address)):
            assert {systemd.recv(100), systemd.recv(100)} == {b"READY=1", b"WATCHDOG=1"}
        assert systemd.recv(100) == b"STOPPING=1"


# -- Kubernetes ------------------------------------------------------------------------------------------------------------


def test_kubernetes_asks_and_stops_what_there_is() -> None:
    yaml = pytest.importorskip("yaml")
    web = (RECIPES / "fastapi_app.py").read_text(encoding="utf-8")
    with (RECIPES / "kubernetes.yaml").open(encoding="utf-8") as manifest:
        deployments = {one["metadata"]["name"]: one["spec"]["template"] for one in yaml.safe_load_all(manifest)}
    assert set(deployments) == {"shop-web", "shop-worker"}
    for template in deployments.values():
        (container,) = template["spec"]["containers"]
        pause = float(container.get("lifecycle", {}).get("preStop", {}).get("exec", {}).get("command", [0])[-1])
        assert template["spec"]["terminationGracePeriodSeconds"] > pause + GRACE
        for probe in (container["readinessProbe"], container["livenessProbe"]):
            if "httpGet" in probe:
                assert f'@app.get("{probe["httpGet"]["path"]}")' in web
                assert probe["httpGet"]["port"] == container["ports"][0]["containerPort"]
            else:
                assert (RECIPES / probe["exec"]["command"][1]).exists()
        assert container["command"][:2] in (["uvicorn", "fastapi_app:app"], ["python", "worker.py"])
    assert "preStop" in deployments["shop-web"]["spec"]["containers"][0]["lifecycle"]


def probed(shop: Shop, **environment: str) -> list[bool]:
    probe = [sys.executable, str(RECIPES / "probe.py")]
    return [shop.run(*probe, what, **environment).returncode == 0 for what in ("ready", "live")]


def test_a_worker_is_ready_and_lives_while_it_says_so_and_is_not_killed_for_a_store_that_is_away(shop: Shop) -> None:
    with shop.beside(WORKER):
        until(lambda: probed(shop) == [True, True])
        assert probed(shop, SAGA_STORE="/nowhere/orders.db") == [False, True]
    assert probed(shop) == [False, False]


def test_what_was_never_shipped_is_not_called_back(tmp_path: Path) -> None:
    pytest.importorskip("django", reason="django is not installed")
    code = """
import json
import django
django.setup()
from django.core.management import call_command
from saga.testing import explore, replay
from shop.models import Order
from shop.sagas import place_order
call_command("migrate", run_syncdb=True, verbosity=0)

class World:
    def __init__(self):
        Order.objects.all().delete()
        Order.objects.create(number="A1", item="mug")
    def state(self):
        return {"shipped": Order.objects.filter(state="shipped").exists()}

given = {"number": "A1", "item": "mug"}
histories = explore(place_order, given, world=World).count
late = [("ShipOrder", "dies before"), ("ShipOrder", "fails", 2)]
replay(place_order, late, given, world=World)
print(json.dumps([histories, Order.objects.get().state]))
"""
    histories, state = Shop(tmp_path).python(code)
    assert histories > 1
    assert state == "placed"
