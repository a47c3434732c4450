"""Ray: actors on this machine or on a cluster do pieces, each on a bench of its own.

An actor has one accelerator, where the search runs on one, or as many cores as this
process has threads. Checkpoints are mapped files: of all actors of a node the first
reads them from the disk, and the node's page cache has them for the others. A bank is
made by all together that share its folder; a node that shares none makes its own.
"""

from __future__ import annotations

import logging
import os
import socket
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from secrets import token_hex
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from allocator.core.errors import SpecError, reason
from allocator.core.study import StudySpec
from allocator.core.watch import Silent
from allocator.search.crew.leading import pieces_of
from allocator.search.crew.serving import FAILURES, answer
from allocator.search.engines._actors import Actors, Seat

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from allocator.bench.pieces import Pieces
    from allocator.bench.prepare import Setup
    from allocator.core.watch import Watch
    from allocator.search.crew.crew import Source
    from allocator.study.journal import Journal

PIP = 'pip install "allocate-vlm[ray]"'
# of Ray's processes nobody is told, least of all its makers; what it prints by itself
# goes through its filter of equal lines, which can drop all of them
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS": "1",
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".*",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
# a cluster of this machine alone listens to it alone, and to nobody else on it
ALONE = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
ADDRESS, TOKEN, AUTH = "RAY_ADDRESS", "RAY_AUTH_TOKEN", "RAY_AUTH_MODE"
KEPT_TOKEN = ".ray/auth_token"  # nosec B105: a place
# a cluster of this machine, for this search; and seconds for others to answer
NEW, REACHED = "local", 10.0
# names of sockets have at most 107 letters, most of which Ray takes
SHORT = "/tmp"  # nosec B108: a folder of its own is made there
# bytes that actors and this process share: nothing large goes that way
SHARED = 128 * 2**20
# which folders are whose; they hold where a node has them too
HOMES = ("XDG_DATA_HOME", "XDG_CACHE_HOME", "HF_HOME", "HF_HUB_OFFLINE")


@dataclass(frozen=True)
class Opening:
    """All that a bench elsewhere has to know of a search.

    Attributes:
        asked: the request, for the kind of device that actors have.
        identity: digest of what the search measures.
        kept: of the study, what its samples refer to.
        surroundings: variables of the environment.
        threads: cores to compute with, 0 for all there are.
    """

    asked: dict[str, Any]
    identity: str
    kept: dict[str, Any]
    surroundings: dict[str, str]
    threads: int


@dataclass
class Kept:
    """What was kept with a study, where the study itself cannot be reached."""

    values: dict[str, Any]

    def attribute(self, name: str) -> Any:
        """Something kept, or None."""
        return self.values.get(name)

    def set_attribute(self, name: str, value: Any) -> None:
        """Keep something, for this process."""
        self.values[name] = value


class Bench:
    """A bench in a process of Ray's; what it cannot do it says in a sentence."""

    def __init__(self) -> None:
        self.pieces: Pieces | None = None

    def seat(self) -> Seat:
        """Where it is; meanwhile it imports what takes long."""
        from ray import get_runtime_context

        import_module("allocator.bench.pieces")
        here = get_runtime_context()
        shown = f"{os.getpid()} on {socket.gethostname()}"
        gpus = here.get_accelerator_ids().get("GPU", ())
        return Seat(here.get_node_id(), tuple(map(str, gpus)), shown)

    def open(self, opening: Opening) -> str:
        """Get ready for a search; says why that cannot be, or nothing."""
        os.environ.update(opening.surroundings)
        from allocator.bench.devices import use_threads
        from allocator.bench.prepare import prepare

        try:
            use_threads(opening.threads)
            setup = prepare(StudySpec.read(opening.asked))
            if setup.identity != opening.identity:
                return (
                    "its node has another model, other data or another version than "
                    "the one that leads"
                )
            kept: Any = Kept(opening.kept)
            self.pieces = pieces_of(setup, kept, Silent())
        except FAILURES as error:
            return reason(error)
        return ""

    def done(self, told: Sequence[Any]) -> dict[str, Any]:
        """What comes out of pieces, in order, or why nothing does."""
        assert self.pieces is not None
        return answer(self.pieces, told)


class Ray:
    """Starts actors on a cluster of Ray, or begins one of this machine."""

    def check(self, asked: StudySpec) -> None:
        """Refuse a search where Ray is not installed, or its cluster not there.

        Raises:
            SpecError: says which.
        """
        if find_spec("ray") is None:
            raise SpecError(f"engine {asked.engine} needs the package ray: {PIP}")
        address = address_of(asked)
        if address not in (NEW, "auto"):
            _reach(address)

    def source(self, setup: Setup, journal: Journal, watch: Watch) -> Source:
        """Begin as many actors as a cluster has room for, beside this process.

        Raises:
            SpecError: the cluster cannot be reached, has no room, or has accelerators
                where this process has none.
        """
        from allocator.bench.devices import threads

        end = connected(address_of(setup.asked))
        try:
            each, count, own = seats(setup, threads())
        except BaseException:
            end()
            raise
        import ray

        made = ray.remote(Bench).options(scheduling_strategy="SPREAD", **each)
        actors = Actors(
            made.remote,
            lambda: opening_of(setup, journal, threads()),
            own,
            watch,
            end,
        )
        actors.begin(count)
        return actors


def opening_of(setup: Setup, journal: Journal, threads: int) -> Opening:
    """What actors are told; nothing of the storage, which they do not reach."""
    from allocator.bench.references import kept_replies

    asked, kind = setup.asked.to_json(), setup.device.partition(":")[0]
    # the process of an actor begins in another folder; a hub's name is no file
    for name in ("model", "data"):
        if asked[name] is not None and Path(asked[name]).expanduser().exists():
            asked[name] = str(Path(asked[name]).expanduser().resolve())
    free = {"storage": None, "candidates": (), "engine": "none", "ray_address": None}
    told = {k: v for k, v in {**asked, **free, "device": kind}.items() if v is not None}
    homes = {name: os.environ[name] for name in HOMES if name in os.environ}
    kept = kept_replies(setup, journal)
    return Opening(told, setup.identity, kept, homes, threads if kind == "cpu" else 0)


def address_of(asked: StudySpec) -> str:
    """The cluster that is asked for, or that Ray's own variable names."""
    return asked.ray_address or os.environ.get(ADDRESS) or NEW


def _reach(address: str) -> None:
    """Refuse an address where nobody answers; Ray would try for minutes."""
    host, _, port = address.rpartition(":")
    if "/" in host or not host or not port.isdigit():
        raise SpecError(
            f"{address!r} is no address of a Ray cluster: it is auto, on a machine of "
            "the cluster, or host:port"
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), REACHED).close()
    except (OSError, OverflowError) as error:
        why = reason(error)
        raise SpecError(f"no Ray cluster answers at {address!r}: {why}") from error


def connected(address: str) -> Callable[[], object]:
    """Be connected to a cluster, or to a new one; returns what ends that.

    Raises:
        SpecError: it cannot be reached, or begun.
    """
    os.environ.update(QUIET)
    more: dict[str, Any] = {}
    if address == NEW:
        folder = TemporaryDirectory(
            prefix="allocate-ray-", dir=SHORT, ignore_cleanup_errors=True
        )
        more = {"_temp_dir": folder.name, "object_store_memory": SHARED}
        more |= {"include_dashboard": False}
        os.environ.update({**ALONE, AUTH: "token", TOKEN: token_hex(32)})
    elif TOKEN in os.environ or (Path.home() / KEPT_TOKEN).exists():
        # Ray's own rule for a cluster that begins, which it forgets where one connects
        os.environ.setdefault(AUTH, "token")
    import ray

    if ray.is_initialized():
        # by whoever runs this in a program of theirs
        return lambda: None

    def end() -> None:
        try:
            ray.shutdown()
        finally:
            # to the end, where a second Ctrl-C came in between
            ray.shutdown()
            if more:
                folder.cleanup()

    shown = "a Ray of this machine" if more else f"the Ray cluster at {address!r}"
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL}
    try:
        ray.init(address, **quiet, **more)
    except BaseException as error:
        end()
        if isinstance(error, Exception):
            raise SpecError(f"{shown} cannot be had: {reason(error)}") from error
        raise
    return end


def seats(setup: Setup, threads: int) -> tuple[dict[str, int], int, Seat]:
    """What an actor takes, how many there is room for, and where this process sits.

    This process is one of those that there is room for, if its node has any.

    Raises:
        SpecError: there is no room but for this process, or this process would compute
            otherwise than the cluster can.
    """
    import ray

    known: Any = ray
    nodes = [node for node in known.nodes() if node["Alive"]]
    rooms = {node["NodeID"]: node["Resources"] for node in nodes}
    gpus = int(sum(room.get("GPU", 0) for room in rooms.values()))
    if setup.device == "cpu" and setup.asked.device == "auto" and gpus:
        raise SpecError(
            f"the Ray cluster has {gpus} GPUs and this machine, which would lead, has "
            "none: GPUs compute in another type, so lead from a machine that has one, "
            "or give --device cpu"
        )
    on_cpu = setup.device.startswith("cpu")
    name, least = ("CPU", threads) if on_cpu else ("GPU", 1)
    counts = {node: int(room.get(name, 0) // least) for node, room in rooms.items()}
    here = ray.get_runtime_context().get_node_id()
    total = sum(counts.values())
    if total - min(1, counts.get(here, 0)) < 1:
        has = f"{int(sum(room.get(name, 0) for room in rooms.values()))} {name}s"
        how = f", of which each process takes {threads}: set OMP_NUM_THREADS to fewer"
        raise SpecError(
            f"Ray has {has} and no room for an actor beside this process"
            f"{how if on_cpu else ''}"
        )
    each = {"num_cpus": threads if on_cpu else 1, "num_gpus": 0 if on_cpu else 1}
    return each, total, Seat(here, () if on_cpu else (_own_gpu(setup.device),), "")


def _own_gpu(device: str) -> str:
    """This process's GPU, as Ray names it."""
    at = int(device.partition(":")[2] or 0)
    seen = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    return seen[at].strip() if at < len(seen) and seen[at] else str(at)


PLUGIN = Ray()
